"""Values at the edges: zeros in rows and columns, tiny, huge, subnormal, NaN and infinite ones."""

import numpy as np

from .build import ALL, FLOATS, SHORT, Draw, case, gradient, variable

INFINITY = float("inf")
NAN = float("nan")
MATRIX = (3, 4)
VECTOR = (4,)

# A value whose square underflows, a subnormal one, one whose square overflows, the largest.
_EXTREMES = {
    "float32": {"tiny": 1e-16, "subnormal": 1e-40, "huge": 1e20, "largest": 3.4028234663852886e38},
    "float64": {
        "tiny": 1e-16,
        "subnormal": 1e-310,
        "huge": 1e160,
        "largest": 1.7976931348623157e308,
    },
    "float16": {"tiny": 1e-4, "subnormal": 3e-6, "huge": 300.0, "largest": 65504.0},
    "bfloat16": {"tiny": 1e-16, "subnormal": 1e-39, "huge": 1e20, "largest": 3.3895313892515355e38},
}

_CLIPS = {
    "clipnorm": {"clipnorm": 0.5},
    "global-clipnorm": {"global_clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.25},
}


def define():
    """Zeros, extreme gradients with and without clips, extreme initial values, extreme epsilons."""
    for dtype in ALL:
        yield from _zeros(dtype)
        for name, value in _EXTREMES[dtype].items():
            yield _one_element(f"gradient-{name}", dtype, value, {})
            yield _everywhere(f"gradients-{name}", dtype, value)
        for name, value in (("nan", NAN), ("infinity", INFINITY), ("minus-infinity", -INFINITY)):
            yield _one_element(f"gradient-{name}", dtype, value, {})
    for dtype in FLOATS:
        yield from _clipped(dtype)
        yield from _initial(dtype)
        yield from _epsilons(dtype)
        yield _columns_apart(dtype)
        yield from _products(dtype)


def _zeros(dtype):
    """Which elements of the matrix's first gradient are zero; the second gradient is dense."""
    patterns = {
        "all": np.s_[:, :],
        "row": np.s_[1, :],
        "column": np.s_[:, 2],
        "element": np.s_[0, 3],
    }
    for name, where in patterns.items():
        yield _zeroed(f"zero-{name}", dtype, [where], 1.0, {})
    cross = [np.s_[1, :], np.s_[:, 2]]
    yield _zeroed("zero-row-and-column", dtype, cross, 1.0, {})
    yield _zeroed("zero-row-and-column-epsilon", dtype, cross, 1.0, {"epsilon_1": 1e-3})
    if dtype != "float16":
        yield _zeroed("zero-row-beside-large", dtype, [np.s_[1, :]], 1e4, {})
        yield _zeroed("zero-column-beside-large", dtype, [np.s_[:, 2]], 1e4, {})
        yield _zeroed("zero-row-beside-10", dtype, [np.s_[1, :]], 10.0, {})
    yield _zeroed("zero-row-after-dense", dtype, cross, 1.0, {}, zero_at=1)


def _zeroed(name, dtype, wheres, scale, arguments, zero_at=0):
    draw, identifier = _draw(name, dtype)
    steps = []
    for index in range(3):
        values = draw.values(MATRIX, scale)
        if index == zero_at:
            for where in wheres:
                values[where] = 0.0
        vector = draw.values(VECTOR, scale)
        if index == zero_at:
            vector[1] = 0.0
        steps.append(_step(dtype, values, vector))
    return _case(
        identifier,
        dtype,
        "The smallest second moments decide where NaN appears.",
        ["zero", "flush_to_zero"],
        arguments,
        _variables(draw, dtype),
        steps,
    )


def _one_element(name, dtype, value, arguments):
    """One element of the matrix, of the vector and of one of three slices is extreme in step 2."""
    draw, identifier = _draw(name, dtype)
    steps = []
    for index in range(3):
        matrix, vector = draw.values(MATRIX), draw.values(VECTOR)
        slices = draw.values((3, 2, 2))
        if index == 1:
            matrix[1, 2] = vector[0] = slices[1, 0, 1] = value
        steps.append(_step(dtype, matrix, vector, slices))
    variables = [*_variables(draw, dtype), variable(dtype, "slices", draw.values((3, 2, 2)))]
    return _case(
        identifier,
        dtype,
        "One element is extreme in the second step; what it spoils, and what it must not.",
        ["extreme"],
        arguments,
        variables,
        steps,
    )


def _everywhere(name, dtype, value):
    """All gradients of the first step are extreme, with both signs."""
    draw, identifier = _draw(name, dtype)
    signs = np.where(np.arange(12).reshape(MATRIX) % 3 == 0, -1.0, 1.0)
    steps = [_step(dtype, value * signs, value * signs[0])]
    steps += [_step(dtype, draw.values(MATRIX), draw.values(VECTOR)) for _ in range(2)]
    return _case(
        identifier,
        dtype,
        "All gradients of the first step are extreme.",
        ["extreme", "flush_to_zero"],
        {},
        _variables(draw, dtype),
        steps,
    )


def _clipped(dtype):
    values = {"nan": NAN, "infinity": INFINITY, "huge": _EXTREMES[dtype]["huge"]}
    for clip, arguments in _CLIPS.items():
        for name, value in values.items():
            yield _one_element(f"{clip}-{name}", dtype, value, arguments)
        draw, identifier = _draw(f"{clip}-zeros", dtype)
        zeros = _step(dtype, np.zeros(MATRIX), np.zeros(VECTOR))
        dense = _step(dtype, draw.values(MATRIX), draw.values(VECTOR))
        yield _case(
            identifier,
            dtype,
            "A norm of zero clips nothing.",
            ["zero", "clip"],
            arguments,
            _variables(draw, dtype),
            [zeros, dense],
        )


def _initial(dtype):
    """Extreme values of the variables themselves."""
    extremes = {
        "zero": 0.0,
        "minus-zero": -0.0,
        "tiny": _EXTREMES[dtype]["tiny"],
        "subnormal": _EXTREMES[dtype]["subnormal"],
        "huge": _EXTREMES[dtype]["huge"],
        "nan": NAN,
        "infinity": INFINITY,
    }
    for name, value in extremes.items():
        draw, identifier = _draw(f"initial-{name}", dtype)
        one = draw.values(VECTOR)
        one[2] = value
        yield _case(
            identifier,
            dtype,
            "All elements of one variable and one element of another are extreme at the start.",
            ["extreme"],
            {"weight_decay": 0.1},
            [variable(dtype, "matrix", np.full(MATRIX, value)), variable(dtype, "vector", one)],
            [_step(dtype, draw.values(MATRIX), draw.values(VECTOR)) for _ in range(2)],
        )


def _epsilons(dtype):
    for name, arguments in {
        "epsilon-1-zero": {"epsilon_1": 0.0},
        "epsilon-1-subnormal": {"epsilon_1": _EXTREMES[dtype]["subnormal"]},
        "epsilon-1-large": {"epsilon_1": 10.0},
        "epsilon-2-zero": {"epsilon_2": 0.0},
        "both-epsilons-zero": {"epsilon_1": 0.0, "epsilon_2": 0.0},
    }.items():
        yield _zeroed(name, dtype, [np.s_[0, 3]], 1.0, arguments)
    draw, identifier = _draw("epsilon-2-zero-initial-zero", dtype)
    yield _case(
        identifier,
        dtype,
        "Without epsilon_2 a variable of zeros stays where it is.",
        ["zero"],
        {"epsilon_2": 0.0},
        [variable(dtype, "matrix", np.zeros(MATRIX)), variable(dtype, "vector", np.zeros(VECTOR))],
        [_step(dtype, draw.values(MATRIX), draw.values(VECTOR)) for _ in range(2)],
    )


def _columns_apart(dtype):
    """Every second column is so small that its squares over the row's factor underflow."""
    large, small, arguments = {
        "float32": (1e10, 1e-12, {}),
        "float64": (1e90, 1e-90, {"epsilon_1": 0.0}),
    }[dtype]
    draw, identifier = _draw("columns-apart", dtype)
    shapes = {"matrix": MATRIX, "filters": (16, 2, 2)}
    scales = {name: np.resize([large, small], shape) for name, shape in shapes.items()}
    return _case(
        identifier,
        dtype,
        "Small columns count for rms(u) as much as large ones.",
        ["extreme"],
        arguments,
        [variable(dtype, name, draw.values(shape)) for name, shape in shapes.items()],
        [
            _step(dtype, *(draw.values(shape, scales[name]) for name, shape in shapes.items()))
            for _ in range(3)
        ],
    )


def _products(dtype):
    """Both products of the running mean are below the normal range, their sum is not."""
    least = float(np.finfo(dtype).tiny)
    for name, epsilon_1, value in (
        ("gradients", 0.0, 1.3 * least**0.5),
        ("epsilon-1", 1.28 * least, least**0.75),
    ):
        draw, identifier = _draw(f"products-below-normal-{name}", dtype)
        signs = np.where(np.arange(12).reshape(MATRIX) % 3 == 0, -1.0, 1.0)
        steps = [
            _step(dtype, value * signs, value * signs[0], np.full((16, 2, 2), value))
            for _ in range(3)
        ]
        yield _case(
            identifier,
            dtype,
            "beta_2 v and (1 - beta_2)(g^2 + epsilon_1) are flushed each on its own.",
            ["extreme", "flush_to_zero"],
            {"epsilon_1": epsilon_1},
            [*_variables(draw, dtype), variable(dtype, "filters", draw.values((16, 2, 2)))],
            steps,
        )


def _draw(name, dtype):
    identifier = f"values-{name}-{SHORT[dtype]}"
    return Draw(identifier), identifier


def _variables(draw, dtype):
    shapes = {"matrix": MATRIX, "vector": VECTOR}
    return [variable(dtype, name, draw.values(shape)) for name, shape in shapes.items()]


def _step(dtype, *values):
    return {"gradients": [gradient(dtype, value) for value in values]}


def _case(identifier, dtype, comment, flags, arguments, variables, steps):
    arguments = {"learning_rate": 0.3, **arguments}
    return case(identifier, dtype, comment, flags, arguments, variables, steps)
