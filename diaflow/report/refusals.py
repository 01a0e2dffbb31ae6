"""What was refused or left out in a run, by kind of reason, and what can be done about it: a section of the page.

In: the "visit" table and the template coadds.  Each image counts once, with the first step that did not take it.
"""

from collections import defaultdict
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import InputError, Kind
from diaflow.image.exposure_file import header_metadata
from diaflow.instruments.ingest import LEFT_OUT

MAX_NAMED = 5  # images or templates of a kind that are named, chosen
STEPS = {"ingest": "ingest", "calexp": "calibration", "diffim": "subtraction"}
NOT_TAKEN = ("failed", LEFT_OUT)
TITLES = ("step", "kind of reason", "number", "visit/detector, file or tract/patch/band", "first of them", "what to do")

# What reasons of a kind say, and what to do.
KINDS = {
    Kind.FILE: ("the file cannot be read", "fetch or write it again, or take it out of <code>images</code>"),
    Kind.HEADER: (
        "the header lacks something, or says what is not understood",
        "give the value in <code>metadata</code>, or another rule for it in an instrument map",
    ),
    Kind.WCS: (
        "no usable WCS in the header",
        "write one into the file, or let the instrument map make one of the <code>pointing</code>",
    ),
    Kind.NOT_WANTED: (
        "the configuration does not ask for it",
        "nothing, if that is meant; else see <code>bands</code>, <code>detectors</code> and the instrument map",
    ),
    Kind.ELSEWHERE: (
        "it is far from the other images",
        "is the WCS right? Run fields that are far apart separately",
    ),
    Kind.CALIBRATION: (
        "no bias, dark or flat that goes with it",
        "add frames to <code>images</code>; the logs of the masters say which they took",
    ),
    Kind.PIXELS: (
        "the pixels show no sky",
        "look at the image; <code>metadata</code> <code>saturation</code> and <code>bias</code> must be in its counts",
    ),
    Kind.PSF: (
        "no PSF",
        "look at the image: few stars, out of focus, trailed, or too sharp for its pixels",
    ),
    Kind.MATCH: (
        "no match to the reference stars",
        "is the catalogue of this field, and the WCS within <code>calexp.max_offset</code>?",
    ),
    Kind.ZERO_POINT: (
        "no zero point",
        "the catalogue must have magnitudes, in this band, of stars that are not saturated here",
    ),
    Kind.NO_CALEXP: ("it was not calibrated", "see the reason of the calibration"),
    Kind.TEMPLATE: (
        "no template, or too little of it",
        "take more visits into it (<code>template</code>), or less is enough (<code>subtract.min_coverage</code>)",
    ),
    Kind.KERNEL: ("too few stars for the kernel", "look at image and template: clouds, few stars, or another field"),
    Kind.DIFFERENCE: ("the difference is no noise", "look at the difference: its template or its PSF is wrong"),
    Kind.UNFORESEEN: ("a calculation failed", "the log of the job has the traceback; please report it"),
}


def section(visits: np.ndarray, templates: Iterable[str | Path]) -> str:
    """The section of the page.

    Parameters
    ----------
    visits : "visit" table
    templates : iterable of paths
        Template coadds.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    InputError
        When a coadd cannot be read; the message names it.
    """
    groups = defaultdict(list)
    for step, kind, reason, name in [*_images(visits), *_templates(templates)]:
        groups[step, kind].append((reason, name))
    if not groups:
        return '<p class="note">Nothing.</p>'
    header = "".join(f"<th>{title}</th>" for title in TITLES)
    rows = [_row(step, kind, refused) for (step, kind), refused in groups.items()]
    return f'<table class="list refused"><tr>{header}</tr>\n' + "\n".join(rows) + "</table>"


def refused_step(visits: np.ndarray) -> np.ndarray:
    """The first step that did not take each image.

    Parameters
    ----------
    visits : "visit" table

    Returns
    -------
    array of str
        Of `STEPS`; empty where all did that were to.
    """
    refused = np.full(len(visits), "", object)
    for step in reversed(STEPS):
        refused[np.isin(visits[f"{step}_status"].astype(str), NOT_TAKEN)] = step
    return refused


def _images(visits: np.ndarray) -> list[tuple[str, str, str, str]]:
    """Step, kind, reason and name of each image that was not taken, in the order of the steps."""
    steps = refused_step(visits)
    return [
        (STEPS[step], row[f"{step}_kind"], row[f"{step}_reason"], _name(row))
        for step in STEPS
        for row in visits[steps == step]
    ]


def _name(row: np.void) -> str:
    return f"{row['visit']}/{row['detector']}" if row["visit"] >= 0 else Path(row["path"]).name


def _templates(paths: Iterable[str | Path]) -> list[tuple[str, str, str, str]]:
    """The same of the templates that have no inputs."""
    refused = []
    for path in paths:
        try:
            made = header_metadata(fits.getheader(path))
            if made.get("status") == "failed":
                name = f"{made['tract']}/{made['patch']}/{made['band']}"
                refused.append(("template", made["kind"], made["reason"], name))
        except (OSError, KeyError) as error:
            raise InputError(f"{path}: not a readable template ({error})") from error
    return refused


def _row(step: str, kind: str, refused: list[tuple[str, str]]) -> str:
    """What one step did not take for one kind of reason; `refused` has the reason and name of each."""
    title, advice = KINDS[Kind(kind)]
    reasons, names = zip(*refused)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    cells = [step, title, str(len(names)), ", ".join(names[:MAX_NAMED]) + more, reasons[0]]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in [*map(escape, cells), advice]) + "</tr>"
