"""transformers.optimization.Adafactor.

`--settings closest` scales by the parameter and is given Keras's rate min(learning_rate, 1/√t);
`--settings relative` lets it choose its own rate, as its default does;
`--settings t5` is what its documentation recommends for T5: a plain rate, no parameter scale.
"""

import argparse
import math

import numpy as np
import torch
import transformers
from transformers.optimization import Adafactor

from goldstep_adapter import Optimizer, Skip, Step, capabilities, serve

ARGUMENTS = """
    learning_rate beta_2_decay epsilon_1 epsilon_2 clip_threshold relative_step weight_decay
    jit_compile name
"""

torch.set_num_threads(1)


class Transformers(Optimizer):
    """One parameter group in the order of the case."""

    def __init__(self, settings):
        self.settings = settings

    def build(self, dtype, arguments, exclude, variables):
        self.dtype = getattr(torch, dtype)
        self.parameters = [
            torch.nn.Parameter(torch.tensor(variable.initial).to(self.dtype))
            for variable in variables
        ]
        relative = self.settings == "relative"
        self.learning_rate = arguments.get("learning_rate", 0.001)
        self.optimizer = Adafactor(
            self.parameters,
            lr=None if relative else self.learning_rate,
            eps=(arguments.get("epsilon_1", 1e-30), arguments.get("epsilon_2", 0.001)),
            clip_threshold=arguments.get("clip_threshold", 1.0),
            decay_rate=arguments.get("beta_2_decay", -0.8),
            weight_decay=arguments.get("weight_decay") or 0.0,
            scale_parameter=self.settings != "t5",
            relative_step=relative,
            warmup_init=False,
        )
        self.iterations = 0

    def set_state(self, iterations, variables, r, c, v, ema):
        self.iterations = iterations
        for parameter, x, row, column, full in zip(self.parameters, variables, r, c, v):
            parameter.data.copy_(torch.tensor(x))
            state = {"step": iterations, "RMS": 0}
            if row is not None:
                state["exp_avg_sq_row"] = torch.tensor(row).float()
                state["exp_avg_sq_col"] = torch.tensor(column).float()
            elif full is not None:
                state["exp_avg_sq"] = torch.tensor(full).float()
            else:
                raise Skip("a state without its second moment")
            self.optimizer.state[parameter] = state

    def step(self, learning_rate, gradients):
        if learning_rate is not None:
            self.learning_rate = learning_rate
        if self.settings == "closest":
            rate = min(self.learning_rate, 1 / math.sqrt(self.iterations + 1))
            self.optimizer.param_groups[0]["lr"] = rate
        elif self.settings == "t5":
            self.optimizer.param_groups[0]["lr"] = self.learning_rate
        for parameter, gradient in zip(self.parameters, gradients):
            parameter.grad = None
            if gradient is not None:
                parameter.grad = torch.tensor(gradient).to(self.dtype)
        self.optimizer.step()
        self.iterations += 1
        states = [self.optimizer.state.get(parameter, {}) for parameter in self.parameters]

        def field(name):
            return [_array(state[name]) if name in state else None for state in states]

        return Step(
            self.iterations,
            np.float32(self.learning_rate),
            [_array(parameter.data) for parameter in self.parameters],
            field("exp_avg_sq_row"),
            field("exp_avg_sq_col"),
            [_second_moment(state) for state in states],
        )


def _second_moment(state):
    if "exp_avg_sq" in state:
        return _array(state["exp_avg_sq"])
    if "exp_avg_sq_row" not in state:
        return None
    row, column = state["exp_avg_sq_row"], state["exp_avg_sq_col"]
    return _array((row / row.mean(dim=-1, keepdim=True)).unsqueeze(-1) * column.unsqueeze(-2))


def _array(tensor):
    return tensor.detach().to(torch.float64).numpy()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", choices=["closest", "relative", "t5"], default="closest")
    settings = parser.parse_args().settings
    announced = capabilities(
        dtypes=["float64", "float32", "bfloat16", "float16"],
        arguments=ARGUMENTS.split(),
        set_learning_rate=True,
        states=["r", "c", "v"],
        set_state=True,
    )
    version = transformers.__version__
    source = "https://pypi.org/project/transformers/"
    serve(Transformers(settings), f"transformers ({settings})", version, source, announced)
