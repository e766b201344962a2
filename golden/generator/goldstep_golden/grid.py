"""The grid of constructor arguments: axes, combinations, and which of them must behave alike."""

import itertools
import math
import random

_POOL = 30


class Grid:
    """Axes of argument values over inputs that all combinations share.

    A combination's number is mixed radix over the axes, the first axis the slowest.
    """

    def __init__(self, axes):
        self.axes = axes
        self.radices = [len(values) for _, values in axes]
        self.size = math.prod(self.radices)

    def digits(self, number):
        """The index into each axis."""
        digits = []
        for radix in reversed(self.radices):
            number, digit = divmod(number, radix)
            digits.append(digit)
        return tuple(reversed(digits))

    def number(self, digits):
        """The combination number of an index into each axis."""
        number = 0
        for radix, digit in zip(self.radices, digits):
            number = number * radix + digit
        return number

    def arguments(self, number):
        """The constructor's arguments of a combination, every one of them named."""
        return {
            name: values[digit] for (name, values), digit in zip(self.axes, self.digits(number))
        }

    def predicted_class(self, number):
        """The arguments that can matter in this combination; None where tf.keras refuses it.

        Two combinations with equal predictions must leave equal trajectories, and two with
        different ones different trajectories: the sensitivity gate.
        """
        arguments = self.arguments(number)
        if arguments["clipnorm"] is not None and arguments["global_clipnorm"] is not None:
            return None
        del arguments["relative_step"], arguments["jit_compile"]
        if arguments["clipnorm"] is not None or arguments["global_clipnorm"] is not None:
            del arguments["clipvalue"]
        if not arguments["use_ema"]:
            del arguments["ema_momentum"], arguments["ema_overwrite_frequency"]
        return repr(sorted(arguments.items()))

    def covering(self, strength):
        """Numbers of combinations in which all values of any `strength` axes meet, ascending.

        Greedy: of some random combinations the one is taken that meets most of what has not met.
        What a refused combination meets counts only where no other one could meet it.
        """
        source = random.Random(strength)
        missing = self._meetings(strength)
        chosen = []
        while missing:
            seed = min(missing)
            pool = [self._around(seed, source) for _ in range(_POOL)]
            best = max(pool, key=lambda digits: len(missing & self._met(digits, strength)))
            missing -= self._met(best, strength)
            chosen.append(self.number(best))
        return sorted(chosen)

    def _meetings(self, strength):
        """All choices of values of `strength` axes: tuples of (axis, digit)."""
        return {
            tuple(zip(axes, digits))
            for axes in itertools.combinations(range(len(self.radices)), strength)
            for digits in itertools.product(*(range(self.radices[axis]) for axis in axes))
        }

    def _around(self, meeting, source):
        """A random combination with these values, refused only if the values ask for it."""
        fixed = dict(meeting)
        while True:
            digits = tuple(
                fixed.get(axis, int(source.random() * radix))
                for axis, radix in enumerate(self.radices)
            )
            if not self._refused(digits) or self._asks_for_refusal(fixed):
                return digits

    def _met(self, digits, strength):
        """What a combination meets."""
        met = set(itertools.combinations(enumerate(digits), strength))
        if self._refused(digits):
            met = {meeting for meeting in met if self._asks_for_refusal(dict(meeting))}
        return met

    def _refused(self, digits):
        return self._asks_for_refusal(dict(enumerate(digits)))

    def _asks_for_refusal(self, fixed):
        names = [name for name, _ in self.axes]
        return all(fixed.get(names.index(name), 0) != 0 for name in ("clipnorm", "global_clipnorm"))
