"""The two kinds of family: a grid over shared inputs, and self-contained cases.

A family splits its work into chunks that run in any process and any order; each chunk's result is
plain, picklable data. `files` turns the results, in chunk order, into the texts of the folder.
"""

import json
import math

from ..cases import record
from ..grid import Grid
from ..numbers import to_json
from ..trace import outcome_of
from . import pack
from .grid_inputs import GridInputs


class SensitivityError(Exception):
    """The inputs do not tell apart what must differ, or tell apart what must not."""


class GridFamily:
    """Combinations of constructor arguments over inputs that all of them share."""

    kind = "grid"
    chunk_size = 96

    def __init__(self, identifier, dtype, purpose, strength=None, combinations=None):
        self.id = identifier
        self.dtypes = [dtype]
        self.dtype = dtype
        self.purpose = purpose
        self.inputs = GridInputs(dtype)
        self.grid = Grid(self.inputs.axes)
        self.strength = strength
        self._combinations = combinations

    @property
    def complete(self):
        """Whether it holds all combinations."""
        return len(self.combinations) == self.grid.size

    @property
    def combinations(self):
        """The numbers of the combinations that it holds, ascending."""
        if self._combinations is None:
            if self.strength is None:
                self._combinations = range(self.grid.size)
            else:
                self._combinations = self.grid.covering(self.strength)
        return self._combinations

    def sampled(self, count):
        """The same family with `count` of its combinations, spread over every axis."""
        held = len(self.combinations)
        stride = int(held * 0.618) | 1
        while math.gcd(stride, held) > 1:
            stride += 2
        picked = {self.combinations[(turn * stride) % held] for turn in range(min(count, held))}
        return GridFamily(self.id, self.dtype, self.purpose, self.strength, sorted(picked))

    def chunks(self):
        """The work in pieces: lists of combination numbers."""
        return _slices(self.combinations, self.chunk_size)

    def run(self, combinations):
        """Executes one chunk: a list of outcomes, and the series that they name."""
        from ..recorder import Refusal, Run

        variables, steps = self.inputs.variables(), self.inputs.steps()
        outcomes, series = [], {}
        for number in combinations:
            case = {
                "dtype": self.dtype,
                "arguments": self.grid.arguments(number),
                "variables": variables,
            }
            try:
                run = Run(case)
                states = [run.step(index, step) for index, step in enumerate(steps)]
                outcomes.append(outcome_of(None, states, series))
            except Refusal as refusal:
                outcomes.append(outcome_of(refusal.to_record(), None, series))
        return outcomes, series

    def generated(self):
        """Where it comes from, when not from where the manifest says."""
        return None

    def files(self, results):
        """The texts of the family's folder by name, and its counts."""
        outcomes, series = [], {}
        for chunk_outcomes, chunk_series in results:
            outcomes.extend(chunk_outcomes)
            series.update(chunk_series)
        self._check_sensitivity(outcomes)
        return pack.grid_files(self, outcomes, series)

    def _check_sensitivity(self, outcomes):
        """Equal predictions must give equal trajectories, different ones different ones."""
        trajectory_of, prediction_of = {}, {}
        for number, outcome in zip(self.combinations, outcomes):
            predicted = self.grid.predicted_class(number)
            seen = None if outcome.refusal else outcome.key()
            if (predicted is None) != (seen is None):
                raise SensitivityError(
                    f"{self.id}/{number}: refused {seen is None}, predicted otherwise"
                )
            first = trajectory_of.setdefault(predicted, (number, seen))
            if first[1] != seen:
                raise SensitivityError(
                    f"{self.id}: combinations {first[0]} and {number} must agree and do not"
                )
            other = prediction_of.setdefault(seen, (number, predicted))
            if other[1] != predicted:
                raise SensitivityError(
                    f"{self.id}: the inputs do not tell combination {other[0]} from {number}"
                )


class CasesFamily:
    """Self-contained cases, one a line."""

    kind = "cases"
    chunk_size = 8

    def __init__(self, identifier, purpose, define):
        self.id = identifier
        self.purpose = purpose
        self.define = define
        self._definitions = None

    def definitions(self):
        """The cases without what came out, sorted by id."""
        if self._definitions is None:
            definitions = [{**case, "family": self.id} for case in self.define()]
            self._definitions = sorted(definitions, key=lambda case: case["id"])
        return self._definitions

    @property
    def dtypes(self):
        """The element types that occur."""
        return sorted({case["dtype"] for case in self.definitions()})

    def sampled(self, _count):
        """All of it: the families of cases are cheap."""
        return self

    def chunks(self):
        """The work in pieces: lists of case ids."""
        return _slices([case["id"] for case in self.definitions()], self.chunk_size)

    def run(self, identifiers):
        """Records one chunk: a list of JSON lines and their counts."""
        wanted = set(identifiers)
        return [self.record(case) for case in self.definitions() if case["id"] in wanted]

    def record(self, definition):
        """One recorded case: its JSON and its counts."""
        case = record(definition)
        return to_json(case), pack.case_counts(case)

    def generated(self):
        """Where it comes from, when not from where the manifest says."""
        return None

    def files(self, results):
        """The texts of the family's folder by name, and its counts."""
        return pack.case_files([item for result in results for item in result])


def _slices(items, size):
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


class TwoOraclesFamily(CasesFamily):
    """Cases whose unnamed expectation another version of tf.keras records."""

    chunk_size = 1_000

    def __init__(self, identifier, purpose, define, here, oracle):
        super().__init__(identifier, purpose, define)
        self.here = here
        self.oracle = oracle

    def run(self, identifiers):
        """Records the cases in both, and puts the expectation from here under its name."""
        wanted = set(identifiers)
        definitions = [case for case in self.definitions() if case["id"] in wanted]
        there = self.oracle.record(definitions)
        return [self._merge(line, record(case)) for line, case in zip(there, definitions)]

    def _merge(self, line, here):
        """`line` is the JSON of the case as the other version recorded it."""
        there = json.loads(line)
        expected_in = to_json({self.here: _expectation(here, len(there["steps"]))})
        return f'{line[:-1]},"expected_in":{expected_in}}}', pack.case_counts(there)

    def generated(self):
        """Where the unnamed expectations come from."""
        return self.oracle.describe()


def _expectation(case, count):
    """What `expected_in` holds; null for the step that failed and for those after it."""
    steps = [step.get("expected") for step in case["steps"]]
    expectation = {"steps": steps + [None] * (count - len(steps))}
    for key in ("finalized", "expected_error"):
        if key in case:
            expectation[key] = case[key]
    return expectation
