"""What tf.keras refuses, when the optimizer is made or in a step: stage, type and message."""

from .build import Draw, drawn_case, schedule, sparse

SHAPES = {"kernel": (3, 2), "bias": (3,)}
DTYPE = "float32"

_CONSTRUCTOR = {
    "both-norms": {"clipnorm": 1.0, "global_clipnorm": 1.0},
    "both-norms-zero": {"clipnorm": 0.0, "global_clipnorm": 0.0},
    "all-three-clips": {"clipnorm": 0.5, "clipvalue": 0.1, "global_clipnorm": 2.0},
    "ema-momentum-above-one": {"use_ema": True, "ema_momentum": 1.5},
    "ema-momentum-negative": {"use_ema": True, "ema_momentum": -0.1},
    "ema-frequency-negative": {"use_ema": True, "ema_overwrite_frequency": -1},
    "ema-frequency-fraction": {"use_ema": True, "ema_overwrite_frequency": 1.5},
    "schedule-without-rate": {
        "learning_rate": schedule("ExponentialDecay", decay_steps=2, decay_rate=0.5)
    },
    "schedule-without-steps": {"learning_rate": schedule("CosineDecay", initial_learning_rate=0.1)},
    "piecewise-too-few-values": {
        "learning_rate": schedule("PiecewiseConstantDecay", boundaries=[1, 2], values=[0.1, 0.2])
    },
}


def define():
    """Refused arguments; then steps that fail after some that did not."""
    for name, arguments in _CONSTRUCTOR.items():
        yield drawn_case(
            f"errors-{name}",
            DTYPE,
            "Refused when the optimizer is made.",
            ["constructor_error"],
            arguments,
            SHAPES,
            1,
        )
    yield _failing(
        "no-gradient-at-all",
        "At least one variable must have a gradient.",
        {},
        {"gradients": [None, None]},
    )
    rows_beyond = sparse(DTYPE, [0, 3], Draw("errors-index-out-of-range").values((2, 2)))
    yield _failing(
        "index-out-of-range",
        "A row index must be below the number of rows.",
        {},
        {"gradients": [rows_beyond, None]},
    )
    cosine = schedule("CosineDecay", initial_learning_rate=0.1, decay_steps=9)
    yield _failing(
        "rate-onto-schedule",
        "A number cannot be assigned when the optimizer was made with a schedule.",
        {"learning_rate": cosine},
        {"learning_rate": 0.1},
    )
    yield drawn_case(
        "errors-bad-pattern",
        DTYPE,
        "A pattern that is no regular expression. Keras finds it in the first step only.",
        ["step_error"],
        {"weight_decay": 0.1},
        SHAPES,
        1,
        exclude_from_weight_decay=["(kernel"],
    )


def _failing(name, comment, arguments, failing):
    """Two steps that succeed, then one with something replaced."""
    definition = drawn_case(f"errors-{name}", DTYPE, comment, ["step_error"], arguments, SHAPES, 3)
    gradients = definition["steps"][2]["gradients"]
    definition["steps"][2] = {"gradients": gradients, **failing}
    return definition
