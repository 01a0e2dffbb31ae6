"""Positions of moving objects for the Minor Planet Center: ADES in its form of separated columns (PSV, version 2022).

The identifier of a tracklet is longer than the 8 characters of a trkSub: tracklets are numbered, and the numbers given
back.  Times become UTC.
"""

import re
from collections.abc import Mapping

import numpy as np
from astropy.time import Time

from diaflow.errors import InputError
from diaflow.lightcurves import bands
from diaflow.units import MAG_PER_RELATIVE_ERROR, magnitude

VERSION = 2022  # that the Minor Planet Center accepts
PREFIX, DIGITS = "df", 6  # of a trkSub: with them 8 characters
MODE = "CCD"
STATION = r"[A-Z0-9]{3,4}"  # code of an observatory
FAINTEST, BRIGHTEST = 35.0, -5.0  # magnitudes that the schema allows [mag]
FIELDS = (
    "trkSub", "mode", "stn", "obsTime", "ra", "dec", "rmsRA", "rmsDec", "astCat", "mag", "rmsMag", "band",
)  # fmt: skip
OWN_ASTROMETRY = "refcat"  # what the WCS of an image must rest on
OBSERVATION = [
    ("tracklet", np.int64),
    *((name, float) for name in ("midpointMjdTai", "ra", "dec", "raErr", "decErr", "mag", "magErr")),
    ("band", object),
    ("astrometry", object),
]


def observations(sources: np.ndarray, visits: np.ndarray, names: Mapping[str, str]) -> np.ndarray:
    """The observations of all tracklets.

    Parameters
    ----------
    sources : "dia_source" table
        With trackletId; those of no tracklet are left out.
    visits : "visit" table
        Tells what the positions rest on.
    names : mapping of str to str
        MPC's code of each band.

    Returns
    -------
    structured array
        As `psv` takes it.  What moves is in no template, so that its magnitude is that of the flux of the difference.

    Raises
    ------
    InputError
        When a band has no name.
    """
    sources = sources[sources["trackletId"] != 0]
    table = np.zeros(len(sources), OBSERVATION)
    table["tracklet"] = sources["trackletId"]
    for name in ("midpointMjdTai", "ra", "dec", "raErr", "decErr"):
        table[name] = sources[name]
    flux = np.where(sources["psfFlux"] > 0, sources["psfFlux"].astype(float), np.nan)
    table["mag"], table["magErr"] = magnitude(flux), MAG_PER_RELATIVE_ERROR * sources["psfFluxErr"] / flux
    table["band"] = bands.named(sources["band"], names, "ades")
    known = dict(zip(zip(visits["visit"].tolist(), visits["detector"].tolist()), visits["astrometry"].tolist()))
    table["astrometry"] = [known[key] for key in zip(sources["visit"].tolist(), sources["detector"].tolist())]
    return table


def psv(observations: np.ndarray, about: Mapping) -> tuple[str, dict[str, int]]:
    """The observations of tracklets as a file to submit.

    Parameters
    ----------
    observations : structured array
        A row for each, with the columns of `OBSERVATION`: positions and their errors in degrees (raErr times cos dec),
        magnitudes that are NaN where there is none, the band in MPC's code, `astrometry` as in the visit table.
    about : mapping
        `station` (MPC's code of the observatory), `submitter`, `observers`, `measurers` (a name; names), `telescope`
        (`design`, `aperture` [m], `detector`), `catalogue` (MPC's code of the reference catalogue).

    Returns
    -------
    text : str
    tracklets : dict of str to int
        Identifier by trkSub.

    Raises
    ------
    InputError
        When the station is no code, there are too many tracklets, or a position does not rest on the catalogue.
    """
    if not re.fullmatch(STATION, about["station"]):
        raise InputError(f"ades: {about['station']!r} is no code of an observatory")
    other = observations[observations["astrometry"] != OWN_ASTROMETRY]
    if len(other):
        raise InputError(
            f"ades: tracklet {other['tracklet'][0]} has positions that rest on {other['astrometry'][0]!r} and not on a "
            "reference catalogue"
        )
    identifiers, number = np.unique(observations["tracklet"], return_inverse=True)
    if len(identifiers) >= 10**DIGITS:
        raise InputError(f"ades: {len(identifiers)} tracklets are more than there are numbers for")
    names = [f"{PREFIX}{i:0{DIGITS}d}" for i in range(len(identifiers))]
    order = np.lexsort((observations["midpointMjdTai"], number))
    rows = _rows(observations[order], [names[i] for i in number[order]], about)
    widths = [max(map(len, column)) for column in zip(FIELDS, *rows)]
    lines = ["|".join(map(str.ljust, row, widths)) for row in (FIELDS, *rows)]
    return "\n".join([*_header(about), *lines, ""]), dict(zip(names, identifiers.tolist()))


def _header(about: Mapping) -> list[str]:
    lines = [f"# version={VERSION}", "# observatory", f"! mpcCode {about['station']}"]
    lines += ["# submitter", f"! name {about['submitter']}", "# telescope"]
    lines += [f"! {key} {about['telescope'][key]}" for key in ("design", "aperture", "detector")]
    for group in ("observers", "measurers"):
        lines += [f"# {group}", *(f"! name {name}" for name in about[group])]
    return lines


def _rows(observations: np.ndarray, names: list[str], about: Mapping) -> list[tuple[str, ...]]:
    """The fields of each observation as text."""
    times = Time(observations["midpointMjdTai"], format="mjd", scale="tai", precision=3).utc.isot
    known = np.isfinite(observations["mag"]) & (observations["mag"] > BRIGHTEST) & (observations["mag"] < FAINTEST)
    rows = []
    for name, time, row, has_magnitude in zip(names, times, observations, known):
        photometry = (f"{row['mag']:.2f}", f"{row['magErr']:.2f}", row["band"]) if has_magnitude else ("", "", "")
        fields = (
            name,
            MODE,
            about["station"],
            f"{time}Z",
            f"{row['ra'] % 360:.7f}",
            f"{row['dec']:+.7f}",
            f"{row['raErr'] * 3600:.3f}",
            f"{row['decErr'] * 3600:.3f}",
            about["catalogue"],
            *photometry,
        )
        rows.append(fields)
    return rows
