"""How far a generation is: text for a person, or JSON lines for the program that started us."""

import json
import sys
import time


class Progress:
    """Counts chunks on stderr and extrapolates the time left."""

    def __init__(self, machine):
        self.machine = machine
        self.total = self.done = self.found = 0
        self.started = time.monotonic()

    def start(self, total, found):
        """`found` of the `total` chunks were there already."""
        self.total, self.done, self.found = total, found, found
        self.started = time.monotonic()
        self._print("start")

    def advance(self, family):
        """One more chunk, of this family, is done."""
        self.done += 1
        self._print(family)

    def _print(self, what):
        elapsed = time.monotonic() - self.started
        fresh = self.done - self.found
        left = elapsed / fresh * (self.total - self.done) if fresh else None
        if self.machine:
            record = {
                "progress": what,
                "done": self.done,
                "total": self.total,
                "elapsed_s": round(elapsed, 1),
                "left_s": None if left is None else round(left, 1),
            }
            print(json.dumps(record), file=sys.stderr, flush=True)
        else:
            rest = "" if left is None else f", about {left / 60:.1f} min left"
            print(f"{self.done}/{self.total} {what}{rest}", file=sys.stderr, flush=True)
