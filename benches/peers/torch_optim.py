"""Optimizers on torch: `python torch_optim.py MODE THREADS`."""

import sys

import torch
from contestant import GRADIENT, LEARNING_RATE, PARAMETER, arrays, change, serve


def optimizer(mode, parameters):
    if mode == "adafactor-loop":
        return torch.optim.Adafactor(parameters, lr=LEARNING_RATE, foreach=False)
    if mode == "adafactor-foreach":
        return torch.optim.Adafactor(parameters, lr=LEARNING_RATE, foreach=True)
    if mode == "adamw-fused":
        return torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True)
    if mode == "transformers":
        from transformers.optimization import Adafactor

        return Adafactor(
            parameters,
            lr=LEARNING_RATE,
            scale_parameter=True,
            relative_step=False,
            warmup_init=False,
        )
    raise SystemExit(f"mode must be one of those in plan.rs, got {mode}")


class Contestant:
    def __init__(self, mode):
        self.mode = mode

    def prepare(self, shapes):
        self.optimizer = self.parameters = None
        self.parameters = [torch.nn.Parameter(torch.from_numpy(p)) for p in arrays(PARAMETER, shapes)]
        for parameter, gradient in zip(self.parameters, arrays(GRADIENT, shapes)):
            parameter.grad = torch.from_numpy(gradient)

    def build(self):
        self.optimizer = optimizer(self.mode, self.parameters)

    def step(self, count):
        for _ in range(count):
            self.optimizer.step()

    def facts(self):
        state = 0
        for entry in self.optimizer.state.values():
            tensors = (value for value in entry.values() if torch.is_tensor(value))
            state += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        moved = change(p.detach().numpy().reshape(-1) for p in self.parameters)
        return {"state_bytes": state, "change": moved}


def main():
    mode, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    versions = {"torch": torch.__version__}
    if mode == "transformers":
        import transformers

        versions["transformers"] = transformers.__version__
    serve(Contestant(mode), mode, versions)


main()
