"""A folder of goldens: records families, writes them and the manifest, all or nothing."""

import json
import os
import shutil

from . import provenance
from .families import SEED
from .families.pack import FORMAT
from .numbers import sha256, to_json
from .progress import Progress
from .work import run_all


class Failure(Exception):
    """Something that the person who started the generation has to put right."""


def generate(families, options):
    """Records the families into `options.out`, and takes all others from `options.base`."""
    out = options.out
    if out.exists():
        raise Failure(f"--out must not exist yet, got {out}")
    work = options.work or out.with_name(out.name + ".work")
    generated = provenance.describe(SEED)
    fingerprint = sha256(to_json({**generated, "date": None}).encode())[:16]
    progress = Progress(options.progress == "json")
    results = run_all(families, work / fingerprint, options.jobs, progress)
    temporary = out.with_name(f"{out.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    entries = [_write_family(family, results[family.id], temporary) for family in families]
    summary = [_summary(entry) for entry in entries]
    if options.base:
        entries += _keep(options.base, temporary, {entry["id"] for entry in entries}, generated)
    entries.sort(key=lambda entry: entry["id"])
    manifest = {"format": FORMAT, "generated": generated, "families": entries}
    _write(temporary / "manifest.json", _manifest_text(manifest))
    os.replace(temporary, out)
    shutil.rmtree(work, ignore_errors=True)
    return summary


def _write_family(family, results, root):
    texts, counts = family.files(results)
    files = []
    for name in sorted(texts):
        data = texts[name].encode()
        _write(root / family.id / name, data)
        files.append({"path": f"{family.id}/{name}", "sha256": sha256(data), "bytes": len(data)})
    entry = {
        "id": family.id,
        "kind": family.kind,
        "dtypes": family.dtypes,
        "purpose": family.purpose,
        "generated": family.generated(),
        "counts": counts,
        "files": files,
    }
    return {key: value for key, value in entry.items() if value is not None}


def _keep(base, root, renewed, generated):
    """Copies the families that were not recorded anew; each says where it came from."""
    manifest = json.loads((base / "manifest.json").read_text())
    if manifest["format"] != FORMAT:
        raise Failure(f"the base must have the format {FORMAT}, got {manifest['format']}")
    kept = []
    for entry in manifest["families"]:
        if entry["id"] in renewed:
            continue
        for file in entry["files"]:
            data = (base / file["path"]).read_bytes()
            if sha256(data) != file["sha256"]:
                raise Failure(f"{base / file['path']} must have the sum that its manifest says")
            _write(root / file["path"], data)
        origin = entry.pop("generated", manifest["generated"])
        files = entry.pop("files")
        counts = entry.pop("counts")
        if origin != generated:
            entry["generated"] = origin
        kept.append({**entry, "counts": counts, "files": files})
    return kept


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


def _summary(entry):
    counts = " ".join(f"{name} {count}" for name, count in entry["counts"].items())
    return f"{entry['id']:<20} {sum(file['bytes'] for file in entry['files']):>9} bytes  {counts}"


def _write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
