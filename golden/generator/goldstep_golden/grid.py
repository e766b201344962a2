"""The grid of constructor arguments: axes, combinations, and which of them must behave alike."""

import math


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
