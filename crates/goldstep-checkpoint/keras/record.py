"""Records migrations between tf.keras and Goldstep, and judges the way back. Needs tf.keras 2.12.1.

    python record.py refuse DIR    what an export must not, and must, put into a file
    python record.py record DIR    train in tf.keras, export after 5 steps, go on to 15
    python record.py judge DIR     import what Goldstep exported after 10 steps, go on to 15, judge

`cargo xtask migration` runs them with the Rust side between them; the small files of `record` are
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


class Warm(schedules.LearningRateSchedule):
    """A schedule of somebody's own."""

    def __call__(self, step):
        return 0.1 / (1.0 + tf.cast(step, tf.float32))

    def get_config(self):
        return {}


def refuse(directory):
    file = os.path.join(directory, "refuse.safetensors")
    pair = [tf.Variable([1.0, 2.0], name=name) for name in ("a", "b")]

    def refused(call, *words):
        try:
            call()
        except ValueError as error:
            assert all(word in str(error) for word in words), error
        else:
            raise AssertionError(f"must be refused: {words}")

    # States are never those of another variable of the same shape.
    trained = Adafactor(learning_rate=0.1)
    trained.apply_gradients(zip([tf.constant([1.0, 2.0]), tf.constant([3.0, 4.0])], pair))
    refused(lambda: goldstep_keras.export(trained, pair[::-1], file), "build order")
    goldstep_keras.export(trained, pair, file)
    refused(
        lambda: goldstep_keras.restore(file, trained, pair[::-1], names=["a", "b"]), "build order"
    )

    # Nothing is assigned before a schedule is seen to be in the place of a number.
    decaying = Adafactor(learning_rate=schedules.CosineDecay(0.1, 10))
    decaying.build(pair)
    refused(lambda: goldstep_keras.restore(file, decaying, pair), "learning_rate", "a number")
    assert int(decaying.iterations.numpy()) == 0
    goldstep_keras.export(decaying, pair, file)
    refused(lambda: goldstep_keras.restore(file, trained, pair), "learning_rate", "a schedule")

    # A schedule of one's own is named and given again.
    own = Adafactor(learning_rate=Warm())
    own.build(pair)
    goldstep_keras.export(own, pair, file)
    rate = goldstep_keras.read(file)[0]["arguments"]["learning_rate"]
    assert rate == {"class_name": "Custom", "config": {}}, rate
    refused(lambda: goldstep_keras.optimizer(file), "schedule of your own")
    goldstep_keras.restore(file, Adafactor(learning_rate=Warm()), pair)

    # Averages start from the saved values, not from those the variables were built with.
    fresh = Adafactor(use_ema=True)
    fresh.build(pair)
    document_file = os.path.join(directory, "fresh.safetensors")
    goldstep_keras.export(fresh, pair, document_file)
    _without_averages(document_file)
    others = [tf.Variable([5.0, 6.0], name=name) for name in ("a", "b")]
    restored = Adafactor(use_ema=True)
    goldstep_keras.restore(document_file, restored, others)
    averages = [a.numpy().tolist() for a in restored._model_variables_moving_average]
    assert averages == [v.numpy().tolist() for v in pair], averages
    print("refused and restored as it should be")


def _without_averages(file):
    """As Goldstep writes a file before the first step."""
    document, tensors = goldstep_keras.read(file)
    kept = {name: value for name, value in tensors.items() if not name.startswith("average/")}
    parts = (document["iterations"], document["arguments"], document["parameters"])
    goldstep_keras._write(file, *parts, kept)


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
    commands = {"refuse": refuse, "record": record, "judge": judge}
    if len(sys.argv) != 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](sys.argv[2])
