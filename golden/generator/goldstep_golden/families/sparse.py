"""Gradients of some rows: duplicates, order, clips before the sum, rows outside the indices."""

from .build import ALL, FLOATS, SHORT, Draw, case, drawn_variables, gradient
from .build import sparse as rows

SHAPES = {"embedding": (5, 2), "bias": (4,), "kernel": (2, 3)}

# For each step the rows of the embedding and those of the bias; None: a dense gradient.
_INDICES = {
    "unique": [([0, 3], [1]), ([1, 4], [0, 2]), ([2], [3, 1])],
    "unsorted": [([4, 0, 2], [3, 0]), ([3, 1], [2, 1, 0]), ([2, 0, 4, 1], [3, 2])],
    "duplicates": [([1, 1], [2, 2, 2]), ([3, 0, 3, 3], [0, 1, 0]), ([4, 2, 4], [1, 1])],
    "negative": [([-1, 2], [1, -3]), ([0, -5, 0], [-1]), ([3, 1], [0, 2])],
    "none": [([], [1]), ([2, 2], []), ([], [])],
    "all-rows": [([0, 1, 2, 3, 4], None), ([4, 3, 2, 1, 0], [3, 2, 1, 0]), (None, [0])],
    "sparse-then-dense": [([1, 3, 1], [0, 0]), (None, None), ([0], [3, 3])],
}

_ARGUMENTS = {
    "clipnorm": {"clipnorm": 0.6},
    "clipvalue": {"clipvalue": 0.35},
    "global-clipnorm": {"global_clipnorm": 0.7},
    "decay": {"weight_decay": 0.2},
    "ema": {"use_ema": True, "ema_momentum": 0.6, "ema_overwrite_frequency": 2},
}


def define():
    """Every pattern plain; duplicates with every option; three axes; not finite; halves."""
    for name, indices in _INDICES.items():
        for dtype in ALL if name == "duplicates" else FLOATS:
            yield _case(
                name,
                dtype,
                "Duplicate rows are summed, rows outside the indices have a gradient of 0 and "
                "are updated all the same, negative indices are dropped.",
                {},
                indices,
            )
    for name, arguments in _ARGUMENTS.items():
        for dtype in FLOATS:
            yield _case(
                f"with-{name}",
                dtype,
                "Clips see the values before duplicates are summed.",
                arguments,
                _INDICES["duplicates"],
            )
    for dtype in FLOATS:
        yield _three_axes(dtype)
        for name, value in (("nan", float("nan")), ("infinity", float("inf"))):
            yield _not_finite(name, dtype, value)
        for clip in ("clipnorm", "global-clipnorm"):
            yield _case(
                f"negative-with-{clip}",
                dtype,
                "A norm counts the rows of negative indices, which are dropped after the clip.",
                _ARGUMENTS[clip],
                _INDICES["negative"],
            )


def _case(name, dtype, comment, arguments, indices):
    identifier = f"sparse-{name}-{SHORT[dtype]}"
    draw = Draw(identifier)
    steps = []
    for embedding_rows, bias_rows in indices:
        embedding = _gradient(draw, dtype, embedding_rows, SHAPES["embedding"])
        bias = _gradient(draw, dtype, bias_rows, SHAPES["bias"])
        kernel = gradient(dtype, draw.values(SHAPES["kernel"]))
        steps.append({"gradients": [embedding, bias, kernel]})
    # An epsilon_1 that keeps rows without a gradient finite in every type.
    arguments = {"learning_rate": 0.3, "epsilon_1": 1e-3, **arguments}
    variables = drawn_variables(draw, dtype, SHAPES)
    return case(identifier, dtype, comment, ["sparse"], arguments, variables, steps)


def _gradient(draw, dtype, indices, shape):
    if indices is None:
        return gradient(dtype, draw.values(shape))
    return rows(dtype, indices, draw.values((len(indices), *shape[1:])))


def _three_axes(dtype):
    identifier = f"sparse-three-axes-{SHORT[dtype]}"
    draw = Draw(identifier)
    shape = (3, 2, 2)
    steps = [
        {"gradients": [_gradient(draw, dtype, indices, shape)]}
        for indices in ([2, 0, 2], [1], [0, 0, 1, 2])
    ]
    return case(
        identifier,
        dtype,
        "Rows of a rank-3 variable are matrices; epsilon_1 is the default.",
        ["sparse"],
        {"learning_rate": 0.3},
        drawn_variables(draw, dtype, {"experts": shape}),
        steps,
    )


def _not_finite(name, dtype, value):
    """One value of a row is not finite; the scale of the update is one for all rows and slices."""
    identifier = f"sparse-{name}-{SHORT[dtype]}"
    draw = Draw(identifier)
    shapes = {"embedding": (5, 2), "experts": (3, 2, 2), "bias": (4,)}
    touched = {"embedding": [3, 1], "experts": [1], "bias": [2]}
    steps = []
    for index in range(2):
        gradients = []
        for own, shape in shapes.items():
            values = draw.values((len(touched[own]), *shape[1:]))
            if index == 1:
                values.flat[0] = value
            gradients.append(rows(dtype, touched[own], values))
        steps.append({"gradients": gradients})
    return case(
        identifier,
        dtype,
        "One value of the second step is not finite; rows and slices without a gradient have the "
        "scale of the update in common with it.",
        ["sparse", "extreme"],
        {"learning_rate": 0.3, "epsilon_1": 1e-3},
        drawn_variables(draw, dtype, shapes),
        steps,
    )
