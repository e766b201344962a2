"""Turns recorded families into the texts of their files: one record a line, sorted, LF."""

from ..numbers import to_json
from ..trace import states_id

FORMAT = "goldstep-trace/1"
_INDEX_ROW = 48
_SHARDED_FROM = 2_000


def grid_files(family, outcomes, series):
    """The texts of a grid's files by name, and its counts."""
    classes, states, errors, index = _classify(outcomes)
    texts = {
        "inputs.json": _inputs(family),
        "index.json": _index(family, errors, index),
        "classes.jsonl": _lines(classes),
        "states.jsonl": _lines(states[key] for key in sorted(states)),
        **_series_files(series),
    }
    counts = {
        "combinations": len(outcomes),
        "errors": sum(outcome.refusal is not None for outcome in outcomes),
        "trajectories": len(classes),
        "states": len(states),
        "series": len(series),
        "steps": len(family.inputs.steps()),
    }
    return texts, counts


def _classify(outcomes):
    """Numbers the trajectories and the refusals in the order in which they first occur."""
    classes, states, errors, index = [], {}, [], []
    class_of, error_of = {}, {}
    for outcome in outcomes:
        if outcome.refusal is not None:
            key = to_json(outcome.refusal)
            if key not in error_of:
                error_of[key] = len(errors)
                errors.append(outcome.refusal)
            index.append(-error_of[key] - 1)
            continue
        key = outcome.key()
        if key not in class_of:
            class_of[key] = len(classes)
            identifier = states_id(outcome.factors)
            r, c, v = outcome.factors
            states[identifier] = {"id": identifier, "r": r, "c": c, "v": v}
            classes.append(
                {
                    "class": class_of[key],
                    "iterations": outcome.iterations,
                    "learning_rate": outcome.learning_rate,
                    "states": identifier,
                    "variables": outcome.variables,
                    "ema": outcome.ema,
                }
            )
        index.append(class_of[key])
    return classes, states, errors, index


def _inputs(family):
    head = {"format": FORMAT, "family": family.id, "dtype": family.dtype}
    lists = {
        "axes": family.grid.axes,
        "variables": family.inputs.variables(),
        "steps": family.inputs.steps(),
    }
    return _document(head, lists)


def _index(family, errors, index):
    head = {"format": FORMAT, "family": family.id, "radices": family.grid.radices}
    if family.complete:
        head["combinations"] = None
        return _document(head, {"errors": errors, "classes": index})
    return _document(
        head, {"combinations": family.combinations, "errors": errors, "classes": index}
    )


def _document(head, lists):
    """One JSON object: a line for each of the lists' items, or for a row of numbers."""
    lines = [f"{to_json(key)}:{to_json(value)}" for key, value in head.items()]
    for key, items in lists.items():
        if items and isinstance(items[0], int):
            rows = [items[at : at + _INDEX_ROW] for at in range(0, len(items), _INDEX_ROW)]
            texts = [",".join(map(str, row)) for row in rows]
        else:
            texts = [to_json(item) for item in items]
        lines.append(f"{to_json(key)}:[\n" + ",\n".join(texts) + "\n]")
    return "{" + ",\n".join(lines) + "}\n"


def _series_files(series):
    ordered = [series[key] for key in sorted(series)]
    if len(ordered) < _SHARDED_FROM:
        return {"series.jsonl": _json_lines(one.to_json() for one in ordered)}
    shards = {digit: [] for digit in "0123456789abcdef"}
    for one in ordered:
        shards[one.id[0]].append(one.to_json())
    return {f"series-{digit}.jsonl": _json_lines(lines) for digit, lines in shards.items()}


def case_files(recorded):
    """cases.jsonl and the counts, from pairs of a case's JSON and its counts."""
    counts = {"cases": len(recorded), "steps": 0, "compared_steps": 0, "errors": 0}
    for _, case_count in recorded:
        for key, value in case_count.items():
            counts[key] += value
    return {"cases.jsonl": _json_lines(line for line, _ in recorded)}, counts


def case_counts(case):
    """What a case adds to the counts of its family."""
    return {
        "steps": len(case["steps"]),
        "compared_steps": sum("expected" in step for step in case["steps"]),
        "errors": int("expected_error" in case),
    }


def _lines(records):
    return _json_lines(to_json(record) for record in records)


def _json_lines(lines):
    return "".join(line + "\n" for line in lines)
