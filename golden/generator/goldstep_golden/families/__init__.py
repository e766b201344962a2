"""The golden families: pure descriptions of inputs, no TensorFlow."""

from functools import lru_cache

from ..other import OtherOracle
from . import (
    arguments,
    constraints,
    ema,
    errors,
    exclusion,
    grid_inputs,
    known,
    lists,
    long,
    missing,
    schedules,
    shapes,
    sparse,
    values,
)
from .base import CasesFamily, GridFamily, TwoOraclesFamily

SEED = grid_inputs.SEED

_CASES = [
    (
        "arguments",
        arguments,
        "An argument at the edge of its range, one that does nothing, or one that is rounded on "
        "the wrong way: a rate or epsilon_2 that skips float32, a clip of 0 that clips to 0.",
    ),
    (
        "constraints",
        constraints,
        "A constraint that runs before the average, before the update, or on a variable "
        "without a gradient.",
    ),
    (
        "ema",
        ema,
        "An average that starts at 0, sees the wrong value, swaps m and 1 - m, or overwrites at "
        "the wrong step.",
    ),
    ("errors", errors, "Nonsense that is accepted, or refused at a later stage than in Keras."),
    (
        "exclusion",
        exclusion,
        "A pattern that must match the whole name, only its start, or is taken literally.",
    ),
    (
        "lists",
        lists,
        "States that are paired with the wrong variable, a norm over a part of the list.",
    ),
    (
        "long",
        long,
        "A step counter that is reset, rounded or counts per variable; a power that drifts.",
    ),
    (
        "missing",
        missing,
        "A variable without a gradient that is decayed, averaged or counted; a step that is "
        "not counted.",
    ),
    (
        "schedules",
        schedules,
        "A schedule at iterations + 1, a wrong boundary or staircase, an assigned rate that is "
        "forgotten or restarts the schedule.",
    ),
    (
        "shapes",
        shapes,
        "The wrong axes factored, a tail of a block dropped, a mean per block, axes of size 0 "
        "or 1.",
    ),
    (
        "sparse",
        sparse,
        "Duplicates that overwrite, clips after the sum, rows outside the indices left alone.",
    ),
    (
        "values",
        values,
        "NaN where Keras has none or none where it has one; subnormal numbers that are kept.",
    ),
]


@lru_cache(maxsize=None)
def registry():
    """Every family by id."""
    families = [
        GridFamily(
            "grid-f32",
            "float32",
            "Every combination of the constructor's arguments: an argument that is ignored, "
            "swapped, applied twice, at the wrong place or at the wrong step.",
        ),
        GridFamily(
            "grid-f64",
            "float64",
            "Any four values of arguments: a learning rate, epsilon_2 or weight decay that does "
            "not pass through float32, which float32 itself cannot show.",
            strength=4,
        ),
        GridFamily(
            "grid-f16",
            "float16",
            "Any four values of arguments: arithmetic that is not rounded operation by "
            "operation, and what becomes of epsilon_1 below the smallest half.",
            strength=4,
        ),
        GridFamily(
            "grid-bf16",
            "bfloat16",
            "Any four values of arguments: arithmetic that is not rounded operation by "
            "operation, arguments that are not rounded to eight bits.",
            strength=4,
        ),
        TwoOraclesFamily(
            "known-differences",
            "An implementation of 2.12.1's mistake where it claims the intention, or the other "
            "way round: averages paired by position when a gradient is missing.",
            known.define,
            "keras-2.12.1",
            OtherOracle(),
        ),
    ]
    families += [CasesFamily(name, purpose, module.define) for name, module, purpose in _CASES]
    return {family.id: family for family in families}
