"""The six schedules, and a learning rate that is assigned between steps."""

from .build import ALL, FLOATS, drawn_case, schedule

SHAPES = {"kernel": (3, 2), "bias": (2,)}
STEPS = 9

# Most rates start above 1/sqrt(t) or cross it, and weight decay shows the rate before that cap.
_SCHEDULES = {
    "exponential": schedule(
        "ExponentialDecay", initial_learning_rate=0.9, decay_steps=3, decay_rate=0.7
    ),
    "exponential-staircase": schedule(
        "ExponentialDecay",
        initial_learning_rate=0.9,
        decay_steps=3,
        decay_rate=0.7,
        staircase=True,
    ),
    "piecewise": schedule(
        "PiecewiseConstantDecay", boundaries=[2, 5, 6], values=[0.8, 0.3, 0.05, 0.6]
    ),
    "piecewise-one": schedule("PiecewiseConstantDecay", boundaries=[4], values=[0.02, 0.2]),
    "polynomial": schedule(
        "PolynomialDecay", initial_learning_rate=0.9, decay_steps=6, end_learning_rate=0.05
    ),
    "polynomial-square": schedule(
        "PolynomialDecay",
        initial_learning_rate=0.9,
        decay_steps=6,
        end_learning_rate=0.05,
        power=2.0,
    ),
    "polynomial-cycle": schedule(
        "PolynomialDecay",
        initial_learning_rate=0.5,
        decay_steps=3,
        end_learning_rate=0.01,
        power=0.5,
        cycle=True,
    ),
    "inverse-time": schedule(
        "InverseTimeDecay", initial_learning_rate=0.9, decay_steps=2, decay_rate=0.5
    ),
    "inverse-time-staircase": schedule(
        "InverseTimeDecay",
        initial_learning_rate=0.9,
        decay_steps=2,
        decay_rate=0.5,
        staircase=True,
    ),
    "cosine": schedule("CosineDecay", initial_learning_rate=0.8, decay_steps=7),
    "cosine-alpha": schedule("CosineDecay", initial_learning_rate=0.8, decay_steps=6, alpha=0.15),
    "cosine-restarts": schedule(
        "CosineDecayRestarts", initial_learning_rate=0.7, first_decay_steps=3
    ),
    "cosine-restarts-all": schedule(
        "CosineDecayRestarts",
        initial_learning_rate=0.7,
        first_decay_steps=2,
        t_mul=1.5,
        m_mul=0.8,
        alpha=0.1,
    ),
    "cosine-restarts-equal": schedule(
        "CosineDecayRestarts",
        initial_learning_rate=0.7,
        first_decay_steps=3,
        t_mul=1.0,
        m_mul=0.9,
    ),
    "negative": schedule(
        "PolynomialDecay", initial_learning_rate=0.1, decay_steps=4, end_learning_rate=-0.2
    ),
    "huge": schedule("PiecewiseConstantDecay", boundaries=[3], values=[100.0, 0.0]),
}


def define():
    """Every schedule with weight decay, then rates assigned between the steps."""
    for name, learning_rate in _SCHEDULES.items():
        for dtype in ALL if name in ("exponential", "cosine-alpha") else FLOATS:
            yield drawn_case(
                f"schedules-{name}",
                dtype,
                f"{learning_rate['class_name']}, evaluated at the 0-based iteration.",
                ["schedule"],
                {"learning_rate": learning_rate, "weight_decay": 0.03},
                SHAPES,
                STEPS,
            )
    for dtype in FLOATS:
        yield from _assigned(dtype)


def _assigned(dtype):
    exponential = _SCHEDULES["exponential"]
    yield _with_rates(
        "numbers",
        dtype,
        "Numbers are assigned before steps 3, 4 and 6; one of them is far above the cap.",
        0.1,
        {2: 0.02, 3: 5.0, 5: 0.3},
    )
    yield _with_rates(
        "schedule",
        dtype,
        "A schedule replaces a number before step 3 and goes by the iterations so far.",
        0.1,
        {2: exponential},
    )
    yield _with_rates(
        "schedules",
        dtype,
        "A schedule replaces another one before step 4.",
        exponential,
        {3: _SCHEDULES["piecewise"]},
    )
    yield _with_rates(
        "zero",
        dtype,
        "A rate of 0 holds the variables still while the states go on.",
        0.2,
        {1: 0.0, 3: 0.2},
    )
    yield _with_rates(
        "first",
        dtype,
        "A number replaces another one before step 1, a schedule that one before step 4.",
        0.1,
        {0: 0.45, 3: exponential},
    )


def _with_rates(name, dtype, comment, first, assigned):
    definition = drawn_case(
        f"schedules-assigned-{name}",
        dtype,
        comment,
        ["schedule", "assigned_learning_rate"],
        {"learning_rate": first, "weight_decay": 0.03},
        SHAPES,
        7,
    )
    for index, learning_rate in assigned.items():
        step = definition["steps"][index]
        definition["steps"][index] = {"learning_rate": learning_rate, **step}
    return definition
