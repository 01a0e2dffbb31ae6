"""From the columns of a catalogue to those of the store: ICRS degrees, AB magnitudes, motions per day, MJD.

What a file says of a column's unit counts; where it says nothing, positions are in degrees, their errors in mas,
proper motions in mas/yr, epochs in Julian years and the rest in magnitudes.
"""

import numpy as np
from astropy import units as u

from diaflow import units
from diaflow.errors import InputError
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
        Values and unit of every column in `names(config)`.
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
        When a column is not numeric or has an impossible unit.
    """
    ra, dec = (_floats(block, config[key], u.deg, u.deg) for key in ("ra", "dec"))
    columns = {"id": _identifiers(block, config["id"]), "ra": ra % 360, "dec": dec}
    measured = {band: _measured(block, config, band) for band in config["bands"]}
    for band, (mag, err) in measured.items():
        if term := config["colour_terms"].get(band):
            mag, err = colour_corrected(mag, err, *measured[term["secondary"]], term["coefficients"])
        columns |= {f"{band}_mag": mag, f"{band}_mag_err": err}
    if config["pos_err"]:
        columns["pos_err"] = _position_errors(block, config["pos_err"])
    if config["pm"]:
        columns |= _motion(block, config["pm"], config["epoch"])
    columns["star"] = np.ones(len(ra), bool)
    for name, value in config["keep"].items():
        columns["star"] &= _equal(block[name][0], value)
    placed = np.isfinite(ra) & (np.abs(dec) <= 90)
    return tables.from_columns("refcat_store", list(config["bands"]), **columns)[placed]


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


def _measured(block: Block, config: dict, band: str) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes of the catalogue and their errors, NaN where there is no column of them."""
    mag = _magnitudes(block, config["bands"][band])
    name = config["errors"].get(band)
    return mag, _magnitude_errors(block, name, mag) if name else np.full(len(mag), np.nan)


def _magnitudes(block: Block, name: str) -> np.ndarray:
    """AB magnitudes of a column of magnitudes or fluxes [mag]."""
    if _is_magnitude(block[name][1]):
        mag = _numbers(block, name)
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            mag = units.magnitude(_floats(block, name, u.nJy, u.nJy))
    return _credible(mag, *CREDIBLE_MAG)


def _magnitude_errors(block: Block, name: str, mag: np.ndarray) -> np.ndarray:
    """Errors of magnitudes from a column of those, or of errors of fluxes [mag]."""
    if _is_magnitude(block[name][1]):
        error = _numbers(block, name)
    else:
        flux = units.nanojansky(mag)
        error = units.MAG_PER_RELATIVE_ERROR * _floats(block, name, u.nJy, u.nJy) / flux
    return _credible(error, *CREDIBLE_MAG_ERROR)


def _is_magnitude(unit: str) -> bool:
    """Whether a unit is one of magnitudes; maggies are fluxes."""
    unit = unit.lower()
    return not unit or ("mag" in unit and "magg" not in unit)


def _position_errors(block: Block, errors: list[str]) -> np.ndarray:
    """Root mean square of the errors in the two coordinates [deg]."""
    squares = [_credible(_floats(block, name, u.mas, u.deg), *CREDIBLE_POSITION_ERROR) ** 2 for name in errors]
    return np.sqrt(np.mean(squares, axis=0))


def _motion(block: Block, pm: list[str], epoch: str | float) -> dict[str, np.ndarray]:
    """Columns pm_ra, pm_dec [deg/d] and epoch [MJD]."""
    motion = [_floats(block, name, u.mas / u.yr, u.deg / u.day) for name in pm]
    motion = [np.where(np.abs(values) < CREDIBLE_MOTION, values, np.nan) for values in motion]
    if not isinstance(epoch, str):
        epoch_mjd = np.full(len(motion[0]), _julian_year(epoch))
    elif _unit(block, epoch, u.yr) == u.day:
        epoch_mjd = _numbers(block, epoch)
    else:
        epoch_mjd = _julian_year(_floats(block, epoch, u.yr, u.yr))
    epoch_mjd = _credible(epoch_mjd, *CREDIBLE_EPOCH)
    if len(epoch_mjd) and not np.isfinite(epoch_mjd).any():
        raise InputError(f"refcat.epoch {epoch} is no Julian year, nor an MJD in a column with the unit d")
    return {"pm_ra": motion[0], "pm_dec": motion[1], "epoch": epoch_mjd}


def _julian_year(year: np.ndarray | float) -> np.ndarray | float:
    """MJD of a Julian epoch."""
    return J2000 + (year - 2000) * JULIAN_YEAR


def _credible(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The values between two limits, NaN for the others."""
    return np.where((values > low) & (values < high), values, np.nan)


def _equal(column: np.ndarray, value: object) -> np.ndarray:
    """Which entries of a column are a value; text without the blanks around it."""
    if isinstance(value, str):
        return np.array([str(entry).strip() == value for entry in column.tolist()], bool)
    return np.asarray(column == value) & np.ones(len(column), bool)


def _floats(block: Block, name: str, default: u.UnitBase, unit: u.UnitBase) -> np.ndarray:
    """A column in another unit."""
    stated = _unit(block, name, default)
    # LSST states the angle of a yearly motion.
    if default == u.mas / u.yr and stated.is_equivalent(u.rad):
        stated = stated / u.yr
    try:
        return _numbers(block, name) * stated.to(unit)
    except u.UnitConversionError as error:
        raise InputError(f"column '{name}' is in {block[name][1]}, which cannot be brought to {unit}") from error


def _unit(block: Block, name: str, default: u.UnitBase) -> u.UnitBase:
    """The unit that the file states of a column, or the default."""
    stated = block[name][1]
    try:
        return u.Unit(stated) if stated else default
    except ValueError as error:
        raise InputError(f"column '{name}' has the unknown unit {stated}") from error


def _numbers(block: Block, name: str) -> np.ndarray:
    """A column as float64."""
    try:
        return np.asarray(block[name][0], np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"column '{name}' is not numeric ({error})") from error


def _identifiers(block: Block, name: str) -> np.ndarray:
    """A column as int64."""
    column = block[name][0]
    # Text would be parsed and a float rounded without a word: both are refused.
    if column.dtype.kind not in "iu":
        raise InputError(f"column '{name}' must hold integers for refcat.id")
    return column.astype(np.int64)
