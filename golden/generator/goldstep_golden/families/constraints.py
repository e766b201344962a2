"""Constraints of variables: last of all, and only for variables that had a gradient."""

from .build import ALL, FLOATS, drawn_case, with_element, with_initial

NON_NEGATIVE = {"type": "non_negative"}
CLIP = {"type": "clip", "minimum": -0.5, "maximum": 0.75}
ONE_SIDED = {"type": "clip", "minimum": 0.25, "maximum": 3.0}

SHAPES = {"non_negative": (2, 3), "clipped": (4,), "one_sided": (2, 2, 2), "free": (3,)}
CONSTRAINTS = [NON_NEGATIVE, CLIP, ONE_SIDED, None]


def define():
    """Constraints alone, with gaps, and with what else writes to variables."""
    for dtype in ALL:
        yield _case("plain", dtype, "A constraint runs after each update.", {})
    for dtype in FLOATS:
        yield _case(
            "missing",
            dtype,
            "A variable without a gradient is not constrained, even where its value violates it.",
            {},
            missing=[(0, "non_negative"), (0, "clipped"), (2, "clipped"), (3, "one_sided")],
        )
        yield _case(
            "with-decay",
            dtype,
            "Weight decay comes before the update, the constraint after it.",
            {"weight_decay": 0.5},
        )
        yield _case(
            "with-ema",
            dtype,
            "The average sees the value before the constraint; finalizing ignores the constraint.",
            {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
            finalize=True,
        )
        yield with_element(
            _case("nan", dtype, "NaN is neither negative nor out of range.", {}), 1, float("nan")
        )
        comment = "Negative infinity times 0 is NaN; an infinity is clipped to the range."
        yield with_initial(_case("infinity", dtype, comment, {}), float("inf"))


def _case(name, dtype, comment, arguments, **more):
    definition = drawn_case(
        f"constraints-{name}",
        dtype,
        comment,
        ["constraint"],
        {"learning_rate": 0.4, **arguments},
        SHAPES,
        5,
        **more,
    )
    for variable, constraint in zip(definition["variables"], CONSTRAINTS):
        variable["constraint"] = constraint
    return definition
