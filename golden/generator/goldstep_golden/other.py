"""Another version of tf.keras, in an interpreter of its own, driven over JSON lines."""

import json
import os
import subprocess
from pathlib import Path

from .numbers import to_json

VARIABLE = "GOLDSTEP_PYTHON_2_15"
_PROGRAM = Path(__file__).resolve().parent.parent / "generate.py"


class MissingInterpreter(Exception):
    """Nobody said which interpreter has the other version."""


class OtherOracle:
    """The interpreter that the environment variable names, running this generator."""

    def record(self, definitions):
        """The JSON of the recorded cases, in the order of the definitions."""
        lines = "".join(to_json(definition) + "\n" for definition in definitions)
        return self._run("record", lines).splitlines()

    def describe(self):
        """The `generated` block of that interpreter."""
        return json.loads(self._run("describe", ""))

    def _run(self, command, text):
        interpreter = os.environ.get(VARIABLE)
        if not interpreter:
            raise MissingInterpreter(
                "--python-2-15 must name an interpreter with TensorFlow 2.15.1"
            )
        call = [interpreter, str(_PROGRAM), command]
        done = subprocess.run(call, input=text, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout
