"""What every peer shares: its input, and the lines that it answers.

The protocol is that of `benches/src/contestant.rs`, the values are those of `benches/src/input.rs`.
"""

import json
import sys
import time

import numpy as np

PARAMETER, GRADIENT = 0, 1
LEARNING_RATE = 1e-4
FINGERPRINT = 65536
CHUNK = 1 << 20


def _chunk(seed, start, stop):
    x = np.arange(start, stop, dtype=np.uint32) + np.uint32(seed)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    unit = (x >> np.uint32(8)).astype(np.float32) / np.float32(16777216)
    return (unit - np.float32(0.5)) * np.float32(0.1)


def values(part, tensor, count):
    """The first elements of a tensor, flat."""
    seed = ((2 * tensor + part + 1) * 0x9E3779B9) & 0xFFFFFFFF
    out = np.empty(count, np.float32)
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        out[start:stop] = _chunk(seed, start, stop)
    return out


def arrays(part, shapes):
    """A numpy array for each shape."""
    for tensor, shape in enumerate(shapes):
        yield values(part, tensor, int(np.prod(shape, dtype=np.int64))).reshape(shape)


def change(parameters):
    """Mean of |p - p0| over the first elements of each parameter, given as flat numpy arrays."""
    total, count = 0.0, 0
    for tensor, parameter in enumerate(parameters):
        now = np.asarray(parameter[:FINGERPRINT], np.float64)
        total += np.abs(now - values(PARAMETER, tensor, now.size)).sum()
        count += now.size
    return total / count


def tiny(contestant):
    """Steps over two tiny parameters: imports and thread pools are then not part of the memory."""
    contestant.prepare([[4, 4], [4]])
    contestant.build()
    contestant.step(1)
    contestant.facts()


def serve(contestant, name, versions):
    """Answers every line of the standard input."""
    sys.stdout = sys.stderr  # what a library prints is no answer
    out = sys.__stdout__

    def say(answer):
        out.write(json.dumps(answer) + "\n")
        out.flush()

    tiny(contestant)
    say({"name": name, "versions": versions})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            say(answer(contestant, request))
        except Exception as error:  # the harness names the row and goes on
            say({"error": f"{type(error).__name__}: {error}"[:400]})


def answer(contestant, request):
    do = request["do"]
    if do == "prepare":
        contestant.prepare(request["task"]["shapes"])
        return {}
    if do == "facts":
        return contestant.facts()
    if do == "stream":
        return {"error": "only ours measures the bound"}
    start = time.perf_counter_ns()
    if do == "build":
        contestant.build()
    else:
        contestant.step(request["count"])
    return {"ns": time.perf_counter_ns() - start}
