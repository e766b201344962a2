"""Packs the trajectories of a grid: content-addressed series, states, classes and the index.

series   all steps of one tensor, under the first digits of its sha256
states   the series of r, c and v of every variable; learning rate, decay and EMA do not touch them
classes  one whole trajectory: learning rates, states, and the series of every variable and average
index    combination number to class, or to an error
"""

from .numbers import sha256, to_json

ID_DIGITS = 10


class Outcome:
    """What one combination did: a refusal, or a trajectory as ids of series."""

    __slots__ = ("refusal", "iterations", "learning_rate", "factors", "variables", "ema")

    def key(self):
        """Equal for equal trajectories."""
        return (
            self.iterations,
            tuple(float(rate) for rate in self.learning_rate),
            self.factors,
            self.variables,
            self.ema,
        )


class Series:
    """The steps of one tensor. Its id is content-addressed over the shape and the bytes."""

    __slots__ = ("id", "sha256", "tensors")

    def __init__(self, tensors):
        self.tensors = tensors
        self.sha256 = sha256(b"".join(tensor.to_bytes() for tensor in tensors))
        shape = ",".join(map(str, tensors[0].shape))
        self.id = sha256(f"[{shape}]{self.sha256}".encode())[:ID_DIGITS]

    def to_json(self):
        """One line of a series file."""
        return to_json(
            {
                "id": self.id,
                "shape": list(self.tensors[0].shape),
                "values": self.tensors,
                "sha256": self.sha256,
            }
        )


def outcome_of(refusal, states, series):
    """Notes a trajectory; adds its series to `series`, a dictionary from id to Series."""
    outcome = Outcome()
    outcome.refusal = refusal
    if refusal is not None:
        return outcome

    def ids(field):
        per_variable = zip(*(getattr(state, field) for state in states))
        return tuple(
            None if tensors[0] is None else _add(series, tensors) for tensors in per_variable
        )

    outcome.iterations = tuple(state.iterations for state in states)
    outcome.learning_rate = tuple(state.learning_rate for state in states)
    outcome.factors = (ids("r"), ids("c"), ids("v"))
    outcome.variables = ids("variables")
    outcome.ema = ids("ema") if states[0].ema is not None else None
    return outcome


def _add(series, tensors):
    one = Series(list(tensors))
    known = series.setdefault(one.id, one)
    if known.sha256 != one.sha256:
        raise RuntimeError(f"two series share the id {one.id}: raise ID_DIGITS")
    return one.id


def states_id(factors):
    """The content-addressed id of a record of r, c and v."""
    return sha256(to_json(factors).encode())[:ID_DIGITS]
