"""Moves tf.keras's Adafactor to Goldstep and back. One file; needs numpy and tf.keras 2.12 to 2.15.

After training in tf.keras, with `variables` in the order in which the optimizer was built
(`model.trainable_variables` unless you built it yourself):

    import goldstep_keras
    goldstep_keras.export(optimizer, model.trainable_variables, "run.safetensors")

and in Rust `Checkpoint::load("run.safetensors")`. The other way round:

    optimizer = goldstep_keras.optimizer("run.safetensors")
    # where some do not decay: optimizer.exclude_from_weight_decay(var_names=[...])
    goldstep_keras.restore("run.safetensors", optimizer, model.trainable_variables)

The layout of the file is that of the crate goldstep-checkpoint, `goldstep-checkpoint/1`: what the
optimizer keeps, what the variables hold, and the constructor's arguments with the learning rate in
force. Constraints other than NonNeg cannot be expressed and are refused. Of a schedule that is not
one of tf.keras 2.12's the file only says that there was one: whoever resumes gives it again.
"""

import json
import math
import os
import zlib

import numpy as np

FORMAT = "goldstep-checkpoint/1"
# Whose arguments the file can hold; any other one has to be given again.
CUSTOM = "Custom"
SCHEDULES = (
    "ExponentialDecay",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "InverseTimeDecay",
    "CosineDecay",
    "CosineDecayRestarts",
)
DTYPES = {"float64": "F64", "float32": "F32", "bfloat16": "BF16", "float16": "F16"}
SIZES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}


def export(optimizer, variables, path, names=None):
    """Writes the optimizer's state and the variables' values; the file is replaced at once.

    `names` are the parameters' names in Goldstep; by default those of the variables without `:0`.
    """
    variables = list(variables)
    names = [v.name.split(":")[0] for v in variables] if names is None else list(names)
    _check(len(names) == len(variables), f"names must be {len(variables)}, got {len(names)}")
    _check(
        len(set(names)) == len(names), f"names must be unique, got {names}; give others by `names`"
    )
    iterations, slots = _slots(optimizer, variables)
    tensors = {}
    for name, variable, slot in zip(names, variables, slots):
        for kind, value in slot.items():
            if kind != "second_moment" or len(variable.shape) < 2:
                tensors[f"{kind}/{name}"] = value.numpy()
        tensors[f"variable/{name}"] = variable.numpy()
    parameters = [_parameter(optimizer, n, v) for n, v in zip(names, variables)]
    _write(path, iterations, _arguments(optimizer), parameters, tensors)


def optimizer(path):
    """A tf.keras Adafactor with the arguments of a checkpoint. `restore` gives it the state."""
    import tensorflow as tf

    document, _ = read(path)
    config = {key: _number(value) for key, value in document["arguments"].items()}
    rate = config["learning_rate"]
    _check(
        not (isinstance(rate, dict) and rate["class_name"] == CUSTOM),
        f"{path} was saved with a schedule of your own: construct the optimizer yourself",
    )
    _check(
        "second_moment_underflow" not in config,
        "second_moment_underflow must be match_keras, got finite: tf.keras has nothing like it",
    )
    return tf.keras.optimizers.experimental.Adafactor.from_config(config)


def restore(path, optimizer, variables, names=None):
    """Gives the state of a checkpoint to an optimizer and the saved values to the variables.

    Nothing is assigned before everything is checked. States that Goldstep kept in float32 for
    float16 and bfloat16 variables are rounded to the variable's type.
    """
    import tensorflow as tf

    variables = list(variables)
    names = [v.name.split(":")[0] for v in variables] if names is None else list(names)
    document, tensors = read(path)
    saved = [(p["name"], p["shape"], p["dtype"]) for p in document["parameters"]]
    own = [(n, v.shape.as_list(), v.dtype.base_dtype.name) for n, v in zip(names, variables)]
    for mine, theirs in zip(own, saved):
        _check(mine == theirs, f"parameter must be {mine}, got {theirs} in {path}")
    _check(len(own) == len(saved), f"{path} must hold {len(own)} parameters, got {len(saved)}")
    if optimizer.weight_decay:
        for parameter, variable in zip(document["parameters"], variables):
            decays = bool(optimizer._use_weight_decay(variable))
            _check(
                decays == parameter["weight_decay"],
                f"weight decay of {variable.name} must be {parameter['weight_decay']}, got {decays};"
                " call exclude_from_weight_decay as before",
            )
    rate = document["arguments"]["learning_rate"]
    scheduled = isinstance(
        optimizer._learning_rate, tf.keras.optimizers.schedules.LearningRateSchedule
    )
    _check(
        scheduled == isinstance(rate, dict),
        f"learning_rate must be {'a schedule' if isinstance(rate, dict) else 'a number'}"
        f" as in {path}, got {optimizer._learning_rate}",
    )
    if not getattr(optimizer, "_built", False):
        optimizer.build(variables)
    _, slots = _slots(optimizer, variables)
    assignments = [(optimizer.iterations, np.int64(document["iterations"]))]
    for name, variable, slot in zip(names, variables, slots):
        values = {kind: tensors.get(f"{kind}/{name}") for kind in slot}
        if len(variable.shape) >= 2:
            values["second_moment"] = _rebuilt(values["row_factor"], values["column_factor"])
        if "average" in slot and values["average"] is None:
            _check(document["iterations"] == 0, f"average/{name} must be in {path}, got none")
            # An average starts as its variable, whose saved value is not the one it was built with.
            values["average"] = tensors.get(f"variable/{name}", variable.numpy())
        assignments += [(slot[kind], value) for kind, value in values.items()]
        if f"variable/{name}" in tensors:
            assignments.append((variable, tensors[f"variable/{name}"]))
    for variable, value in assignments:
        variable.assign(np.asarray(value).astype(variable.dtype.base_dtype.as_numpy_dtype))
    if not scheduled:
        optimizer.learning_rate = _number(rate)


def read(path):
    """The JSON document and the tensors of a checkpoint, every checksum checked."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        _check(length < os.path.getsize(path), f"{path} must be a safetensors file")
        header, data = json.loads(file.read(length)), file.read()
    metadata = header.pop("__metadata__", {})
    _check("goldstep" in metadata, f"{path} must be a Goldstep checkpoint")
    text = metadata["goldstep"]
    document = json.loads(text)
    _check(document["format"] == FORMAT, f"format must be {FORMAT}, got {document['format']}")
    _check(metadata.get("goldstep_crc32") == _sum(text.encode()), "metadata must have its CRC-32")
    tensors = {}
    for name, entry in header.items():
        first, after = entry["data_offsets"]
        content = data[first:after]
        size = math.prod(entry["shape"]) * SIZES[entry["dtype"]]
        whole = len(content) == size and document["crc32"].get(name) == _sum(content)
        _check(whole, f"tensor {name} of {path} must have its CRC-32: its bytes are damaged")
        array = np.frombuffer(content, dtype=_numpy_dtype(entry["dtype"]))
        tensors[name] = array.reshape(entry["shape"])
    return document, tensors


def _slots(optimizer, variables):
    """Iterations, and per variable the slots by kind, from the order of `optimizer.variables`:
    the iteration, all averages (with use_ema), then r, c, v (rank >= 2) or v of each variable."""
    _check(getattr(optimizer, "_built", False), "optimizer must be built, got one without a step")
    remaining = list(optimizer.variables)
    iteration = remaining.pop(0)
    averages = [remaining.pop(0) for _ in variables] if optimizer.use_ema else []
    slots = []
    for index, variable in enumerate(variables):
        kinds = ["row_factor", "column_factor"] if len(variable.shape) >= 2 else []
        slot = {kind: remaining.pop(0) for kind in [*kinds, "second_moment"]}
        if averages:
            slot["average"] = averages[index]
        place = optimizer._index_dict.get(optimizer._var_key(variable))
        _check(
            place == index,
            f"variable {index} must be the one the optimizer was built with, got {variable.name}:"
            " give the list in build order",
        )
        slots.append(slot)
    # A constant learning rate is a variable of the optimizer, but not of this list in 2.12.
    rest = [v.name for v in remaining if "learning_rate" not in v.name]
    _check(not rest, f"variables must be all that the optimizer was built with, {rest} are left")
    return int(iteration.numpy()), slots


def _parameter(optimizer, name, variable):
    import tensorflow as tf

    constraint = getattr(variable, "constraint", None)
    known = constraint is None or isinstance(constraint, tf.keras.constraints.NonNeg)
    _check(known, f"constraint of {name} must be NonNeg or none, got {constraint}")
    return {
        "name": name,
        "shape": variable.shape.as_list(),
        "dtype": variable.dtype.base_dtype.name,
        "weight_decay": bool(optimizer._use_weight_decay(variable)),
        "constraint": None if constraint is None else {"type": "non_negative"},
    }


def _arguments(optimizer):
    """get_config() as JSON: numpy scalars as numbers, non-finite ones as strings."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(inner) for inner in value]
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return value

    config = plain(optimizer.get_config())
    rate = config["learning_rate"]
    if isinstance(rate, dict) and not _can_hold(type(optimizer._learning_rate), rate["config"]):
        config["learning_rate"] = {"class_name": CUSTOM, "config": {}}
    return config


def _can_hold(schedule, config):
    """Whether a file can: other classes of such a name are not Keras's, and later ones warm up."""
    from tensorflow.keras.optimizers import schedules

    name = schedule.__name__
    warms_up = config.get("warmup_target") is not None or config.get("warmup_steps")
    return name in SCHEDULES and schedule is getattr(schedules, name) and not warms_up


def _number(value):
    return float(value.lower()) if value in ("NaN", "Infinity", "-Infinity") else value


def _rebuilt(row, column):
    """The second moment as Keras keeps it beside its factors, though it never reads it back."""
    row, column = row.astype(np.float64), column.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = row / np.mean(row, axis=-1, keepdims=True) if row.size else row
        return np.nan_to_num(scaled)[..., None] * column[..., None, :]


def _write(path, iterations, arguments, parameters, tensors):
    data = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    order = sorted(data, key=lambda name: -data[name].dtype.itemsize)
    content = {name: data[name].tobytes() for name in order}
    document = {
        "format": FORMAT,
        "optimizer": "adafactor",
        "iterations": iterations,
        "arguments": arguments,
        "parameters": parameters,
        "crc32": {name: _sum(content[name]) for name in sorted(content)},
    }
    text = json.dumps(document)
    header = {"__metadata__": {"goldstep": text, "goldstep_crc32": _sum(text.encode())}}
    end = 0
    for name in order:
        first, end = end, end + len(content[name])
        shape, dtype = list(tensors[name].shape), DTYPES[data[name].dtype.name]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [first, end]}
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "wb") as file:
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for name in order:
            file.write(content[name])
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _numpy_dtype(name):
    if name == "BF16":
        import tensorflow as tf

        return tf.bfloat16.as_numpy_dtype
    return {"F64": np.float64, "F32": np.float32, "F16": np.float16}[name]


def _sum(content):
    return f"{zlib.crc32(content):08x}"


def _check(holds, message):
    if not holds:
        raise ValueError(message)
