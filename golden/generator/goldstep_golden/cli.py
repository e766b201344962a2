"""The command line of the generator: `generate.py --out DIR [...]` records families."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from . import provenance
from .families import SEED, registry
from .families.pack import FORMAT
from .numbers import sha256, to_json
from .progress import Progress
from .work import run_all

SAMPLE = 480


def main(arguments=None):
    """Parses the arguments and does what they say; returns the exit code."""
    options = _parser().parse_args(arguments)
    families = [registry()[name] for name in options.families or sorted(registry())]
    if options.sample:
        families = [family.sampled(options.sample) for family in families]
    generate(families, options.out, options.work or _default_work(options.out), options)
    return 0


def _parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--work", type=Path, help="keeps finished pieces of an interrupted run")
    parser.add_argument("--families", type=_names, help="comma-separated ids; all when absent")
    parser.add_argument(
        "--sample",
        type=int,
        nargs="?",
        const=SAMPLE,
        help="about so many combinations of each grid",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--progress", choices=["human", "json"], default="human")
    return parser


def _names(text):
    names = text.split(",")
    unknown = [name for name in names if name not in registry()]
    if unknown:
        known = ", ".join(sorted(registry()))
        raise argparse.ArgumentTypeError(f"unknown family {unknown[0]}; known: {known}")
    return names


def _default_work(out):
    return out.with_name(out.name + ".work")


def generate(families, out, work, options):
    """Records the families into `out`, which appears complete or not at all."""
    if out.exists():
        raise SystemExit(f"--out must not exist yet, got {out}")
    generated = provenance.describe(SEED)
    fingerprint = sha256(to_json({**generated, "date": None}).encode())[:16]
    results = run_all(
        families, work / fingerprint, options.jobs, Progress(options.progress == "json")
    )
    temporary = out.with_name(f"{out.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    entries = [_write_family(family, results[family.id], temporary) for family in families]
    manifest = {"format": FORMAT, "generated": generated, "families": entries}
    _write(temporary / "manifest.json", _manifest_text(manifest))
    os.replace(temporary, out)
    shutil.rmtree(work, ignore_errors=True)
    for entry in entries:
        counts = " ".join(f"{name} {count}" for name, count in entry["counts"].items())
        print(
            f"{entry['id']:<20} {sum(file['bytes'] for file in entry['files']):>9} bytes  {counts}"
        )


def _write_family(family, results, root):
    texts, counts = family.files(results)
    files = []
    for name in sorted(texts):
        data = texts[name].encode()
        _write(root / family.id / name, data)
        files.append({"path": f"{family.id}/{name}", "sha256": sha256(data), "bytes": len(data)})
    return {
        "id": family.id,
        "kind": family.kind,
        "dtypes": family.dtypes,
        "purpose": family.purpose,
        "counts": counts,
        "files": files,
    }


def _manifest_text(manifest):
    """The manifest with one line for each family's head and for each file."""
    families = []
    for entry in manifest["families"]:
        head = {key: value for key, value in entry.items() if key != "files"}
        files = ",\n  ".join(to_json(file) for file in entry["files"])
        families.append(to_json(head)[:-1] + ',"files":[\n  ' + files + "\n]}")
    head = {key: value for key, value in manifest.items() if key != "families"}
    lines = [f"{to_json(key)}:{to_json(value)}" for key, value in head.items()]
    return (
        "{" + ",\n".join(lines) + ',\n"families":[\n' + ",\n".join(families) + "\n]}\n"
    ).encode()


def _write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    sys.exit(main())
