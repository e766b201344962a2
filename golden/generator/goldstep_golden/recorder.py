"""Runs tf.keras's Adafactor and notes its state after each step: all that needs TensorFlow."""

import logging
import os

import numpy as np

from .numbers import Tensor

# Set before TensorFlow is imported: the plain Eigen kernels, no GPU, no chatter.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
logging.disable(logging.WARNING)

import tensorflow as tf  # noqa: E402

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.get_logger().setLevel("ERROR")


class Refusal(Exception):
    """tf.keras raised: the stage, the step's index, the class name of its error, the message."""

    def __init__(self, stage, step, error):
        super().__init__(str(error))
        self.stage = stage
        self.step = step
        self.type = type(error).__name__
        self.message = str(error)

    def to_record(self):
        """The `expected_error` of a case."""
        record = {"stage": self.stage}
        if self.step is not None:
            record["step"] = self.step
        return {**record, "type": self.type, "message": self.message}


class State:
    """Everything that a step leaves behind. Lists hold one tensor a variable."""

    __slots__ = ("variables", "r", "c", "v", "ema", "iterations", "learning_rate")

    def to_record(self):
        """The `expected` of a step."""
        return {name: getattr(self, name) for name in self.__slots__}


class Run:
    """One optimizer with its variables, driven step by step."""

    def __init__(self, case):
        self.dtype = case["dtype"]
        self.variables = [self._variable(spec) for spec in case["variables"]]
        try:
            self.optimizer = _optimizer(case["arguments"])
            patterns = case.get("exclude_from_weight_decay")
            if patterns is not None:
                self.optimizer.exclude_from_weight_decay(var_names=patterns)
        except Exception as error:
            raise Refusal("construct", None, error) from error

    def _variable(self, spec):
        return tf.Variable(
            spec["initial"].array(),
            dtype=self.dtype,
            name=spec["name"],
            constraint=_constraint(spec["constraint"]),
        )

    def step(self, index, step):
        """Applies one step of a case and returns the state after it."""
        gradients = [
            self._gradient(gradient, variable)
            for gradient, variable in zip(step["gradients"], self.variables)
        ]
        try:
            if step.get("learning_rate") is not None:
                self.optimizer.learning_rate = _learning_rate(step["learning_rate"])
            self.optimizer.apply_gradients(zip(gradients, self.variables))
        except Exception as error:
            raise Refusal("step", index, error) from error
        return self._state()

    def finalize(self):
        """The variables after `finalize_variable_values`."""
        self.optimizer.finalize_variable_values(self.variables)
        return [self._tensor(variable) for variable in self.variables]

    def _gradient(self, gradient, variable):
        if gradient is None:
            return None
        if isinstance(gradient, Tensor):
            return tf.constant(gradient.array(), dtype=self.dtype)
        return tf.IndexedSlices(
            values=tf.constant(gradient["values"].array(), dtype=self.dtype),
            indices=tf.constant(gradient["indices"], dtype=tf.int64),
            dense_shape=tf.constant(variable.shape.as_list(), dtype=tf.int64),
        )

    def _state(self):
        optimizer = self.optimizer
        state = State()
        state.variables = [self._tensor(variable) for variable in self.variables]
        state.r = self._factors(optimizer._r)
        state.c = self._factors(optimizer._c)
        state.v = [self._tensor(variable) for variable in optimizer._v]
        state.ema = None
        if optimizer.use_ema:
            averages = optimizer._model_variables_moving_average
            state.ema = [self._tensor(variable) for variable in averages]
        state.iterations = int(optimizer.iterations.numpy())
        state.learning_rate = np.float32(optimizer.learning_rate.numpy())
        return state

    def _factors(self, slots):
        """Keras keeps an integer 0 in the place of the factors of a variable below rank 2."""
        return [
            self._tensor(slot) if variable.shape.rank >= 2 else None
            for slot, variable in zip(slots, self.variables)
        ]

    def _tensor(self, variable):
        return Tensor(self.dtype, variable.shape, variable.numpy())


def _optimizer(arguments):
    arguments = dict(arguments)
    if "learning_rate" in arguments:
        arguments["learning_rate"] = _learning_rate(arguments["learning_rate"])
    return tf.keras.optimizers.experimental.Adafactor(**arguments)


def _learning_rate(value):
    """A number as it is; `{"class_name", "config"}` as the schedule of that class."""
    if not isinstance(value, dict):
        return value
    return getattr(tf.keras.optimizers.schedules, value["class_name"])(**value["config"])


def _constraint(spec):
    if spec is None:
        return None
    if spec["type"] == "non_negative":
        # What tf.keras.constraints.NonNeg computes; that class knows float32 only.
        return lambda value: value * tf.cast(value >= 0, value.dtype)
    return lambda value: tf.clip_by_value(value, spec["minimum"], spec["maximum"])
