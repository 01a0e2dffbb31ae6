"""A copy of the checkout whose code can be edited, and copies of a finished run that it plans and completes.

Nothing is computed: each job takes its products from the finished run.  Snakemake plans and runs in processes that are
forked from this one, with the library of the copied code.
"""

import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import yaml

CODE = ("Snakefile", "config.yaml", "diaflow", "envs", "planner", "rules", "scripts")
HEADER = 20 * 2880  # of a FITS file: more than any header of the tiny survey has [byte]


def of_checkout(root: Path, folder: Path) -> Path:
    """The code of `root` in `folder`."""
    for name in CODE:
        if (root / name).is_dir():
            shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy2(root / name, folder / name)
    return folder


def of_run(run: Path, folder: Path) -> Path:
    """A finished run in `folder`, of its images that are products the headers alone."""
    return shutil.copytree(run, folder, copy_function=_headers_of_products)


def _headers_of_products(source: str, target: str) -> None:
    if "results" in Path(source).parts and source.endswith(".fits"):
        with open(source, "rb") as file:
            Path(target).write_bytes(file.read(HEADER))
        shutil.copystat(source, target)
    else:
        shutil.copy2(source, target)


def ask(code: Path, run: Path, config: dict, targets: list[str] = ()) -> tuple[dict, str]:
    """The planner's answer and its text, as `plans.ask` gives them."""
    return _with_library_of(code, _answer, code, run, _written(run, config), targets)


def complete(code: Path, run: Path, config: dict, finished: Path, targets: list[str] = ()) -> None:
    """Run what is to be done; products come from the run in `finished`."""
    _with_library_of(code, _execute, code, run, _written(run, config), targets, finished)


def touch(code: Path, run: Path, config: dict) -> None:
    """``snakemake --touch``."""
    _with_library_of(code, _execute, code, run, _written(run, config))


def _written(run: Path, config: dict) -> Path:
    path = run / "asked.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _with_library_of(code: Path, function: Callable, *arguments):
    # no pool that ends its workers by a signal: Snakemake catches it
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork"), _use_library_of, (code,)) as pool:
        return pool.submit(function, *arguments).result()


def _use_library_of(code: Path) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("diaflow", "planner")]:
        del sys.modules[name]
    sys.path.insert(0, str(code))
    os.environ["PYTHONPATH"] = str(code)


def _answer(code: Path, run: Path, configfile: Path, targets: list[str]) -> tuple[dict, str]:
    from planner import graph, page
    from planner.answer import answer

    found = answer(graph.planned(code / "Snakefile", run, targets, [configfile]), run, [1])
    return found, page.text(found)


def _execute(code: Path, run: Path, configfile: Path, targets: list[str] = (), finished: Path | None = None) -> None:
    from snakemake.api import SnakemakeApi
    from snakemake.script import PythonScript
    from snakemake.settings import types as settings

    from planner.graph import TRIGGERS

    def take(script: PythonScript, path: str, edit: bool = False) -> None:
        _take(map(Path, script.output), finished)

    PythonScript.execute_script = take
    with SnakemakeApi(settings.OutputSettings(quiet={settings.Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=settings.ResourceSettings(cores=2),
            config_settings=settings.ConfigSettings(configfiles=[configfile]),
            snakefile=code / "Snakefile",
            workdir=run,
        )
        goal = workflow.dag(settings.DAGSettings(targets=frozenset(targets), rerun_triggers=TRIGGERS))
        goal.execute_workflow("local", None if finished else "touch")


def _take(products: Iterable[Path], finished: Path) -> None:
    for product in products:
        made = finished / product
        if made.is_dir():
            shutil.copytree(made, product, copy_function=shutil.copyfile, dirs_exist_ok=True)
        else:
            shutil.copyfile(made, product)
