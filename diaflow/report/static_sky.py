"""What there is of Objects, for the page: how many of which kind, and how deep each band is."""

from html import escape
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from diaflow.store import tables

SEEN = 5.0  # S/N of the PSF flux from which an Object counts as seen in a band: that of their detection
DEPTH = "_psfDepth"  # that the name of this column of a band ends with
KINDS = ("detect_isPrimary", "detect_fromBlend", "deblend_skipped", "deblend_nChild", "refExtendedness")


def section(path: str | Path) -> str:
    """The section about Objects.

    Parameters
    ----------
    path : path
        Table "object".

    Returns
    -------
    str
        HTML.

    Raises
    ------
    InputError
        When the table is missing or unreadable.
    """
    kinds = tables.read("object", path, only=KINDS)
    primary = kinds["detect_isPrimary"]
    counts = {
        "Objects (detect_isPrimary)": primary.sum(),
        "of these point-like": (primary & (kinds["refExtendedness"] == 0)).sum(),
        "extended": (primary & (kinds["refExtendedness"] == 1)).sum(),
        "children of blends": (primary & kinds["detect_fromBlend"]).sum(),
        "footprints too large or too empty to take apart": (
            kinds["deblend_skipped"] & (kinds["deblend_nChild"] > 0)
        ).sum(),
    }
    rows = "".join(f"<tr><td>{escape(title)}</td><td>{count:,}</td></tr>" for title, count in counts.items())
    return f'<h2>Objects</h2><table class="list">{rows}</table>{_bands(path, primary)}'


def _bands(path: str | Path, primary: np.ndarray) -> str:
    """Table of the bands: Objects that are seen in each, and the depth where they are."""
    names = pq.ParquetFile(path).schema_arrow.names
    rows = ""
    for band in (name.removesuffix(DEPTH) for name in names if name.endswith(DEPTH)):
        columns = [f"{band}{name}" for name in ("_psfFlux", "_psfFluxErr", DEPTH)]
        table = tables.read("object", path, only=columns)[primary]
        flux, err, depth = (table[column] for column in columns)
        seen, depth = int((flux > SEEN * err).sum()), depth[np.isfinite(depth)]
        deep = f"{np.median(depth):.2f}" if len(depth) else "–"
        rows += f"<tr><td>{escape(band)}</td><td>{seen:,}</td><td>{deep}</td></tr>"
    header = f"<tr><th>band</th><th>Objects of S/N {SEEN:g} or more</th><th>5 σ depth, median [mag]</th></tr>"
    return f'<table class="list">{header}{rows}</table>'
