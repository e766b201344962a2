"""torch.optim.Adafactor, with every setting that Keras has as well.

`--settings defaults` leaves epsilon_1 at torch's own default, the machine epsilon of the type.
"""

import argparse

import numpy as np
import torch

from goldstep_adapter import Optimizer, Skip, Step, capabilities, serve

ARGUMENTS = """
    learning_rate beta_2_decay epsilon_1 epsilon_2 clip_threshold relative_step weight_decay
    jit_compile name
"""

torch.set_num_threads(1)


class Torch(Optimizer):
    """One parameter group in the order of the case."""

    def __init__(self, settings):
        self.settings = settings

    def build(self, dtype, arguments, exclude, variables):
        self.dtype = getattr(torch, dtype)
        self.parameters = [
            torch.nn.Parameter(torch.tensor(variable.initial).to(self.dtype))
            for variable in variables
        ]
        epsilon_1 = arguments.get("epsilon_1", 1e-30)
        self.optimizer = torch.optim.Adafactor(
            self.parameters,
            lr=arguments.get("learning_rate", 0.001),
            beta2_decay=arguments.get("beta_2_decay", -0.8),
            eps=(
                None if self.settings == "defaults" else epsilon_1,
                arguments.get("epsilon_2", 0.001),
            ),
            d=arguments.get("clip_threshold", 1.0),
            weight_decay=arguments.get("weight_decay") or 0.0,
            foreach=False,
        )
        self.iterations = 0

    def set_state(self, iterations, variables, r, c, v, ema):
        self.iterations = iterations
        for parameter, x, row, column, full in zip(self.parameters, variables, r, c, v):
            parameter.data.copy_(torch.tensor(x))
            state = {"step": torch.tensor(float(iterations))}
            if row is not None:
                state["row_var"] = self._tensor(row).unsqueeze(-1)
                state["col_var"] = self._tensor(column).unsqueeze(-2)
            elif full is not None:
                state["variance"] = self._tensor(full)
            else:
                raise Skip("a state without its second moment")
            self.optimizer.state[parameter] = state

    def step(self, learning_rate, gradients):
        if learning_rate is not None:
            self.optimizer.param_groups[0]["lr"] = learning_rate
        for parameter, gradient in zip(self.parameters, gradients):
            parameter.grad = None if gradient is None else self._tensor(gradient)
        self.optimizer.step()
        self.iterations += 1
        states = [self.optimizer.state.get(parameter, {}) for parameter in self.parameters]
        return Step(
            self.iterations,
            np.float32(self.optimizer.param_groups[0]["lr"]),
            [_array(parameter.data) for parameter in self.parameters],
            [
                _array(state["row_var"].squeeze(-1)) if "row_var" in state else None
                for state in states
            ],
            [
                _array(state["col_var"].squeeze(-2)) if "col_var" in state else None
                for state in states
            ],
            [self._second_moment(state) for state in states],
        )

    def _tensor(self, values):
        return torch.tensor(values).to(self.dtype)

    def _second_moment(self, state):
        if "row_var" not in state:
            return _array(state["variance"]) if "variance" in state else None
        row, column = state["row_var"], state["col_var"]
        epsilon = self.optimizer.param_groups[0]["eps"][0]
        if epsilon is None:
            epsilon = torch.finfo(self.dtype).eps
        return _array(row @ column / row.mean(dim=-2, keepdim=True).clamp(min=epsilon))


def _array(tensor):
    return tensor.detach().to(torch.float64).numpy()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", choices=["closest", "defaults"], default="closest")
    settings = parser.parse_args().settings
    announced = capabilities(
        dtypes=["float64", "float32", "bfloat16", "float16"],
        arguments=ARGUMENTS.split(),
        set_learning_rate=True,
        states=["r", "c", "v"],
        set_state=True,
    )
    source = "https://pypi.org/project/torch/"
    serve(Torch(settings), f"torch.optim ({settings})", torch.__version__, source, announced)
