"""Rows of the table "diffim_summary"."""

import numpy as np

from diaflow.image.exposure import Exposure
from diaflow.store import tables


def summary_row(difference: Exposure, dia_sources: np.ndarray, summary: dict) -> np.ndarray:
    """One row: what `subtract` found, and how many DIASources there are.

    Parameters
    ----------
    difference : Exposure
        Its metadata name the data.
    dia_sources : table "dia_source"
        Detected on the difference.
    summary : dict
        As `subtract` returned it.
    """
    counts = {"n_dia_sources": len(dia_sources), "n_dia_sources_unflagged": int((~dia_sources["pixelFlags"]).sum())}
    return tables.from_columns("diffim_summary", **_identity(difference.metadata), **summary, **counts)


def failed(row: np.ndarray, reason: str) -> np.ndarray:
    """One row for a detector image without a difference; `row` has visit, detector, band and mjd."""
    found = {name: row[name] for name in ("visit", "detector", "band", "mjd")}
    return tables.from_columns("diffim_summary", **found, status="failed", reason=reason)


def _identity(metadata: dict) -> dict:
    return {name: metadata[name] for name in ("visit", "detector", "band", "mjd") if name in metadata}
