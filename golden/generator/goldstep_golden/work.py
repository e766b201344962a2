"""Runs the families' chunks in worker processes and keeps each result on disk until all are there.

An interrupted generation loses only the chunks that were running: the next one in the same folder
takes the results that it finds.
"""

import hashlib
import os
import pickle
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context


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
        _run_missing(missing, jobs, progress)
    return {
        family: [pickle.loads(path.read_bytes()) for _, path in chunks]
        for family, chunks in tasks.items()
    }


def _path(folder, family, chunk):
    """Named after the family and the list of what the chunk holds."""
    return folder / f"{family}-{hashlib.sha256(repr(chunk).encode()).hexdigest()[:16]}.pickle"


def _run_missing(missing, jobs, progress):
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_run_chunk, *task): task[0] for task in missing}
        try:
            for future in as_completed(futures):
                future.result()
                progress.advance(futures[future])
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _run_chunk(family, chunk, path):
    from .families import registry

    result = registry()[family].run(chunk)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(pickle.dumps(result))
    os.replace(temporary, path)
