"""The other side of the benchmark: torch.optim.Adafactor, one sample per line on stdin.

A line is `size repetitions`; the answer is the nanoseconds of all repetitions of a step.
"""

import sys
import time

import torch


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    print(torch.__version__.split("+")[0], flush=True)
    optimizers = {}
    for line in sys.stdin:
        size, repetitions = map(int, line.split())
        if size not in optimizers:
            parameter = torch.nn.Parameter(torch.randn(size, size))
            parameter.grad = torch.randn(size, size)
            optimizers[size] = (parameter, torch.optim.Adafactor([parameter], lr=1e-3))
        parameter, optimizer = optimizers[size]
        parameter.grad.normal_()
        start = time.perf_counter_ns()
        for _ in range(repetitions):
            optimizer.step()
        print(time.perf_counter_ns() - start, flush=True)


main()
