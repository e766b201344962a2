"""Lists of variables: one, two hundred, alike ones, odd names, and those of a small network."""

from .build import ALL, FLOATS, drawn_case

_SHAPES = [(), (1,), (2,), (3,), (1, 2), (2, 1), (2, 2), (1, 2, 1)]


def define():
    """Long and short lists; options that look at the whole list."""
    for dtype in ALL:
        yield _case("one", dtype, "One variable.", {}, {"only": (3, 4)}, 3)
    for dtype in FLOATS:
        yield _case(
            "two-hundred",
            dtype,
            "Two hundred variables under one global norm, every seventh without a gradient.",
            {"global_clipnorm": 2.0, "weight_decay": 0.1},
            {f"variable_{index:03}": _SHAPES[index % 8] for index in range(200)},
            2,
            missing=[(1, f"variable_{index:03}") for index in range(0, 200, 7)],
        )
        yield _case(
            "alike",
            dtype,
            "Variables of one shape keep their own states and averages.",
            {"use_ema": True, "ema_momentum": 0.9},
            {name: (2, 2) for name in ("query", "key", "value", "output")},
            4,
        )
        yield _case(
            "network",
            dtype,
            "The variables of a small network: embedding, convolution, attention, norms.",
            {"clipnorm": 1.0, "weight_decay": 0.05},
            {
                "embedding": (5, 3),
                "convolution/kernel": (2, 2, 3, 2),
                "convolution/bias": (2,),
                "attention/query": (3, 2, 2),
                "norm/scale": (3,),
                "temperature": (),
            },
            3,
        )
        yield _case(
            "subsets",
            dtype,
            "A different part of the list has gradients in each step.",
            {"weight_decay": 0.1},
            {"a": (2, 3), "b": (3,), "c": (), "d": (2, 1, 2)},
            5,
            missing=[(0, "b"), (0, "c"), (1, "a"), (2, "a"), (2, "b"), (2, "c"), (3, "d")],
        )


def _case(name, dtype, comment, arguments, shapes, count, **more):
    arguments = {"learning_rate": 0.2, **arguments}
    return drawn_case(f"lists-{name}", dtype, comment, ["list"], arguments, shapes, count, **more)
