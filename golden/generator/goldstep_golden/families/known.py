"""Where the project follows the intention and not 2.12.1: averages when a gradient is missing.

tf.keras 2.12.1 pairs the averages with the variables that have a gradient by position, 2.15.1 by
variable. These cases carry both: the unnamed expectation comes from 2.15.1.
"""

from .build import FLOATS, drawn_case

ALIKE = {"first": (2, 2), "middle": (2, 2), "last": (2, 2)}
UNLIKE = {"first": (2, 3), "middle": (4,), "last": (2,)}
BROADCAST = {"first": (2, 3), "middle": (3,), "last": ()}


def define():
    """Who is missing when, with and without overwriting."""
    for dtype in FLOATS:
        yield _case("first", dtype, "The averages shift by one.", ALIKE, [(1, "first")])
        yield _case(
            "middle", dtype, "The averages shift by one.", ALIKE, [(0, "middle"), (2, "middle")]
        )
        yield _case(
            "first-and-middle",
            dtype,
            "The averages shift by two.",
            ALIKE,
            [(1, "first"), (1, "middle"), (3, "first")],
        )
        yield _case(
            "unlike-shapes",
            dtype,
            "2.12.1 raises when the shapes of the shifted averages do not fit.",
            UNLIKE,
            [(1, "first")],
        )
        yield _case(
            "broadcast",
            dtype,
            "2.12.1 stretches a variable over a shifted average where the shapes let it.",
            BROADCAST,
            [(1, "first")],
        )
        for name in ("first", "last"):
            yield _case(
                f"overwrite-{name}",
                dtype,
                "2.12.1 raises when the averages overwrite a list with a gap.",
                ALIKE,
                [(1, name)],
                {"ema_overwrite_frequency": 2},
            )
        yield _case(
            "overwrite-later",
            dtype,
            "The gap is in a step that does not overwrite.",
            ALIKE,
            [(0, "middle")],
            {"ema_overwrite_frequency": 3},
        )
        yield _case(
            "with-decay-and-clip",
            dtype,
            "The averages shift, whatever else is on.",
            ALIKE,
            [(2, "first")],
            {"weight_decay": 0.1, "global_clipnorm": 1.0},
        )


def _case(name, dtype, comment, shapes, missing, arguments=None):
    return drawn_case(
        f"known-ema-missing-{name}",
        dtype,
        comment,
        ["ema", "missing"],
        {"learning_rate": 0.3, "use_ema": True, "ema_momentum": 0.7, **(arguments or {})},
        shapes,
        5,
        missing=missing,
        finalize=True,
    )
