"""Element types, canonical decimals and the JSON of a record.

A tensor is kept as a float32 or float64 array whose values are exact in its type; float16 and
bfloat16 tensors are float32 arrays. golden/README.md describes the canonical decimal of a value.
"""

import hashlib
import json
import math

import numpy as np

TILED_FROM = 100_000


class ElementType:
    """float64, float32, float16 or bfloat16, with the array type that carries its values."""

    def __init__(self, name, carrier):
        self.name = name
        self.carrier = np.dtype(carrier)

    def round(self, values):
        """The nearest values of this type (ties to even), in the carrier; NaN is the quiet NaN."""
        if self.name == "bfloat16":
            return _round_to_bfloat16(np.asarray(values, np.float32))
        with np.errstate(over="ignore"):
            rounded = np.asarray(values).astype(self.name).astype(self.carrier)
        return np.where(np.isnan(rounded), self.carrier.type(np.nan), rounded)

    def to_bytes(self, values):
        """The little-endian bytes of the values in this type."""
        carried = np.ascontiguousarray(values, self.carrier)
        if self.name == "bfloat16":
            return (carried.view("<u4") >> 16).astype("<u2").tobytes()
        return carried.astype(np.dtype(self.name).newbyteorder("<")).tobytes()


def _round_to_bfloat16(values):
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    quiet_nan = np.uint32(0x7FC00000)
    return np.where(np.isnan(values), quiet_nan, rounded).astype(np.uint32).view(np.float32)


ELEMENT_TYPES = {
    "float64": ElementType("float64", np.float64),
    "float32": ElementType("float32", np.float32),
    "float16": ElementType("float16", np.float32),
    "bfloat16": ElementType("bfloat16", np.float32),
}


class Tensor:
    """A shape and its flat, row-major values in an element type."""

    __slots__ = ("dtype", "shape", "values")

    def __init__(self, dtype, shape, values):
        self.dtype = dtype
        self.shape = tuple(int(size) for size in shape)
        element_type = ELEMENT_TYPES[dtype]
        self.values = element_type.round(np.asarray(values).reshape(-1))
        if self.values.size != math.prod(self.shape):
            raise ValueError(f"shape {self.shape} wants another count than {self.values.size}")

    def to_bytes(self):
        """The little-endian bytes of the values."""
        return ELEMENT_TYPES[self.dtype].to_bytes(self.values)

    def array(self):
        """The values in their shape, in the carrier type."""
        return self.values.reshape(self.shape)

    def to_json(self):
        """The flat list, or `{"tiled": [...]}` for one that is too large to be listed."""
        if self.values.size < TILED_FROM:
            return _decimals(self.values)
        return f'{{"tiled":{_decimals(self.values[: self._period()])}}}'

    def _period(self):
        """The length of the part that, repeated, makes up the whole."""
        bits = self.values.view(f"u{self.values.itemsize}")
        start = bits[:64]
        for period in np.flatnonzero(bits[: bits.size // 16] == bits[0])[1:]:
            if np.array_equal(bits[period : period + 64], start):
                if np.array_equal(bits[period:], bits[:-period]):
                    return int(period)
        raise ValueError(f"a tensor of {bits.size} values must be periodic to be recorded")


def _decimals(values):
    return "[" + ",".join(map(decimal, values)) + "]"


def decimal(value):
    """The canonical JSON of one float: see golden/README.md, "Numbers"."""
    if np.isnan(value):
        return '"NaN"'
    if np.isinf(value):
        return '"Infinity"' if value > 0 else '"-Infinity"'
    if value == 0:
        return "-0.0" if np.signbit(value) else "0"
    positional = np.format_float_positional(value, unique=True, trim="-")
    exponent = np.format_float_scientific(value, unique=True, trim="-", exp_digits=1)
    exponent = exponent.replace("e+", "e")
    return positional if len(positional) <= len(exponent) else exponent


def to_json(value):
    """Compact JSON: keys in the order given, floats in their canonical decimal."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{to_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(to_json(item) for item in value) + "]"
    if isinstance(value, Tensor):
        return value.to_json()
    if isinstance(value, (float, np.floating)):
        return decimal(value)
    return json.dumps(value, ensure_ascii=False)


def sha256(data):
    """The hexadecimal sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()
