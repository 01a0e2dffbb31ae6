"""Snakemake and the planner in processes that are forked from that of the tests, which has made the start for all.

A start takes two seconds, most of what is asked less: half of them are imports, half the parsing of the code.
"""

import functools
import io
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import diaflow.run.plan  # noqa: F401 what the rules import
from diaflow.run.code import REPOSITORY, Code
from diaflow.run.config import chosen_methods, validated

CACHE = Path(".snakemake/diaflow_code.json")  # where rules/code.smk keeps it


def run(program: Callable[[], None], folder: Path) -> CompletedProcess:
    """What ``program()`` writes and how it exits, in a process of its own whose working directory is `folder`."""
    # no pool that ends its workers by a signal: Snakemake catches it
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        files = out.fileno(), err.fileno()
        process = multiprocessing.get_context("fork").Process(target=_become, args=(program, folder, files))
        process.start()
        process.join()
        texts = [file.seek(0) or file.read() for file in (out, err)]
    return CompletedProcess([], process.exitcode, *texts)


def _become(program: Callable[[], None], folder: Path, files: tuple[int, int]) -> None:
    for file, standard in zip(files, (1, 2)):
        os.dup2(file, standard)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(standard, "w", closefd=False)) for standard in (1, 2))
    os.chdir(folder)
    program()


def know_code(folder: Path) -> None:
    """Let a run that is new know what an earlier one has found in the files of the code."""
    cache = folder / CACHE
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_bytes(_found())


@functools.cache
def _found() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder, CACHE.name)
        code = Code(chosen_methods(validated({"images": "x"})), cache)
        for script in (REPOSITORY / "scripts").glob("*.py"):
            code.parts(script.stem)
        return cache.read_bytes()
