"""Where the goldens come from: versions, wheel, processor, seed, and the generator's own sum."""

import datetime
import json
import platform
from importlib import metadata
from pathlib import Path

from .numbers import sha256

ROOT = Path(__file__).resolve().parent.parent
ORACLE = "tf.keras.optimizers.experimental.Adafactor"


def generator_sum():
    """One sha256 over every source file of the generator, names included."""
    paths = sorted(ROOT.rglob("*.py"), key=lambda path: path.relative_to(ROOT).as_posix())
    paths += [ROOT / "requirements.txt", ROOT / "requirements-2.15.txt"]
    listing = []
    for path in paths:
        if path.is_file():
            data = path.read_bytes().replace(b"\r\n", b"\n")
            listing.append(f"{sha256(data)}  {path.relative_to(ROOT).as_posix()}\n")
    return sha256("".join(listing).encode())


def describe(seed):
    """The `generated` block of a manifest, for the interpreter that runs now."""
    tensorflow = metadata.version("tensorflow-cpu")
    return {
        "oracle": ORACLE,
        "tensorflow": tensorflow,
        "keras": metadata.version("keras"),
        "wheel_sha256": wheel_sum(tensorflow),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "device": "cpu",
        "cpu": cpu_family(),
        "threads": 1,
        "seed": seed,
        "generator_sha256": generator_sum(),
        "date": datetime.date.today().isoformat(),
    }


def wheel_sum(version):
    """The locked sum of this interpreter's tensorflow-cpu wheel; None when there is none."""
    wheels = json.loads((ROOT / "wheels.json").read_text())
    tag = "cp" + "".join(platform.python_version_tuple()[:2])
    return wheels.get(f"tensorflow-cpu=={version}", {}).get(tag)


def cpu_family():
    """Vendor, family and vector extensions: what TensorFlow's kernels may choose by."""
    fields = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:
        return platform.machine()
    flags = set(fields.get("flags", "").split())
    extensions = [name for name in ("sse4_2", "avx", "fma", "avx2", "avx512f") if name in flags]
    vendor, family = fields.get("vendor_id", "unknown"), fields.get("cpu family", "?")
    return f"{platform.machine()} {vendor} family {family} {' '.join(extensions)}"
