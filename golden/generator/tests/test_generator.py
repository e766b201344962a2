"""What can be tested without TensorFlow: `python -m unittest discover -s tests`."""

import itertools
import json
import sys
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from goldstep_golden import numbers  # noqa: E402
from goldstep_golden.cases import parse  # noqa: E402
from goldstep_golden.families import registry  # noqa: E402
from goldstep_golden.families.base import SensitivityError  # noqa: E402
from goldstep_golden.families.build import Draw  # noqa: E402
from goldstep_golden.numbers import ELEMENT_TYPES, Tensor, decimal, to_json  # noqa: E402
from goldstep_golden.trace import Outcome, Series  # noqa: E402


class Numbers(unittest.TestCase):
    """Canonical decimals and element types."""

    def test_the_shorter_form_is_written(self):
        """Positional where both are as long; JSON has no word for what is not finite."""
        written = [
            (0.0, "0"),
            (-0.0, "-0.0"),
            (1.0, "1"),
            (100.0, "100"),
            (1000.0, "1e3"),
            (0.01, "0.01"),
            (0.001, "1e-3"),
            (1e20, "1e20"),
            (-1.3115754, "-1.3115754"),
            (float("inf"), '"Infinity"'),
            (float("-inf"), '"-Infinity"'),
            (float("nan"), '"NaN"'),
        ]
        for value, text in written:
            self.assertEqual(decimal(np.float32(value)), text)

    def test_decimals_come_back(self):
        """Any float32 and float64, through the float64 of a JSON parser."""
        bits = np.random.default_rng(1).integers(0, 2**32, 20_000, dtype=np.uint32)
        for value in bits.view(np.float32):
            if np.isfinite(value):
                self.assertEqual(np.float32(json.loads(decimal(value))), value)
        for value in np.random.default_rng(2).standard_normal(20_000):
            self.assertEqual(json.loads(decimal(value)), value)

    def test_bfloat16_rounds_to_even(self):
        """Eight bits: neighbours of 1 are 2^-7 apart above it."""
        bfloat16 = ELEMENT_TYPES["bfloat16"]
        values = [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 3.4e38, float("nan")]
        rounded = bfloat16.round(values)
        np.testing.assert_array_equal(
            rounded, [1.0, 1 + 2**-6, 1 + 2**-7, float("inf"), float("nan")]
        )
        self.assertEqual(bfloat16.to_bytes(rounded)[:4], b"\x80\x3f\x82\x3f")

    def test_float16_is_carried_by_float32(self):
        """With the bytes of float16."""
        tensor = Tensor("float16", (2,), [0.1, 70_000.0])
        self.assertEqual(to_json(tensor), '[0.099975586,"Infinity"]')
        self.assertEqual(tensor.to_bytes(), np.array([0.1, np.inf], "<f2").tobytes())

    def test_large_tensors_must_repeat(self):
        """Only the part that repeats is written."""
        count = numbers.TILED_FROM
        tensor = Tensor("float32", (count,), np.resize([1.0, 1.0, 2.0], count))
        self.assertEqual(to_json(tensor), '{"tiled":[1,1,2]}')
        with self.assertRaises(ValueError):
            to_json(Tensor("float32", (count,), np.arange(count)))

    def test_a_shape_fits_its_values(self):
        """A scalar has one value, an empty tensor none."""
        self.assertEqual(Tensor("float64", (), 3.0).values.tolist(), [3.0])
        self.assertEqual(Tensor("float64", (2, 0), []).values.size, 0)
        with self.assertRaises(ValueError):
            Tensor("float64", (2, 2), [1.0])


class Grids(unittest.TestCase):
    """Numbers of combinations, coverings, the sensitivity gate."""

    def test_numbers_are_mixed_radix(self):
        """The first axis is the slowest."""
        grid = registry()["grid-f32"].grid
        self.assertEqual(grid.size, 36_864)
        self.assertEqual(grid.number(grid.digits(12_345)), 12_345)
        first, second = grid.arguments(0), grid.arguments(1)
        self.assertEqual([name for name in first if first[name] != second[name]], ["jit_compile"])
        slow = grid.arguments(grid.size // 3)
        self.assertEqual([name for name in first if first[name] != slow[name]], ["learning_rate"])

    def test_the_predicted_trajectories(self):
        """2,688 of them, and a quarter of the combinations refused."""
        grid = registry()["grid-f32"].grid
        predicted = [grid.predicted_class(number) for number in range(grid.size)]
        self.assertEqual(predicted.count(None), 9_216)
        self.assertEqual(len(set(predicted) - {None}), 2_688)

    def test_a_covering_meets_everything(self):
        """All values of any three axes."""
        grid = registry()["grid-f64"].grid
        digits = [grid.digits(number) for number in grid.covering(3)]
        for axes in itertools.combinations(range(len(grid.radices)), 3):
            met = {tuple(each[axis] for axis in axes) for each in digits}
            wanted = itertools.product(*(range(grid.radices[axis]) for axis in axes))
            self.assertEqual(met, set(wanted), axes)

    def test_the_gate_sees_what_the_inputs_hide(self):
        """Combinations that must differ and do not, and the other way round."""
        family = registry()["grid-f32"].sampled(40)
        outcomes = [_outcome(family.grid.predicted_class(n)) for n in family.combinations]
        family._check_sensitivity(outcomes)
        accepted = [index for index, outcome in enumerate(outcomes) if not outcome.refusal]
        hidden = list(outcomes)
        hidden[accepted[1]] = hidden[accepted[0]]
        with self.assertRaisesRegex(SensitivityError, "do not tell combination"):
            family._check_sensitivity(hidden)

    def test_series_are_addressed_by_content(self):
        """The same bytes in another shape are another series."""
        flat, square = (Tensor("float32", shape, [1, 2, 3, 4]) for shape in ((4,), (2, 2)))
        self.assertEqual(Series([flat]).id, Series([Tensor("float32", (4,), [1, 2, 3, 4])]).id)
        self.assertEqual(Series([flat]).sha256, Series([square]).sha256)
        self.assertNotEqual(Series([flat]).id, Series([square]).id)


class Cases(unittest.TestCase):
    """The definitions of all families."""

    def test_definitions_are_consistent(self):
        """Ids are unique, and every step has one gradient for each variable."""
        seen = set()
        for family in registry().values():
            if family.kind != "cases":
                continue
            for case in family.definitions():
                self.assertNotIn(case["id"], seen)
                seen.add(case["id"])
                for step in case["steps"]:
                    self.assertEqual(len(step["gradients"]), len(case["variables"]), case["id"])

    def test_definitions_survive_json(self):
        """What the other interpreter reads is what was defined."""
        for family in ("known-differences", "sparse", "schedules", "values"):
            for case in registry()[family].definitions():
                again = parse(to_json(case))
                self.assertEqual(to_json(_question(again)), to_json(_question(case)))

    def test_a_case_draws_from_its_id_alone(self):
        """Or adding one would change others."""
        first, again = Draw("a").values((3,)), Draw("a").values((3,))
        np.testing.assert_array_equal(first, again)
        self.assertFalse(np.array_equal(first, Draw("b").values((3,))))


def _outcome(predicted):
    """An outcome that is distinct for each prediction."""
    outcome = Outcome()
    outcome.refusal = {"stage": "construct"} if predicted is None else None
    outcome.iterations, outcome.learning_rate, outcome.factors = (1,), (0.5,), ()
    outcome.variables, outcome.ema = (predicted,), None
    return outcome


def _question(case):
    inputs = ("learning_rate", "gradients")
    steps = [{key: step[key] for key in inputs if key in step} for step in case["steps"]]
    return [steps, *(case[key] for key in ("id", "dtype", "arguments", "variables"))]


if __name__ == "__main__":
    unittest.main()
