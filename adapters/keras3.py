"""Keras 3's Adafactor on the JAX backend."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

import keras  # noqa: E402
import numpy as np  # noqa: E402

from goldstep_adapter import Optimizer, Rows, Step, capabilities, serve  # noqa: E402

# jit_compile, which tf.keras ignores on a CPU, is refused here and therefore not handed on.
ARGUMENTS = """
    learning_rate beta_2_decay epsilon_1 epsilon_2 clip_threshold relative_step weight_decay
    clipnorm clipvalue global_clipnorm use_ema ema_momentum ema_overwrite_frequency name
"""
SCHEDULES = """
    ExponentialDecay PiecewiseConstantDecay PolynomialDecay InverseTimeDecay CosineDecay
    CosineDecayRestarts
"""


class Keras3(Optimizer):
    """`keras.optimizers.Adafactor`."""

    def build(self, dtype, arguments, exclude, variables):
        self.variables = [self._variable(variable, dtype) for variable in variables]
        arguments = {name: _argument(name, value) for name, value in arguments.items()}
        arguments.pop("jit_compile", None)
        self.optimizer = keras.optimizers.Adafactor(**arguments)
        if exclude:
            self.optimizer.exclude_from_weight_decay(var_names=exclude)
        self.optimizer.build(self.variables)

    def set_state(self, iterations, variables, r, c, v, ema):
        optimizer = self.optimizer
        optimizer.iterations.assign(iterations)
        averages = optimizer._model_variables_moving_average if optimizer.use_ema else []
        for slots, values in (
            (self.variables, variables),
            (optimizer._r, r),
            (optimizer._c, c),
            (optimizer._v, v),
            (averages, ema),
        ):
            for slot, value in zip(slots, values):
                if value is not None and tuple(slot.shape) == value.shape:
                    slot.assign(value)

    def step(self, learning_rate, gradients):
        if learning_rate is not None:
            self.optimizer.learning_rate = _argument("learning_rate", learning_rate)
        optimizer = self.optimizer
        # The property tells the rate of the next step.
        used = float(np.asarray(optimizer.learning_rate))
        pairs = zip(gradients, self.variables)
        dense = [_dense(gradient, variable) for gradient, variable in pairs]
        optimizer.apply(dense, self.variables)
        averages = _arrays(optimizer._model_variables_moving_average) if optimizer.use_ema else None
        return Step(
            int(np.asarray(optimizer.iterations.value)),
            used,
            _arrays(self.variables),
            self._factors(optimizer._r),
            self._factors(optimizer._c),
            _arrays(optimizer._v),
            averages,
        )

    def finalize(self):
        self.optimizer.finalize_variable_values(self.variables)
        return _arrays(self.variables)

    def _variable(self, variable, dtype):
        own = keras.Variable(variable.initial, dtype=dtype, name=variable.name.replace("/", "_"))
        own.constraint = _constraint(variable.constraint)
        return own

    def _factors(self, slots):
        pairs = zip(slots, self.variables)
        return [_array(slot) if len(variable.shape) >= 2 else None for slot, variable in pairs]


def _dense(gradient, variable):
    if isinstance(gradient, Rows):
        gradient = gradient.dense(tuple(variable.shape))
    return None if gradient is None else keras.ops.convert_to_tensor(gradient, variable.dtype)


def _array(variable):
    return np.asarray(keras.ops.cast(variable.value, "float64"))


def _arrays(variables):
    return [_array(variable) for variable in variables]


def _argument(name, value):
    if isinstance(value, dict):
        config = {key: _config_value(key, item) for key, item in value["config"].items()}
        return getattr(keras.optimizers.schedules, value["class_name"])(**config)
    if name in ("ema_overwrite_frequency", "name") or isinstance(value, (bool, str)):
        return value
    return None if value is None else float(value)


def _config_value(key, value):
    steps = key in ("decay_steps", "first_decay_steps", "boundaries")
    if isinstance(value, list) and not steps:
        return [float(item) for item in value]
    if steps or isinstance(value, (bool, str)) or value is None:
        return value
    return float(value)


def _constraint(constraint):
    if constraint is None:
        return None
    if constraint["type"] == "non_negative":
        return keras.constraints.NonNeg()
    ends = (constraint["minimum"], constraint["maximum"])
    low, high = (float(str(end).replace("Infinity", "inf")) for end in ends)
    return lambda value: keras.ops.clip(value, low, high)


if __name__ == "__main__":
    announced = capabilities(
        dtypes=["float64", "float32", "bfloat16", "float16"],
        arguments=[*ARGUMENTS.split(), "jit_compile"],
        schedules=SCHEDULES.split(),
        sparse=True,
        ema=True,
        constraints=True,
        exclude=True,
        set_learning_rate=True,
        finalize=True,
        states=["r", "c", "v", "ema"],
        set_state=True,
    )
    source = "https://pypi.org/project/keras/"
    serve(Keras3(), "keras", keras.__version__, source, announced)
