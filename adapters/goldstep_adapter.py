"""The adapter protocol goldstep-adapter/1 for Python with NumPy: a loop, and tensors in both forms.

An adapter subclasses `Optimizer`, describes itself, and calls `serve`.
"""

import base64
import json
import os
import sys

import numpy as np


class Skip(Exception):
    """This case needs something that the implementation does not do."""


class Refusal(Exception):
    """The implementation raised; `stage` is construct or step."""

    def __init__(self, stage, error):
        super().__init__(str(error))
        self.stage = stage
        self.kind = type(error).__name__


class Variable:
    """Name, shape, initial value (an array of that shape) and constraint of a variable."""

    def __init__(self, name, shape, initial, constraint):
        self.name = name
        self.shape = tuple(shape)
        self.initial = initial
        self.constraint = constraint


class Rows:
    """A gradient of some rows; duplicates add up, negative indices are dropped."""

    def __init__(self, indices, values):
        self.indices = np.asarray(indices, np.int64)
        self.values = values

    def dense(self, shape):
        """The whole gradient."""
        total = np.zeros(shape, self.values.dtype)
        kept = self.indices >= 0
        np.add.at(total, self.indices[kept], self.values[kept])
        return total


def number(value):
    """A JSON number; the non-finite ones are strings."""
    return float(value.replace("Infinity", "inf")) if isinstance(value, str) else value


def scalar(value):
    """A number as JSON has it."""
    value = float(value)
    if np.isfinite(value):
        return value
    return "NaN" if np.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


class Tensors:
    """Reads and writes the tensors of one element type.

    float16 and bfloat16 are carried by float32 arrays, in which they are exact.
    """

    def __init__(self, dtype):
        self.dtype = dtype
        self.carrier = np.float64 if dtype == "float64" else np.float32
        self.base64 = False

    def read(self, values, shape):
        """An array of that shape in the carrier type; None for null."""
        if values is None:
            return None
        if isinstance(values, str):
            self.base64 = True
            raw = base64.b64decode(values)
            if self.dtype == "bfloat16":
                flat = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
            else:
                flat = np.frombuffer(raw, np.dtype(self.dtype).newbyteorder("<"))
            return flat.astype(self.carrier).reshape(shape)
        return np.array([number(value) for value in values], self.carrier).reshape(shape)

    def write(self, array):
        """JSON of an array, or None."""
        if array is None:
            return None
        flat = np.asarray(array).astype(self.carrier).reshape(-1)
        if not self.base64:
            return [scalar(value) for value in flat]
        if self.dtype == "bfloat16":
            bits = flat.view(np.uint32)
            nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
            quiet = (bits >> 16) | 0x40
            raw = np.where(np.isnan(flat), quiet, nearest).astype("<u2").tobytes()
        else:
            raw = flat.astype(np.dtype(self.dtype).newbyteorder("<")).tobytes()
        return base64.b64encode(raw).decode()


class Step:
    """What a step returns: arrays by variable, None where there is nothing."""

    def __init__(self, iterations, learning_rate, variables, r=None, c=None, v=None, ema=None):
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.lists = {"variables": variables, "r": r, "c": c, "v": v, "ema": ema}


class Optimizer:
    """What an adapter implements. Any exception is a refusal, but for `Skip`."""

    def build(self, dtype, arguments, exclude, variables):
        """Replaces the optimizer of the case before."""
        raise NotImplementedError

    def set_state(self, iterations, variables, r, c, v, ema):
        """Replaces iterations, variables and states; each a list by variable."""
        raise Skip("set_state")

    def step(self, learning_rate, gradients):
        """Applies gradients (arrays, `Rows` or None) and returns a `Step`."""
        raise NotImplementedError

    def finalize(self):
        """Sets the variables to their averages and returns them."""
        raise Skip("finalize")


def capabilities(**announced):
    """All fields of the capabilities; what is not announced is not there."""
    nothing = {
        "dtypes": ["float32"],
        "arguments": ["learning_rate"],
        "schedules": [],
        "sparse": False,
        "ema": False,
        "constraints": False,
        "exclude": False,
        "set_learning_rate": False,
        "finalize": False,
        "states": [],
        "set_state": False,
        "intermediates": [],
        "base64": True,
        "expectation": "goldstep",
    }
    unknown = set(announced) - set(nothing)
    if unknown:
        raise ValueError(f"capabilities must be known ones, got {sorted(unknown)}")
    return {**nothing, **announced}


class _Server:
    def __init__(self, optimizer, description):
        self.optimizer = optimizer
        self.description = description
        self.tensors = None
        self.variables = None

    def answer(self, message):
        command = message["command"]
        if command == "start":
            return self.description
        answer = {"seq": message["seq"]}
        try:
            fields = getattr(self, command)(message)
        except Skip as skip:
            return {**answer, "skip": str(skip)}
        except Exception as error:
            stage = "construct" if command == "build" else "step"
            kind = type(error).__name__
            return {**answer, "error": {"stage": stage, "type": kind, "message": str(error)}}
        return {**answer, **(fields or {})}

    def build(self, message):
        self.tensors = Tensors(message["dtype"])
        self.variables = [
            Variable(
                variable["name"],
                variable["shape"],
                self.tensors.read(variable["initial"], variable["shape"]),
                variable["constraint"],
            )
            for variable in message["variables"]
        ]
        exclude = message["exclude_from_weight_decay"]
        arguments = {name: _argument(value) for name, value in message["arguments"].items()}
        self.optimizer.build(message["dtype"], arguments, exclude, self.variables)

    def set_state(self, message):
        def read(field, shape_of):
            values = message[field]
            if values is None:
                return [None] * len(self.variables)
            pairs = zip(values, self.variables)
            return [self.tensors.read(one, shape_of(variable.shape)) for one, variable in pairs]

        self.optimizer.set_state(
            message["iterations"],
            read("variables", lambda shape: shape),
            read("r", lambda shape: shape[:-1]),
            read("c", lambda shape: shape[:-2] + shape[-1:]),
            read("v", lambda shape: shape),
            read("ema", lambda shape: shape),
        )

    def step(self, message):
        pairs = zip(message["gradients"], self.variables)
        gradients = [self._gradient(gradient, variable) for gradient, variable in pairs]
        step = self.optimizer.step(message["learning_rate"], gradients)
        fields = {
            "iterations": int(step.iterations),
            "learning_rate": scalar(step.learning_rate),
        }
        for name, arrays in step.lists.items():
            if name in message["want"]:
                arrays = arrays if arrays is not None else [None] * len(self.variables)
                fields[name] = [self.tensors.write(array) for array in arrays]
        return fields

    def finalize(self, _message):
        variables = self.optimizer.finalize()
        return {"variables": [self.tensors.write(array) for array in variables]}

    def _gradient(self, gradient, variable):
        if isinstance(gradient, dict):
            shape = (len(gradient["indices"]), *variable.shape[1:])
            return Rows(gradient["indices"], self.tensors.read(gradient["values"], shape))
        flat = self.tensors.read(gradient, (-1,))
        # Of another length than the variable: the optimizer's to refuse.
        fits = flat is not None and flat.size == int(np.prod(variable.shape))
        return flat.reshape(variable.shape) if fits else flat


def _argument(value):
    return number(value) if value in ("NaN", "Infinity", "-Infinity") else value


def serve(optimizer, name, version, source, announced):
    """Answers messages until `stop` or the end of the input."""
    implementation = {"name": name, "version": version, "language": "Python", "source": source}
    server = _Server(optimizer, {"implementation": implementation, "capabilities": announced})
    # Libraries print where they like: standard output is for answers alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        message = json.loads(line)
        if message["command"] == "stop":
            break
        answers.write(json.dumps(server.answer(message), allow_nan=False) + "\n")
        answers.flush()
    # Without the seconds that large libraries take to tear themselves down.
    os._exit(0)
