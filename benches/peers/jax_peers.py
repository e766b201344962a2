"""Optimizers on jax: `python jax_peers.py optax|keras3 THREADS`.

The number of threads is that of the processors that the process may run on.
"""

import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["KERAS_BACKEND"] = "jax"

import jax
from contestant import GRADIENT, LEARNING_RATE, PARAMETER, arrays, change, serve


class Contestant:
    """Parameters and state are donated to each step, as in a training loop."""

    def prepare(self, shapes):
        self.apply = self.parameters = self.gradients = self.state = None
        self.parameters = [jax.numpy.array(p) for p in arrays(PARAMETER, shapes)]
        self.gradients = [jax.numpy.array(g) for g in arrays(GRADIENT, shapes)]
        jax.block_until_ready((self.parameters, self.gradients))

    def step(self, count):
        for _ in range(count):
            self.parameters, self.state = self.apply(self.parameters, self.state, self.gradients)
        jax.block_until_ready((self.parameters, self.state))

    def facts(self):
        state = sum(leaf.nbytes for leaf in jax.tree.leaves(self.state) if hasattr(leaf, "nbytes"))
        moved = change(jax.device_get(p.reshape(-1)[:65536]) for p in self.parameters)
        return {"state_bytes": state, "change": moved}


class Optax(Contestant):
    def build(self):
        import optax

        transformation = optax.adafactor(learning_rate=LEARNING_RATE)

        def apply(parameters, state, gradients):
            updates, state = transformation.update(gradients, state, parameters)
            return optax.apply_updates(parameters, updates), state

        self.state = jax.jit(transformation.init)(self.parameters)
        self.apply = jax.jit(apply, donate_argnums=(0, 1))
        jax.block_until_ready(self.state)


class Keras3(Contestant):
    def build(self):
        import keras

        optimizer = keras.optimizers.Adafactor(learning_rate=LEARNING_RATE)
        optimizer.build([keras.Variable(p) for p in self.parameters])
        self.state = [variable.value for variable in optimizer.variables]

        def apply(parameters, state, gradients):
            return optimizer.stateless_apply(state, gradients, parameters)

        self.apply = jax.jit(apply, donate_argnums=(0, 1))


def main():
    mode = sys.argv[1]
    versions = {"jax": jax.__version__}
    if mode == "optax":
        import optax

        versions["optax"] = optax.__version__
        serve(Optax(), mode, versions)
    else:
        import keras

        versions["keras"] = keras.__version__
        serve(Keras3(), mode, versions)


main()
