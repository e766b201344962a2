"""tf.keras 2.12 to 2.15: the very optimizer that the goldens were recorded from."""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from goldstep_adapter import Optimizer, Rows, Step, capabilities, serve  # noqa: E402

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.get_logger().setLevel("ERROR")

SCHEDULES = tf.keras.optimizers.schedules
ARGUMENTS = """
    learning_rate beta_2_decay epsilon_1 epsilon_2 clip_threshold relative_step weight_decay
    clipnorm clipvalue global_clipnorm use_ema ema_momentum ema_overwrite_frequency jit_compile name
"""
WHOLE = ("ema_overwrite_frequency", "name")


class Keras(Optimizer):
    """`tf.keras.optimizers.experimental.Adafactor`, or `tf.keras.optimizers.Adafactor` later."""

    def build(self, dtype, arguments, exclude, variables):
        self.dtype = dtype
        self.variables = [self._variable(variable) for variable in variables]
        arguments = {name: self._argument(name, value) for name, value in arguments.items()}
        place = tf.keras.optimizers
        place = place if hasattr(place, "Adafactor") else place.experimental
        self.optimizer = place.Adafactor(**arguments)
        if exclude:
            self.optimizer.exclude_from_weight_decay(var_names=exclude)

    def set_state(self, iterations, variables, r, c, v, ema):
        optimizer = self.optimizer
        if not getattr(optimizer, "_r", None):
            optimizer.build(self.variables)
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
                # Keras keeps an integer 0 in the place of the factors of a vector, and the full
                # moment of a matrix is never read.
                if value is not None and slot.shape == value.shape:
                    slot.assign(tf.cast(value, slot.dtype))

    def step(self, learning_rate, gradients):
        if learning_rate is not None:
            self.optimizer.learning_rate = self._argument("learning_rate", learning_rate)
        pairs = zip(gradients, self.variables)
        gradients = [self._gradient(gradient, variable) for gradient, variable in pairs]
        self.optimizer.apply_gradients(zip(gradients, self.variables))
        optimizer = self.optimizer
        averages = None
        if optimizer.use_ema:
            averages = _arrays(optimizer._model_variables_moving_average)
        return Step(
            int(optimizer.iterations.numpy()),
            optimizer.learning_rate.numpy(),
            _arrays(self.variables),
            self._factors(optimizer._r),
            self._factors(optimizer._c),
            _arrays(optimizer._v),
            averages,
        )

    def finalize(self):
        self.optimizer.finalize_variable_values(self.variables)
        return _arrays(self.variables)

    def _variable(self, variable):
        initial = tf.cast(variable.initial, self.dtype)
        constraint = _constraint(variable.constraint)
        return tf.Variable(initial, name=variable.name, constraint=constraint)

    def _argument(self, name, value):
        if isinstance(value, dict):
            config = {key: _config_value(key, item) for key, item in value["config"].items()}
            return getattr(SCHEDULES, value["class_name"])(**config)
        return (
            value
            if name in WHOLE or isinstance(value, (bool, str)) or value is None
            else float(value)
        )

    def _gradient(self, gradient, variable):
        if gradient is None:
            return None
        if isinstance(gradient, Rows):
            return tf.IndexedSlices(
                values=tf.cast(gradient.values, self.dtype),
                indices=tf.constant(gradient.indices, tf.int64),
                dense_shape=tf.constant(variable.shape.as_list(), tf.int64),
            )
        return tf.cast(gradient, self.dtype)

    def _factors(self, slots):
        pairs = zip(slots, self.variables)
        return [_array(slot) if variable.shape.rank >= 2 else None for slot, variable in pairs]


def _array(variable):
    return np.asarray(variable.numpy()).astype(np.float64)


def _arrays(variables):
    return [_array(variable) for variable in variables]


def _config_value(key, value):
    """JSON does not tell 1 from 1.0; Keras does in places."""
    if isinstance(value, list):
        return [_config_value(key, item) for item in value]
    steps = key in ("decay_steps", "first_decay_steps", "boundaries")
    if steps or isinstance(value, (bool, str)) or value is None:
        return value
    return float(value)


def _constraint(constraint):
    if constraint is None:
        return None
    if constraint["type"] == "non_negative":
        # What tf.keras.constraints.NonNeg computes; that class knows float32 only.
        return lambda value: value * tf.cast(tf.greater_equal(value, 0), value.dtype)
    low, high = (
        float(str(constraint[end]).replace("Infinity", "inf")) for end in ("minimum", "maximum")
    )
    return lambda value: tf.clip_by_value(value, low, high)


if __name__ == "__main__":
    version = tf.__version__
    announced = capabilities(
        dtypes=["float64", "float32", "bfloat16", "float16"],
        arguments=ARGUMENTS.split(),
        schedules=[
            name for name in dir(SCHEDULES) if name[0].isupper() and name != "LearningRateSchedule"
        ],
        sparse=True,
        ema=True,
        constraints=True,
        exclude=True,
        set_learning_rate=True,
        finalize=True,
        states=["r", "c", "v", "ema"],
        set_state=True,
        expectation=f"keras-{version}" if version == "2.12.1" else "goldstep",
    )
    serve(Keras(), "tf.keras", version, "https://pypi.org/project/tensorflow/", announced)
