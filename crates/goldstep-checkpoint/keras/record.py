"""Records migrations between tf.keras and Goldstep, and judges the way back. Needs tf.keras 2.12.1.

    python record.py record DIR    train in tf.keras, export after 5 steps, go on to 15
    python record.py judge DIR     import what Goldstep exported after 10 steps, go on to 15, judge

`cargo xtask migration` runs both with the Rust side between them; the small files of `record` are
committed beside the Rust test, which needs no Python.

For each case CASE there are CASE.exported.safetensors (the checkpoint after 5 steps),
CASE.gradients.safetensors (STEP/NAME, from step 6 on) and CASE.expected-STEP.safetensors (the
checkpoint of tf.keras after 10 and after 15 steps).
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import goldstep_keras
import numpy as np
import tensorflow as tf

EXPORTED, CONTINUED, END = 5, 10, 15
Adafactor = tf.keras.optimizers.experimental.Adafactor
schedules = tf.keras.optimizers.schedules

SHAPES = {"dense/kernel": (6, 4), "dense/bias": (4,), "scale": (), "stack": (2, 3, 5)}
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}

CASES = {
    "constant-float32": ("float32", {"learning_rate": 0.05}),
    "schedule-float32": (
        "float32",
        {
            "learning_rate": schedules.ExponentialDecay(0.3, 4, 0.7),
            "weight_decay": 0.01,
            "use_ema": True,
            "ema_momentum": 0.9,
            "ema_overwrite_frequency": 4,
            "global_clipnorm": 2.0,
        },
    ),
    "restarts-float64": (
        "float64",
        {
            "learning_rate": schedules.CosineDecayRestarts(0.2, 4),
            "clipvalue": 1.5,
            "epsilon_2": 0.01,
        },
    ),
    "ema-bfloat16": ("bfloat16", {"learning_rate": 0.1, "use_ema": True, "ema_momentum": 0.5}),
    "decay-float16": ("float16", {"learning_rate": 0.1, "weight_decay": 0.05}),
}


def build(case):
    dtype, arguments = CASES[case]
    # Not hash(), which differs from run to run.
    seed = sum(case.encode())
    generator = np.random.default_rng(seed)

    def draw(shape):
        return tf.cast(tf.constant(generator.uniform(-1, 1, shape)), dtype)

    # The constraint computes in float32 whatever the variable's type.
    nonneg = tf.keras.constraints.NonNeg() if dtype == "float32" else None
    variables = [
        tf.Variable(draw(shape), name=name, constraint=nonneg if name == "scale" else None)
        for name, shape in SHAPES.items()
    ]
    gradients = [[draw(shape) for shape in SHAPES.values()] for _ in range(END)]
    optimizer = Adafactor(**arguments)
    if optimizer.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "scale"])
    return optimizer, variables, gradients


def path(directory, case, part):
    return os.path.join(directory, f"{case}.{part}.safetensors")


def record(directory):
    for case in CASES:
        optimizer, variables, gradients = build(case)
        tensors = {}
        for step in range(1, END + 1):
            optimizer.apply_gradients(zip(gradients[step - 1], variables))
            if step == EXPORTED:
                goldstep_keras.export(optimizer, variables, path(directory, case, "exported"))
            if step in (CONTINUED, END):
                goldstep_keras.export(
                    optimizer, variables, path(directory, case, f"expected-{step}")
                )
        for step in range(EXPORTED + 1, CONTINUED + 1):
            for name, gradient in zip(SHAPES, gradients[step - 1]):
                tensors[f"{step}/{name}"] = gradient.numpy()
        goldstep_keras._write(path(directory, case, "gradients"), 0, {}, [], tensors)
        print(f"{case}: recorded")


def judge(directory):
    failures = 0
    for case, (dtype, _) in CASES.items():
        _, variables, gradients = build(case)
        optimizer = goldstep_keras.optimizer(path(directory, case, "continued"))
        if optimizer.weight_decay:
            optimizer.exclude_from_weight_decay(var_names=["bias", "scale"])
        goldstep_keras.restore(path(directory, case, "continued"), optimizer, variables)
        scale = {name: np.abs(v.numpy().astype(float)).max() for name, v in zip(SHAPES, variables)}
        for step in range(CONTINUED + 1, END + 1):
            optimizer.apply_gradients(zip(gradients[step - 1], variables))
            for name, variable in zip(SHAPES, variables):
                largest = np.abs(variable.numpy().astype(float)).max()
                scale[name] = max(scale[name], largest)
        actual = path(directory, case, "judged")
        goldstep_keras.export(optimizer, variables, actual)
        worst = compare(path(directory, case, f"expected-{END}"), actual, EPSILON[dtype], scale)
        failures += not worst <= 1
        verdict = "agrees" if worst <= 1 else "differs"
        print(f"{case}: back in tf.keras {verdict}, worst {worst:.3f} of what is allowed")
    sys.exit(min(failures, 1))


def compare(expected, actual, epsilon, scale):
    """The largest error as a share of what free-running agreement allows."""
    (document, wanted), (again, got) = goldstep_keras.read(expected), goldstep_keras.read(actual)
    assert document["iterations"] == again["iterations"] and wanted.keys() == got.keys()
    assert document["arguments"] == again["arguments"], (document, again)
    assert document["parameters"] == again["parameters"]
    worst = 0.0
    for name, value in wanted.items():
        kind, parameter = name.split("/", 1)
        value, other = value.astype(float), got[name].astype(float)
        if kind in ("variable", "average"):
            allowed = (4 + END / 4) * epsilon * scale[parameter]
        else:
            allowed = 24 * epsilon * np.abs(value) + 2.0**-126
        # Unlike max, it keeps a NaN, which then exceeds what is allowed.
        worst = np.maximum(worst, np.max(np.abs(value - other) / allowed))
    return float(worst)


if __name__ == "__main__":
    commands = {"record": record, "judge": judge}
    if len(sys.argv) != 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](sys.argv[2])
