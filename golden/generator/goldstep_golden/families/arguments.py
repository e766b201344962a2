"""Arguments at the edges of what they may be, and those that do nothing."""

from .build import ALL, FLOATS, drawn_case

SHAPES = {"kernel": (3, 2), "bias": (3,), "scale": ()}

_EDGES = {
    "defaults": ({}, "No argument at all."),
    "name": ({"name": "Another", "learning_rate": 0.1}, "The name is a label."),
    "relative-step-off": (
        {"relative_step": False, "learning_rate": 0.9},
        "relative_step changes nothing: the cap 1/sqrt(t) stays.",
    ),
    "jit-compile-off": (
        {"jit_compile": False, "learning_rate": 0.9},
        "jit_compile changes nothing on a CPU.",
    ),
    "rate-zero": ({"learning_rate": 0.0, "weight_decay": 0.1}, "Nothing moves, states do."),
    "rate-huge": ({"learning_rate": 1e6}, "1/sqrt(t) caps any rate."),
    "rate-above-one-with-decay": (
        {"learning_rate": 2.0, "weight_decay": 0.1},
        "Weight decay uses the rate before the cap.",
    ),
    "decay-zero": ({"learning_rate": 0.1, "weight_decay": 0.0}, "0 is not None, but does nothing."),
    "beta-2-decay-zero": (
        {"learning_rate": 0.1, "beta_2_decay": 0.0},
        "Only the current gradient counts.",
    ),
    "beta-2-decay-strong": ({"learning_rate": 0.1, "beta_2_decay": -3.0}, "A long memory."),
    "clips-zero": (
        {"learning_rate": 0.1, "clipnorm": 0.0, "clipvalue": 0.3},
        "0 switches clipnorm off, so clipvalue is used.",
    ),
    "clipvalue-zero": ({"learning_rate": 0.1, "clipvalue": 0.0}, "0 switches clipvalue off."),
    "global-clipnorm-zero": (
        {"learning_rate": 0.1, "global_clipnorm": 0.0, "clipvalue": 0.2},
        "0 switches global_clipnorm off, so clipvalue is used.",
    ),
    "clipnorm-before-clipvalue": (
        {"learning_rate": 0.1, "clipnorm": 1.0, "clipvalue": 0.1},
        "clipnorm wins over clipvalue.",
    ),
    "clipnorm-not-reached": ({"learning_rate": 0.1, "clipnorm": 100.0}, "Nothing to clip."),
    "global-clipnorm-not-reached": (
        {"learning_rate": 0.1, "global_clipnorm": 100.0},
        "Nothing to clip, but the factor's rounding shows.",
    ),
    "clip-threshold-small": ({"learning_rate": 0.9, "clip_threshold": 0.01}, "Always clipped."),
    "clip-threshold-large": ({"learning_rate": 0.9, "clip_threshold": 100.0}, "Never clipped."),
    "odd-decimals": (
        {
            "learning_rate": 0.1234567890123,
            "epsilon_2": 0.0123456789,
            "weight_decay": 0.0345678912,
            "beta_2_decay": -0.7654321987,
            "clip_threshold": 0.9876543211,
            "epsilon_1": 1.23456789e-5,
        },
        "learning_rate, epsilon_2 and weight_decay pass through float32, the others do not.",
    ),
    "odd-decimals-ema": (
        {
            "learning_rate": 0.1234567890123,
            "use_ema": True,
            "ema_momentum": 0.9123456789,
            "clipvalue": 0.4567891234,
        },
        "Momentum and clip values go to the variable's type directly.",
    ),
    "odd-decimals-clipnorm": (
        {"learning_rate": 0.3, "clipnorm": 0.7654321987},
        "The norm goes to the variable's type directly.",
    ),
    "odd-decimals-global-clipnorm": (
        {"learning_rate": 0.3, "global_clipnorm": 0.7654321987},
        "The norm goes to the variable's type directly.",
    ),
}


def define():
    """Every edge in the wide types, the defaults and the odd decimals in all."""
    for name, (arguments, comment) in _EDGES.items():
        for dtype in ALL if name in ("defaults", "odd-decimals") else FLOATS:
            yield drawn_case(
                f"arguments-{name}", dtype, comment, ["argument"], arguments, SHAPES, 4
            )
