"""The inputs that every combination of the argument grid shares.

Chosen by what they expose (golden/README.md): ranks 0 to 6; axes of size 1 within the last two;
shapes whose two largest axes are not the last two; a variable with gradients far below epsilon_1
and one with an rms far below epsilon_2; gradients whose norm crosses the clipping thresholds in
some steps only.
"""

import numpy as np

from ..numbers import Tensor

SEED = 20240607

# name, shape, scale of the initial values, scale of the gradients
_VARIABLES = [
    ("scalar", (), 1.0, 0.7),
    ("small_rms", (3,), 1e-5, 0.05),
    ("matrix", (3, 2), 1.0, 1.0),
    ("rank3", (3, 2, 1), 0.8, 0.2),
    ("tiny_gradient", (2, 1, 1, 2), 0.5, 1e-16),
    ("rank5", (2, 1, 2, 1, 2), 1.0, 0.5),
    ("rank6", (1, 2, 1, 2, 2, 1), 0.6, 0.02),
]

# float16 has neither 1e-5 squared nor 1e-16: the scales of the two special variables there.
_HALF_SCALES = {"small_rms": (0.02, 0.05), "tiny_gradient": (0.5, 0.1)}

# Gradients grow and shrink from step to step, or the normalised update would not feel a clip.
_STEP_SCALES = [1.0, 0.3, 2.0, 0.6, 1.4]

_SCHEDULE = {
    "class_name": "ExponentialDecay",
    "config": {"initial_learning_rate": 0.6, "decay_steps": 2, "decay_rate": 0.9},
}

_AXES = {
    "learning_rate": [0.9, 0.01, _SCHEDULE],
    "beta_2_decay": [-0.8, -0.65],
    "epsilon_1": [1e-30, 1e-3],
    "epsilon_2": [1e-3, 0.05],
    "clip_threshold": [1.0, 0.5],
    "relative_step": [True, False],
    "weight_decay": [None, 0.04],
    "clipnorm": [None, 0.5],
    "clipvalue": [None, 0.3],
    "global_clipnorm": [None, 0.8],
    "use_ema": [False, True],
    "ema_momentum": [0.99, 0.5],
    "ema_overwrite_frequency": [None, 2, 3],
    "jit_compile": [True, False],
}

# Effects that the few digits of the halves can show.
_HALF_AXES = {
    "learning_rate": [0.9, 0.1, _SCHEDULE],
    "weight_decay": [None, 0.3],
    "ema_momentum": [0.9, 0.5],
}
_FLOAT16_AXES = {"epsilon_1": [1e-30, 0.05], "epsilon_2": [1e-3, 0.25]}


class GridInputs:
    """Axes, variables and steps of the grid in one element type."""

    def __init__(self, dtype):
        self.dtype = dtype
        axes = dict(_AXES)
        scales = {name: pair for name, _, *pair in _VARIABLES}
        if dtype in ("float16", "bfloat16"):
            axes.update(_HALF_AXES)
        if dtype == "float16":
            axes.update(_FLOAT16_AXES)
            scales.update(_HALF_SCALES)
        self.axes = list(axes.items())
        self._scales = scales

    def variables(self):
        """The `variables` of every combination."""
        generator = np.random.default_rng(SEED)
        result = []
        for name, shape, *_ in _VARIABLES:
            values = self._scales[name][0] * _away_from_zero(generator, shape)
            initial = Tensor(self.dtype, shape, values)
            result.append(
                {"name": name, "shape": list(shape), "initial": initial, "constraint": None}
            )
        return result

    def steps(self):
        """The `steps` of every combination."""
        generator = np.random.default_rng(SEED + 1)
        result = []
        for step_scale in _STEP_SCALES:
            gradients = []
            for name, shape, *_ in _VARIABLES:
                scale = step_scale * self._scales[name][1]
                values = scale * _away_from_zero(generator, shape)
                gradients.append(Tensor(self.dtype, shape, values))
            result.append({"gradients": gradients})
        return result


def _away_from_zero(generator, shape):
    """Values of both signs with magnitudes between 0.3 and 1.7."""
    magnitude = generator.uniform(0.3, 1.7, shape)
    return magnitude * generator.choice([-1.0, 1.0], shape)
