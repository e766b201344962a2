"""optax.adafactor, one transformation for each variable.

`--settings closest` factors from size 0 on and follows Keras's rate min(learning_rate, 1/√t);
`--settings defaults` factors from size 128 on and takes the rate as it is.
"""

import argparse

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from goldstep_adapter import Optimizer, Step, capabilities, serve  # noqa: E402

ARGUMENTS = """
    learning_rate beta_2_decay epsilon_1 epsilon_2 clip_threshold relative_step weight_decay
    jit_compile name
"""


class Optax(Optimizer):
    """Independent transformations, so that a variable without a gradient is left alone."""

    def __init__(self, settings):
        self.settings = settings

    def build(self, dtype, arguments, exclude, variables):
        rate = arguments.get("learning_rate", 0.001)
        self.learning_rate = rate
        schedule = rate
        if self.settings == "closest":

            def schedule(count):
                return jnp.minimum(rate, 1 / jnp.sqrt(count + 1.0))

        self.transformation = optax.adafactor(
            schedule,
            min_dim_size_to_factor=0 if self.settings == "closest" else 128,
            decay_rate=-arguments.get("beta_2_decay", -0.8),
            clipping_threshold=arguments.get("clip_threshold", 1.0),
            weight_decay_rate=self._weight_decay(arguments.get("weight_decay"), rate),
            eps=arguments.get("epsilon_1", 1e-30),
        )
        self.dtype = jnp.dtype(dtype)
        self.variables = [
            jnp.asarray(variable.initial).astype(self.dtype) for variable in variables
        ]
        self.states = [self.transformation.init(x) for x in self.variables]
        self.iterations = 0

    def step(self, learning_rate, gradients):
        for index, gradient in enumerate(gradients):
            if gradient is None:
                continue
            x = self.variables[index]
            gradient = jnp.asarray(gradient).astype(self.dtype)
            update, self.states[index] = self.transformation.update(gradient, self.states[index], x)
            self.variables[index] = optax.apply_updates(x, update)
        self.iterations += 1
        variables = [np.asarray(x.astype(jnp.float64)) for x in self.variables]
        return Step(self.iterations, np.float32(self.learning_rate), variables)

    def _weight_decay(self, weight_decay, rate):
        """Optax's decay is not multiplied by the rate."""
        if weight_decay is None:
            return None
        return weight_decay * rate if self.settings == "closest" else weight_decay


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", choices=["closest", "defaults"], default="closest")
    settings = parser.parse_args().settings
    announced = capabilities(
        dtypes=["float64", "float32", "bfloat16", "float16"],
        # Its floor of the parameter scale is fixed at 0.001: no epsilon_2.
        arguments=[name for name in ARGUMENTS.split() if name != "epsilon_2"],
    )
    source = "https://pypi.org/project/optax/"
    serve(Optax(settings), f"optax ({settings})", optax.__version__, source, announced)
