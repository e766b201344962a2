"""Small words in which the families describe their cases.

Every case draws from a generator seeded by its own id: adding a case never changes another one.
"""

import hashlib

import numpy as np

from ..numbers import Tensor

FLOATS = ("float32", "float64")
ALL = ("float32", "float64", "float16", "bfloat16")
SHORT = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}


class Draw:
    """Values for one case, reproducible from its id."""

    def __init__(self, identifier):
        seed = int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:8], "little")
        self.generator = np.random.default_rng(seed)

    def values(self, shape, scale=1.0):
        """Values of both signs with magnitudes between 0.3 and 1.7 times the scale."""
        magnitude = self.generator.uniform(0.3, 1.7, shape)
        return scale * magnitude * self.generator.choice([-1.0, 1.0], shape)

    def short(self, shape, quantum=0.125, reach=15):
        """Non-zero multiples of the quantum: values with few digits, for long lists."""
        magnitude = self.generator.integers(1, reach + 1, shape)
        return quantum * magnitude * self.generator.choice([-1.0, 1.0], shape)


def variable(dtype, name, initial, constraint=None):
    """One entry of `variables`; `initial` is an array in its shape."""
    initial = np.asarray(initial, np.float64)
    tensor = Tensor(dtype, initial.shape, initial)
    return {
        "name": name,
        "shape": list(initial.shape),
        "initial": tensor,
        "constraint": constraint,
    }


def gradient(dtype, values):
    """A dense gradient."""
    values = np.asarray(values, np.float64)
    return Tensor(dtype, values.shape, values)


def sparse(dtype, indices, values):
    """A sparse gradient: `values` has the shape [indices] + shape[1:]."""
    return {"indices": [int(index) for index in indices], "values": gradient(dtype, values)}


def schedule(class_name, **config):
    """A schedule of tf.keras.optimizers.schedules."""
    return {"class_name": class_name, "config": config}


def drawn_variables(draw, dtype, shapes, scale=1.0):
    """Variables with drawn values from a dictionary of name to shape."""
    return [variable(dtype, name, draw.values(shape, scale)) for name, shape in shapes.items()]


def drawn_steps(draw, dtype, shapes, count, scale=1.0, missing=()):
    """Steps with drawn dense gradients whose size changes from step to step.

    `missing` holds pairs of a step's index and a variable's name: its gradient is missing there.
    """
    steps = []
    for index in range(count):
        step_scale = scale * (1.0, 0.4, 1.7, 0.7, 1.3)[index % 5]
        gradients = [gradient(dtype, draw.values(shape, step_scale)) for shape in shapes.values()]
        for position, name in enumerate(shapes):
            if (index, name) in missing:
                gradients[position] = None
        steps.append({"gradients": gradients})
    return steps


def with_element(definition, step, value):
    """Gives the first element of every dense gradient of a step another value."""
    for tensor in definition["steps"][step]["gradients"]:
        tensor.values.flat[0] = value
    return definition


def with_initial(definition, value):
    """Gives the last element of every variable another initial value."""
    for variable in definition["variables"]:
        variable["initial"].values.flat[-1] = value
    return definition


def case(identifier, dtype, comment, flags, arguments, variables, steps, **more):
    """A definition. `more`: exclude_from_weight_decay, finalize."""
    return {
        "id": identifier,
        "comment": comment,
        "flags": flags,
        "dtype": dtype,
        "arguments": arguments,
        "variables": variables,
        "steps": steps,
        **more,
    }


def drawn_case(name, dtype, comment, flags, arguments, shapes, count, **more):
    """A case with drawn variables and dense gradients; `missing` and `scale` go to the steps."""
    identifier = f"{name}-{SHORT[dtype]}"
    draw = Draw(identifier)
    variables = drawn_variables(draw, dtype, shapes)
    options = {key: more.pop(key) for key in ("missing", "scale") if key in more}
    steps = drawn_steps(draw, dtype, shapes, count, **options)
    return case(identifier, dtype, comment, flags, arguments, variables, steps, **more)
