"""The golden families: pure descriptions of inputs, no TensorFlow."""

from functools import lru_cache

from . import grid_inputs
from .base import GridFamily

SEED = grid_inputs.SEED


@lru_cache(maxsize=None)
def registry():
    """Every family by id."""
    families = [
        GridFamily(
            "grid-f32",
            "float32",
            "Every combination of the constructor's arguments: an argument that is ignored, "
            "swapped, applied twice, at the wrong place or at the wrong step.",
            grid_inputs,
        ),
    ]
    return {family.id: family for family in families}
