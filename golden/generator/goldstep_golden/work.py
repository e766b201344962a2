"""Runs the families' chunks in worker processes and keeps each result on disk until all are there.

An interrupted generation loses only the chunks that were running: the next one in the same folder
takes the results that it finds.
"""

import hashlib
import os
import pickle
from multiprocessing import get_context

# TensorFlow leaks about 0.12 MB with every optimizer, so that workers are replaced in time.
_CHUNKS_OF_A_WORKER = 24


def run_all(selected, folder, jobs, progress):
    """The results of every chunk, in order, by family id. `folder` is a pathlib.Path."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = {
        family.id: [(chunk, _path(folder, family.id, chunk)) for chunk in family.chunks()]
        for family in selected
    }
    missing = [
        (family, chunk, path)
        for family, chunks in tasks.items()
        for chunk, path in chunks
        if not path.is_file()
    ]
    total = sum(map(len, tasks.values()))
    progress.start(total, total - len(missing))
    if missing:
        with get_context("spawn").Pool(jobs, maxtasksperchild=_CHUNKS_OF_A_WORKER) as pool:
            for family in pool.imap_unordered(_run_chunk, missing):
                progress.advance(family)
    return {
        family: [pickle.loads(path.read_bytes()) for _, path in chunks]
        for family, chunks in tasks.items()
    }


def _path(folder, family, chunk):
    """Named after the family and the list of what the chunk holds."""
    return folder / f"{family}-{hashlib.sha256(repr(chunk).encode()).hexdigest()[:16]}.pickle"


def _run_chunk(task):
    from .families import registry

    family, chunk, path = task
    result = registry()[family].run(chunk)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(pickle.dumps(result))
    os.replace(temporary, path)
    return family
