"""Exponential moving averages of the variables: momentum, overwriting, finalizing."""

from .build import ALL, FLOATS, drawn_case, with_element, with_initial
from .constraints import CLIP

SHAPES = {"scalar": (), "bias": (3,), "kernel": (2, 3)}
STEPS = 7


def define():
    """Every frequency with every momentum, then what stands beside them."""
    for frequency in (None, 1, 2, 3, 5):
        for momentum in (0.0, 0.5, 0.99, 1.0):
            for dtype in ALL if (frequency, momentum) == (3, 0.5) else FLOATS:
                yield _case(
                    f"every-{frequency or 'none'}-momentum-{momentum:g}",
                    dtype,
                    "The average starts at the initial variable, sees the variable after the "
                    "update, and overwrites it when the count of steps is a multiple.",
                    {"ema_momentum": momentum, "ema_overwrite_frequency": frequency},
                )
    for dtype in FLOATS:
        yield from _beside(dtype)


def _beside(dtype):
    yield _case(
        "frequency-zero",
        dtype,
        "A frequency of 0 never overwrites.",
        {"ema_momentum": 0.7, "ema_overwrite_frequency": 0},
    )
    yield _case(
        "with-decay-and-clip",
        dtype,
        "The average sees the variable after weight decay and update.",
        {
            "ema_momentum": 0.6,
            "ema_overwrite_frequency": 2,
            "weight_decay": 0.1,
            "global_clipnorm": 1.0,
        },
    )
    yield _case(
        "with-constraint",
        dtype,
        "The average sees the variable before its constraint; overwriting comes before it too.",
        {"ema_momentum": 0.6, "ema_overwrite_frequency": 3},
        constraint={"type": "clip", "minimum": -0.4, "maximum": 0.9},
    )
    yield drawn_case(
        "ema-off",
        dtype,
        "Without use_ema its other arguments are not looked at, and finalizing changes nothing.",
        ["ema"],
        {"learning_rate": 0.2, "ema_momentum": 1.5, "ema_overwrite_frequency": 2},
        SHAPES,
        3,
        finalize=True,
    )
    for momentum in (0.0, 0.5, 1.0):
        yield from _not_finite(dtype, momentum)


def _not_finite(dtype, momentum):
    """What a factor of 0 makes of NaN and of infinities is NaN."""
    arguments = {"ema_momentum": momentum, "ema_overwrite_frequency": None}
    comment = "A gradient of the third step is NaN, and with it the variable."
    definition = _case(f"nan-momentum-{momentum:g}", dtype, comment, arguments)
    yield with_element(definition, 2, float("nan"))
    # The average has seen what the constraint has then made finite.
    comment = "The first step ends in infinities: the average sees them, the constraint clips them."
    name = f"infinity-momentum-{momentum:g}"
    definition = _case(name, dtype, comment, arguments, constraint=CLIP)
    yield with_initial(definition, float("inf"))


def _case(name, dtype, comment, arguments, constraint=None):
    definition = drawn_case(
        f"ema-{name}",
        dtype,
        comment,
        ["ema"],
        {"learning_rate": 0.3, "use_ema": True, **arguments},
        SHAPES,
        STEPS,
        finalize=True,
    )
    for variable in definition["variables"]:
        variable["constraint"] = constraint
    return definition
