"""From the columns of a catalogue to those of the store: ICRS degrees, AB magnitudes, motions per day, MJD.

What a file says of a column's unit counts; where it says nothing, positions are in degrees (sexagesimal text: hours
and degrees), their errors in mas, proper motions in mas/yr, epochs in Julian years, magnitudes in mag and errors in the
unit of what they belong to.
"""

import numpy as np
import pyarrow as pa
from astropy import units as u

from diaflow.errors import InputError
from diaflow.refcat import columns, identifiers
from diaflow.refcat.columns import Column
from diaflow.refcat.formats import Block
from diaflow.store import tables

# Outside of these, a number is a code for "not measured" (0, 99, -99, -9999, ...).
CREDIBLE_MAG = (0.0, 40.0)
CREDIBLE_MAG_ERROR = (0.0, 5.0)
CREDIBLE_POSITION_ERROR = (0.0, 10.0 / 3600)  # [deg]
CREDIBLE_MOTION = 20.0 / 3600 / 365.25  # twice that of Barnard's star [deg/d]
CREDIBLE_EPOCH = (0.0, 100_000.0)  # 1858 to 2132 [MJD]

J2000, JULIAN_YEAR = 51544.5, 365.25  # [MJD], [d]


def names(config: dict) -> set[str]:
    """The columns that the `refcat` section of the configuration speaks of.

    Parameters
    ----------
    config : dict

    Returns
    -------
    set of str
    """
    single = [config[key] for key in ("id", "ra", "dec", "epoch") if isinstance(config[key], str)]
    errors = [config["errors"][band] for band in config["bands"] if band in config["errors"]]
    return {*single, *config["bands"].values(), *errors, *config["keep"], *config["pos_err"], *config["pm"]}


def rows(block: Block, config: dict) -> np.ndarray:
    """The rows of a block that have a position.

    Parameters
    ----------
    block : dict
        Values (numpy or pyarrow) and unit of every column in `names(config)`.
    config : dict
        The `refcat` section of the configuration.

    Returns
    -------
    "refcat_store" table
        Numbers that are not credible are NaN; magnitudes are those of the camera where the band has a colour term;
        `star` is whether the row has every value that `keep` asks for.

    Raises
    ------
    InputError
        When a column is not numeric, has an impossible unit or leaves a star without an identifier.
    """
    of, values = placed(block, config, "refcat")
    values["star"] = np.ones(len(values["ra"]), bool)
    measured = {band: _measured(of, config, band) for band in config["bands"]}
    for band, (mag, err) in measured.items():
        if term := config["colour_terms"].get(band):
            mag, err = colour_corrected(mag, err, *measured[term["secondary"]], term["coefficients"])
        values |= {f"{band}_mag": mag, f"{band}_mag_err": err}
    if config["pos_err"]:
        values["pos_err"] = _position_errors([of[name] for name in config["pos_err"]])
    for name, value in config["keep"].items():
        values["star"] &= columns.equals(of[name], value)
    return tables.from_columns("refcat_store", list(config["bands"]), **values)


def placed(block: Block, config: dict, section: str) -> tuple[dict[str, Column], dict[str, np.ndarray]]:
    """The rows of a block that have a position, and what is known of where they are.

    Parameters
    ----------
    block : dict
        Values (numpy or pyarrow) and unit of the columns that `config` names.
    config : dict
        Keys id, ra, dec, pm and epoch as in the `refcat` section of the configuration.
    section : str
        Name of the section, for what is said of wrong input.

    Returns
    -------
    columns : dict of str to Column
    values : dict of str to (n,) arrays
        id, ra and dec [deg] and, where there are proper motions, pm_ra, pm_dec [deg/d] and epoch [MJD].

    Raises
    ------
    InputError
        As `rows`.
    """
    of = {name: columns.column(name, *entry) for name, entry in block.items()}
    ra, dec = columns.right_ascension(of[config["ra"]]), columns.declination(of[config["dec"]])
    there = (np.abs(ra) <= 360) & (np.abs(dec) <= 90)
    ra, dec = ra[there] % 360, dec[there]
    of = {name: column._replace(values=column.values.filter(pa.array(there))) for name, column in of.items()}
    name = config["id"]
    ids = identifiers.of_positions(ra, dec) if name is None else identifiers.of_column(of[name], f"{section}.id")
    values = {"id": ids, "ra": ra, "dec": dec}
    if config["pm"]:
        values |= _motion([of[name] for name in config["pm"]], of.get(config["epoch"]), config["epoch"], section)
    return of, values


def colour_corrected(
    primary: np.ndarray,
    primary_err: np.ndarray,
    secondary: np.ndarray,
    secondary_err: np.ndarray,
    coefficients: tuple[float, float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes in the band of a camera from two bands of a catalogue: p + c0 + c1 (p - s) + c2 (p - s)**2.

    Parameters
    ----------
    primary, primary_err, secondary, secondary_err : (n,) arrays
        Catalogue magnitudes p and s with their errors [mag].
    coefficients : c0, c1, c2
        As in LSST's colour terms (pipe_tasks, colorterms).

    Returns
    -------
    mag, mag_err : (n,) arrays
        NaN where one of the magnitudes, or of the errors, is; errors through the slope of the curve at the colour.
    """
    c0, c1, c2 = coefficients
    colour = primary - secondary
    slope = c1 + 2 * c2 * colour
    return primary + c0 + c1 * colour + c2 * colour**2, np.hypot((1 + slope) * primary_err, slope * secondary_err)


def _measured(of: dict[str, Column], config: dict, band: str) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes of the catalogue and their errors, NaN where there is no column of them."""
    column, name = of[config["bands"][band]], config["errors"].get(band)
    mag = _credible(columns.magnitudes(column), *CREDIBLE_MAG)
    if name is None:
        return mag, np.full(len(mag), np.nan)
    return mag, _credible(columns.magnitude_errors(of[name], column, mag), *CREDIBLE_MAG_ERROR)


def _position_errors(errors: list[Column]) -> np.ndarray:
    """Root mean square of the errors in the two coordinates [deg]."""
    squares = [_credible(columns.in_unit(error, u.mas, u.deg), *CREDIBLE_POSITION_ERROR) ** 2 for error in errors]
    return np.sqrt(np.mean(squares, axis=0))


def _motion(pm: list[Column], epoch: Column | None, constant: str | float, section: str) -> dict[str, np.ndarray]:
    """Columns pm_ra, pm_dec [deg/d] and epoch [MJD]; where no column has the epoch, the constant is that of all."""
    motion = [columns.per_year(column) for column in pm]
    motion = [np.where(np.abs(values) < CREDIBLE_MOTION, values, np.nan) for values in motion]
    if epoch is None:
        epoch_mjd = np.full(len(motion[0]), _julian_year(constant))
    else:
        date, are_years = columns.epochs(epoch)
        epoch_mjd = _julian_year(date) if are_years else date
    epoch_mjd = _credible(epoch_mjd, *CREDIBLE_EPOCH)
    if len(epoch_mjd) and not np.isfinite(epoch_mjd).any():
        raise InputError(f"{section}.epoch {constant} is no Julian year, nor an MJD in a column with the unit d")
    return {"pm_ra": motion[0], "pm_dec": motion[1], "epoch": epoch_mjd}


def _julian_year(year: np.ndarray | float) -> np.ndarray | float:
    """MJD of a Julian epoch."""
    return J2000 + (year - 2000) * JULIAN_YEAR


def _credible(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The values between two limits, NaN for the others."""
    return np.where((values > low) & (values < high), values, np.nan)
