"""Shapes: every rank, axes of size 0 and 1, sizes around vector lengths, and more than a block."""

import numpy as np

from .build import ALL, FLOATS, Draw, case, drawn_case, gradient, variable

_SMALL = {
    "rank0": {"x": ()},
    "rank1": {"x": (5,)},
    "rank2": {"x": (3, 4)},
    "rank3": {"x": (2, 3, 2)},
    "rank4": {"x": (2, 2, 1, 3)},
    "rank5": {"x": (1, 2, 2, 3, 2)},
    "rank6": {"x": (2, 1, 1, 2, 2, 3)},
    "largest-axes-first": {"x": (5, 4, 2), "y": (4, 5, 1, 2), "z": (3, 2, 4, 1)},
    "ones": {"a": (1,), "b": (1, 1), "c": (1, 5), "d": (5, 1), "e": (1, 1, 1), "f": (2, 1, 3)},
    "ones-inside": {"a": (3, 1, 1), "b": (1, 3, 1), "c": (2, 1, 2, 1), "d": (1, 1, 1, 1, 4)},
    "zeros-vector": {"a": (0,), "b": (3,)},
    "zeros-matrix": {"a": (0, 3), "b": (3, 0), "c": (0, 0), "d": (2, 2)},
    "zeros-rank3": {"a": (2, 0, 3), "b": (0, 2, 3), "c": (2, 3, 0), "d": (2,)},
}

# A vector length and its neighbours, as a length, as rows and as columns.
_LENGTHS = {
    7: [(7,), (7, 2), (2, 7)],
    8: [(8,), (8, 2), (2, 8), (8, 8)],
    9: [(9,), (9, 2), (2, 9), (3, 9, 2)],
    15: [(15,), (15, 2), (2, 15)],
    16: [(16,), (16, 3), (3, 16)],
    17: [(17,), (17, 3), (3, 17), (2, 17, 2)],
    31: [(31,), (31, 2), (2, 31)],
    33: [(33,), (33, 2), (2, 33)],
    63: [(63,), (63, 2), (2, 63)],
    64: [(64,), (64, 2), (2, 64)],
    65: [(65,), (65, 2), (2, 65), (2, 65, 2)],
    127: [(127,), (2, 127)],
    129: [(129,), (129, 2)],
    257: [(257,), (2, 257)],
}


def define():
    """Small shapes in all types, lengths and large ones in the wide types."""
    for name, shapes in _SMALL.items():
        for dtype in ALL:
            yield _case(name, dtype, shapes, 3)
    for length, shapes in _LENGTHS.items():
        named = {"x" + "x".join(map(str, shape)): shape for shape in shapes}
        for dtype in FLOATS if length < 100 else ("float32",):
            yield _case(f"length-{length:03}", dtype, named, 2)
    yield _matrix_257_129()
    yield _large("flat", (655_376,), 997)
    yield _large("rows", (1_026, 640), 3 * 640)
    yield _large("columns", (2, 16_400), 2 * 16_400, steps=1)
    yield _large("matrices", (60, 48, 48), 3 * 48 * 48)


def _case(name, dtype, shapes, count):
    return drawn_case(
        f"shapes-{name}",
        dtype,
        "Every element counts once, whatever the shape; an empty variable stays empty.",
        ["shape"],
        {"learning_rate": 0.3, "weight_decay": 0.05, "clipnorm": 1.5},
        shapes,
        count,
    )


def _matrix_257_129():
    identifier = "shapes-257-by-129-f32"
    draw = Draw(identifier)
    shape = (257, 129)
    return case(
        identifier,
        "float32",
        "Both axes are one above a power of two.",
        ["shape", "block"],
        {"learning_rate": 0.3, "weight_decay": 0.05},
        [variable("float32", "x", draw.short(shape))],
        [{"gradients": [gradient("float32", draw.short(shape))]} for _ in range(2)],
    )


def _large(name, shape, period, steps=2):
    """A pattern whose period divides no likely block, so that every block differs; repeated, but
    for short rows.

    The squares of short gradients add up without rounding: tf.keras's own sum over a thousand rows
    of anything else is off by 25 eps.
    """
    identifier = f"shapes-large-{name}-f32"
    draw = Draw(identifier)

    def tiled():
        return np.resize(draw.short((period,)), shape)

    return case(
        identifier,
        "float32",
        "Larger than any block that an implementation may work in.",
        ["shape", "block"],
        {"learning_rate": 0.3, "weight_decay": 0.05, "clip_threshold": 0.8},
        [variable("float32", "x", tiled())],
        [{"gradients": [gradient("float32", tiled())]} for _ in range(steps)],
    )
