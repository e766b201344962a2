"""An adapter for Goldstep: `cargo xtask adapter check -- python3 THIS_FILE`, then
`cargo xtask verify --adapter 'python3 THIS_FILE'`. Fill in `Optimizer`, announce what it does."""

import json
import sys

START = {
    "implementation": {"name": "mine", "version": "1", "language": "Python", "source": "here"},
    "capabilities": {
        "dtypes": ["float64"], "arguments": ["learning_rate"], "schedules": [], "sparse": False,
        "ema": False, "constraints": False, "exclude": False, "set_learning_rate": False,
        "finalize": False, "states": [], "set_state": True, "intermediates": [],
        "base64": False, "expectation": "goldstep",
    },
}  # fmt: skip


class Optimizer:
    """Plain gradient descent, until you put your optimizer here. Tensors are flat lists."""

    def __init__(self, message):
        self.learning_rate = message["arguments"].get("learning_rate", 0.001)
        self.variables = [numbers(variable["initial"]) for variable in message["variables"]]
        self.iterations = 0

    def set_state(self, message):
        self.iterations = message["iterations"]
        self.variables = [numbers(values) for values in message["variables"]]

    def step(self, message):
        for x, gradient in zip(self.variables, message["gradients"]):
            for i, g in enumerate(numbers(gradient or [])):  # null: x stays
                x[i] -= self.learning_rate * g
        self.iterations += 1
        values = [strings(x) for x in self.variables]
        return dict(iterations=self.iterations, learning_rate=self.learning_rate, variables=values)


def numbers(values):
    """JSON has no NaN and no infinity: they come as "NaN", "Infinity", "-Infinity"."""
    return [float(value) for value in values]


def strings(values):
    """The other way round."""
    names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return [names.get(str(value), value) for value in values]


for message in map(json.loads, sys.stdin):
    answer, command = {"seq": message.get("seq")}, message["command"]
    if command == "stop":
        break
    if command == "start":
        answer = START
    elif command == "build":
        optimizer = Optimizer(message)
    else:
        answer.update(getattr(optimizer, command)(message) or {})
    print(json.dumps(answer), flush=True)
