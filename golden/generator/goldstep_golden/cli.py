"""The command line of the generator: `generate.py --out DIR [...]` records families."""

import argparse
import multiprocessing
import os
import sys
import threading
from pathlib import Path

from . import provenance
from .cases import parse, record
from .families import SEED, registry
from .families.base import SensitivityError
from .generation import Failure, generate
from .numbers import to_json
from .other import VARIABLE, MissingInterpreter

SAMPLE = 480


def main(arguments=None):
    """Parses the arguments and does what they say; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.python_2_15:
        os.environ[VARIABLE] = options.python_2_15
    commands = {"generate": _generate, "record": _record, "describe": _describe, "list": _list}
    try:
        commands[options.command](options)
    except (Failure, MissingInterpreter, SensitivityError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "command",
        nargs="?",
        choices=["generate", "record", "describe", "list"],
        default="generate",
        help="generate: a folder of families (the default); "
        "record: cases as JSON lines on stdin, recorded ones on stdout; "
        "describe: where a record comes from; list: the ids of the families",
    )
    parser.add_argument("--out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--base", type=Path, help="goldens to take all other families from")
    parser.add_argument("--work", type=Path, help="keeps finished pieces of an interrupted run")
    parser.add_argument("--families", type=_names, help="comma-separated ids; all when absent")
    parser.add_argument(
        "--sample", type=int, nargs="?", const=SAMPLE, help="about so many combinations of a grid"
    )
    parser.add_argument("--python-2-15", help="an interpreter with TensorFlow 2.15.1")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--stop-at-eof", action="store_true", help="stop when standard input is closed"
    )
    parser.add_argument("--progress", choices=["human", "json"], default="human")
    return parser


def _names(text):
    names = text.split(",")
    unknown = [name for name in names if name not in registry()]
    if unknown:
        known = ", ".join(sorted(registry()))
        raise argparse.ArgumentTypeError(f"a family must be one of {known}, got {unknown[0]}")
    return names


def _generate(options):
    if options.stop_at_eof:
        threading.Thread(target=_stop_at_eof, daemon=True).start()
    if options.out is None:
        raise Failure("--out must name a folder that does not exist yet, got none")
    families = [registry()[name] for name in options.families or sorted(registry())]
    if options.sample:
        families = [family.sampled(options.sample) for family in families]
    for line in generate(families, options):
        print(line)


def _stop_at_eof():
    """Whoever started us holds the other end, and has gone when it closes."""
    # Not through sys.stdin, whose lock a thread that waits would keep at the interpreter's end.
    while os.read(0, 4096):
        pass
    for child in multiprocessing.active_children():
        child.terminate()
    os._exit(130)


def _record(_options):
    """Records a case a line, as they come."""
    for line in sys.stdin:
        print(to_json(record(parse(line))), flush=True)


def _describe(_options):
    print(to_json(provenance.describe(SEED)))


def _list(_options):
    for name in sorted(registry()):
        print(name)
