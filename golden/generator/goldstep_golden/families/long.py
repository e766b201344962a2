"""Hundreds and thousands of steps: what drifts, saturates or forgets to count."""

from .build import FLOATS, SHORT, Draw, case, gradient, schedule, variable

SHAPES = {"bias": (2,), "kernel": (3, 2)}


def define():
    """200 steps with everything on, 2,000 plain, and halves past the end of their integers."""
    cosine = schedule(
        "CosineDecayRestarts", initial_learning_rate=0.2, first_decay_steps=30, t_mul=1.5
    )
    for dtype in FLOATS:
        yield _case(
            "200-plain",
            dtype,
            "The decay of the second moment approaches 1.",
            {"learning_rate": 0.05},
            200,
            [1, 2, 10, 11, 50, 100, 101, 150, 199, 200],
        )
        yield _case(
            "200-everything",
            dtype,
            "Schedule, decay, clip and averages over many steps.",
            {
                "learning_rate": cosine,
                "weight_decay": 0.02,
                "global_clipnorm": 2.0,
                "use_ema": True,
                "ema_momentum": 0.97,
                "ema_overwrite_frequency": 50,
            },
            200,
            [1, 49, 50, 51, 99, 100, 149, 150, 199, 200],
        )
        yield _case(
            "2000",
            dtype,
            "The cap 1/sqrt(t) falls below the constant rate at step 1,600.",
            {"learning_rate": 0.025, "weight_decay": 0.01},
            2000,
            [1, 2, 100, 500, 1000, 1001, 1599, 1600, 1601, 1999, 2000],
        )
    yield _case(
        "300-counter",
        "bfloat16",
        "bfloat16 holds whole numbers up to 256 only, so the count of steps is rounded.",
        {"learning_rate": 0.5},
        300,
        [1, 2, 100, 254, 255, 256, 257, 258, 259, 299, 300],
    )
    yield _case(
        "2100-counter",
        "float16",
        "float16 holds whole numbers up to 2,048 only, so the count of steps is rounded.",
        {"learning_rate": 0.5},
        2100,
        [1, 2, 1000, 2046, 2047, 2048, 2049, 2050, 2051, 2099, 2100],
    )


def _case(name, dtype, comment, arguments, count, recorded):
    identifier = f"long-{name}-{SHORT[dtype]}"
    draw = Draw(identifier)
    variables = [variable(dtype, name, draw.short(shape)) for name, shape in SHAPES.items()]
    steps = []
    for index in range(count):
        gradients = [gradient(dtype, draw.short(shape)) for shape in SHAPES.values()]
        steps.append({"gradients": gradients, "record": index + 1 in recorded})
    return case(identifier, dtype, comment, ["long"], arguments, variables, steps)
