"""Self-contained cases (`goldstep-case/1`): definitions in, recorded cases out.

A definition is a case without expectations, plus two keys that only the generator knows: `finalize`
on the case (call `finalize_variable_values` at the end) and `record: False` on a step that shall
not be compared.
"""

import json

import numpy as np

from .numbers import Tensor

FORMAT = "goldstep-case/1"

_INTEGER_ARGUMENTS = {"ema_overwrite_frequency"}


def record(definition):
    """Runs a definition in tf.keras; returns the case with what came out."""
    from .recorder import Refusal, Run

    steps = []
    finalized = None
    refusal = None
    try:
        run = Run(definition)
        for index, step in enumerate(definition["steps"]):
            recorded = {key: step[key] for key in ("learning_rate", "gradients") if key in step}
            steps.append(recorded)
            state = run.step(index, step)
            if step.get("record", True):
                recorded["expected"] = state.to_record()
        if definition.get("finalize"):
            finalized = run.finalize()
    except Refusal as error:
        refusal = error.to_record()
    return _assemble(definition, steps, finalized, refusal)


def _assemble(definition, steps, finalized, refusal):
    case = {"format": FORMAT}
    for key in ("id", "family", "comment", "flags", "dtype", "arguments"):
        case[key] = definition[key]
    if definition.get("exclude_from_weight_decay") is not None:
        case["exclude_from_weight_decay"] = definition["exclude_from_weight_decay"]
    case["variables"] = definition["variables"]
    if refusal is not None and refusal["stage"] == "construct":
        steps = [{"gradients": step["gradients"]} for step in definition["steps"]]
    case["steps"] = steps
    if finalized is not None:
        case["finalized"] = finalized
    if refusal is not None:
        case["expected_error"] = refusal
    return case


def parse(line):
    """A definition from the JSON of a case; what it expects only shows what to record."""
    case = json.loads(line)
    dtype = case["dtype"]
    shapes = [variable["shape"] for variable in case["variables"]]
    definition = {
        key: case[key] for key in ("id", "family", "comment", "flags", "dtype") if key in case
    }
    definition["arguments"] = {
        name: _argument(name, value) for name, value in case["arguments"].items()
    }
    definition["exclude_from_weight_decay"] = case.get("exclude_from_weight_decay")
    definition["variables"] = [_parse_variable(dtype, spec) for spec in case["variables"]]
    definition["steps"] = [_parse_step(dtype, step, shapes) for step in case["steps"]]
    definition["finalize"] = case.get("finalize", "finalized" in case)
    return definition


def _parse_variable(dtype, spec):
    constraint = spec.get("constraint")
    if constraint is not None and constraint["type"] == "clip":
        bounds = {key: _number(constraint[key]) for key in ("minimum", "maximum")}
        constraint = {"type": "clip", **bounds}
    initial = _tensor(dtype, spec["shape"], spec["initial"])
    return {**spec, "initial": initial, "constraint": constraint}


def _parse_step(dtype, step, shapes):
    parsed = {}
    if step.get("learning_rate") is not None:
        parsed["learning_rate"] = _argument("learning_rate", step["learning_rate"])
    parsed["gradients"] = [
        _parse_gradient(dtype, gradient, shape)
        for gradient, shape in zip(step["gradients"], shapes)
    ]
    parsed["record"] = step.get("record", True)
    return parsed


def _parse_gradient(dtype, gradient, shape):
    if gradient is None:
        return None
    if isinstance(gradient, dict) and "indices" in gradient:
        rows = [len(gradient["indices"]), *shape[1:]]
        return {"indices": gradient["indices"], "values": _tensor(dtype, rows, gradient["values"])}
    return _tensor(dtype, shape, gradient)


def _argument(name, value):
    """Keras tells 1 from 1.0 in places; JSON does not."""
    if isinstance(value, dict) and name == "learning_rate":
        config = {key: _config_value(key, item) for key, item in value["config"].items()}
        return {"class_name": value["class_name"], "config": config}
    if isinstance(value, bool) or value is None or name in _INTEGER_ARGUMENTS or name == "name":
        return value
    return _number(value)


def _config_value(key, value):
    if (
        isinstance(value, (bool, str))
        or value is None
        or key in ("decay_steps", "first_decay_steps", "boundaries")
    ):
        return value
    if isinstance(value, list):
        return [_number(item) for item in value]
    return _number(value)


def _number(value):
    return float(value.replace("Infinity", "inf")) if isinstance(value, str) else float(value)


def _tensor(dtype, shape, values):
    if isinstance(values, dict):
        listed = values["tiled"]
        values = [listed[index % len(listed)] for index in range(int(np.prod(shape)))]
    return Tensor(dtype, shape, np.array([_number(value) for value in values], np.float64))
