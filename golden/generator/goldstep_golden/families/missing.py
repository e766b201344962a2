"""Gradients that are missing in some steps: nothing of such a variable is touched."""

from .build import ALL, FLOATS, drawn_case, schedule

SHAPES = {"first": (2, 3), "middle": (3,), "last": (2, 2)}
STEPS = 5

_PATTERNS = {
    "first-variable": [(1, "first")],
    "middle-variable": [(1, "middle"), (2, "middle")],
    "last-variable": [(3, "last")],
    "first-step": [(0, "first"), (0, "middle")],
    "last-step": [(4, "middle"), (4, "last")],
    "never-but-once": [(index, "first") for index in (0, 1, 2, 4)],
    "always": [(index, "middle") for index in range(STEPS)],
    "in-turn": [(0, "first"), (1, "middle"), (2, "last"), (3, "first"), (4, "middle")],
    "all-but-one": [(2, "first"), (2, "last")],
}

_ARGUMENTS = {
    "decay": {"weight_decay": 0.2},
    "clipnorm": {"clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.3},
    "global-clipnorm": {"global_clipnorm": 0.8},
    "schedule": {
        "learning_rate": schedule(
            "ExponentialDecay", initial_learning_rate=0.7, decay_steps=1, decay_rate=0.8
        ),
        "weight_decay": 0.1,
    },
}


def define():
    """Who is missing when; then one pattern with all that could touch the variable all the same."""
    for name, missing in _PATTERNS.items():
        for dtype in ALL if name == "in-turn" else FLOATS:
            yield _case(
                name,
                dtype,
                "The count of steps goes on; a variable without a gradient keeps value and state.",
                {},
                missing,
            )
    for name, arguments in _ARGUMENTS.items():
        for dtype in FLOATS:
            yield _case(
                f"with-{name}",
                dtype,
                "A variable without a gradient takes no part in decay or in norms.",
                arguments,
                _PATTERNS["in-turn"],
            )
    for dtype in FLOATS:
        yield _case(
            "with-ema-at-the-end",
            dtype,
            "The average of the last variables stays as it is, as 2.12.1 has it too.",
            {"use_ema": True, "ema_momentum": 0.7},
            [(1, "last"), (3, "middle"), (3, "last")],
        )


def _case(name, dtype, comment, arguments, missing):
    return drawn_case(
        f"missing-{name}",
        dtype,
        comment,
        ["missing"],
        {"learning_rate": 0.3, **arguments},
        SHAPES,
        STEPS,
        missing=missing,
    )
