"""Renews the hashes of a requirements file: `lock.py requirements.txt cp38 cp39 cp310 cp311`.

The pins stand in the file itself; only the hashes of the wheels for these interpreters on Linux
x86-64 are written. `wheels.json` notes which of them is tensorflow-cpu for which interpreter. Needs
pip 22.2.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
PLATFORMS += [f"manylinux{year}_x86_64" for year in (2014, 2010, 1)]


def main(path, tags):
    """Rewrites the file at `path` with the hashes for these interpreter tags."""
    header, pins = read(path)
    sums = {pin: {} for pin in pins}
    for tag in tags:
        for pin, digest in resolve(pins, tag).items():
            sums[pin][tag] = digest
    blocks = []
    for pin in pins:
        hashes = sorted(set(sums[pin].values()))
        blocks.append(" \\\n".join([pin, *(f"    --hash=sha256:{digest}" for digest in hashes)]))
    path.write_text(header + "\n".join(blocks) + "\n")
    note_wheel(path.with_name("wheels.json"), sums)


def read(path):
    """The comment at the top of a requirements file, and its pins."""
    lines = path.read_text().splitlines()
    header = "".join(line + "\n" for line in lines if line.startswith("#"))
    pins = [match[0] for match in (re.match(r"[\w.-]+==[\w.]+", line) for line in lines) if match]
    return header, pins


def resolve(pins, tag):
    """The sha256 of the wheel that pip takes for each pin."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps"]
    command += ["--ignore-installed", "--only-binary=:all:", "--target=unused", "--report=-"]
    command += ["--implementation=cp", f"--python-version={tag[2]}.{tag[3:]}"]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    report = json.loads(subprocess.run(command + pins, check=True, stdout=subprocess.PIPE).stdout)
    digests = {}
    for item in report["install"]:
        key = _key(f"{item['metadata']['name']}=={item['metadata']['version']}")
        digests[key] = item["download_info"]["archive_info"]["hashes"]["sha256"]
    return {pin: digests[_key(pin)] for pin in pins}


def _key(pin):
    return re.sub(r"[-_.]+", "-", pin.lower())


def note_wheel(path, sums):
    """Adds the tensorflow-cpu wheels among `sums` to wheels.json."""
    found = {pin: wheels for pin, wheels in sums.items() if pin.startswith("tensorflow-cpu")}
    if not found:
        return
    wheels = json.loads(path.read_text()) if path.is_file() else {}
    wheels.update(found)
    path.write_text(json.dumps(wheels, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
