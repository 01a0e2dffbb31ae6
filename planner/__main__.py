"""``python -m planner``: what Snakemake would run with the same arguments, why, for how long and on how much disk."""

import argparse
import json
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from diaflow.errors import InputError
from diaflow.run.config import read
from diaflow.store import yamltext
from planner import compare, graph, page, sky
from planner.answer import answer

YAML = (".yaml", ".yml", ".json")  # what configuration files are called; Snakemake reads others too


def arguments() -> argparse.Namespace:
    """Those of ``snakemake`` that decide what runs, and where to write the answer.

    Returns
    -------
    argparse.Namespace
        Of the command line of this process.
    """
    parser = argparse.ArgumentParser(prog="planner", description=__doc__)
    parser.add_argument("targets", nargs="*", help="products or rules; none for everything")
    parser.add_argument("--snakefile", type=Path, default=Path(__file__).parent.parent / "Snakefile")
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where the run is")
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help="of the run, or another")
    parser.add_argument("--what-if", nargs="+", default=[], metavar="KEY=VALUE", help="e.g. associate.radius=0.6")
    parser.add_argument("--forcerun", nargs="+", default=[], help="products or rules to make again")
    parser.add_argument(
        "--cores", type=int, nargs="+", default=[os.cpu_count()], help="cores to give the wall time for"
    )
    parser.add_argument("--queue-wait", type=float, default=0, help="time that a job waits in the site's queue [s]")
    parser.add_argument("--json", type=Path, help="write every job with its reasons")
    parser.add_argument("--html", type=Path, help="write the answer as a page")
    return parser.parse_args()


def overrides(words: list[str]) -> dict:
    """The configuration that words of the form ``section.key=value`` stand for.

    Parameters
    ----------
    words : list of str
        Values are YAML.

    Returns
    -------
    dict
        Nested as the configuration file.

    Raises
    ------
    SystemExit
        When a word has no ``=``, or a value is not YAML.
    """
    config: dict = {}
    for word in words:
        path, equals, value = word.partition("=")
        if not equals:
            sys.exit(f"error: --what-if {word}: not KEY=VALUE")
        *sections, key = path.split(".")
        inner = config
        for section in sections:
            inner = inner.setdefault(section, {})
        try:
            inner[key] = yamltext.load(value)
        except InputError as error:
            sys.exit(f"error: --what-if {word}: {error}")
    return config


def _refuse_what_is_no_configuration(paths: list[Path]) -> None:
    """Also targets that stand after ``--configfile``, which takes them for configuration files."""
    for path in paths:
        try:
            read([path], {})
        except InputError as error:
            hint = "" if path.suffix in YAML else "; a target stands before --configfile, or after --"
            sys.exit(f"error: {error}{hint}")


def main() -> None:
    """Print the answer, and write it where asked; or, after a word: `compare`, how two runs differ; `sky`, the map."""
    if sys.argv[1:2] == ["compare"]:
        compare.main(sys.argv[2:])
    elif sys.argv[1:2] == ["sky"]:
        sky.main(sys.argv[2:])
    else:
        plan()


def plan() -> None:
    """Print the answer, and write it where asked."""
    options = arguments()
    outputs = {path: path.resolve() for path in (options.json, options.html) if path}
    directory, configfiles = options.directory.resolve(), [path.resolve() for path in options.configfile]
    config, cores = overrides(options.what_if), max(options.cores)
    _refuse_what_is_no_configuration(configfiles)
    try:
        planned = graph.planned(
            options.snakefile, directory, options.targets, configfiles, config, cores, options.forcerun
        )
    except WorkflowError as error:
        sys.exit(f"error: {error}")
    report = answer(planned, directory, options.cores, options.queue_wait)
    if options.json:
        outputs[options.json].write_text(json.dumps(report, indent=1) + "\n")
    if options.html:
        outputs[options.html].write_text(page.html(report))
    print(page.text(report), end="")


if __name__ == "__main__":
    main()
