"""What other programs call the bands: from the configuration, since a filter is told by its name alone."""

from collections.abc import Iterable, Mapping

import numpy as np

from diaflow.errors import InputError


def check(section: Mapping, bands: Iterable[str]) -> None:
    """Whether the formats of a configuration have all that they need.

    Parameters
    ----------
    section : mapping
        ``lightcurves`` of the configuration: `formats`, and under the name of each its options.
    bands : iterable of str
        Of the run.

    Raises
    ------
    InputError
        When an option is null, or a band has no name in a format that needs one; the message names the key.
    """
    if section["ades"]:
        named(np.array(sorted(set(bands)), object), section["ades"]["bands"], "ades")
    for name in section["formats"]:
        options = section.get(name, {})
        missing = [key for key, value in options.items() if value is None]
        if missing:
            raise InputError(f"lightcurves.{name}.{missing[0]} is missing")
        if "bands" in options:
            named(np.array(sorted(set(bands)), object), options["bands"], name)


def named(bands: np.ndarray, names: Mapping[str, str | int], format: str) -> np.ndarray:
    """The names of bands in a format.

    Parameters
    ----------
    bands : (n,) array of str
    names : mapping
        By band.
    format : str
        For the message.

    Returns
    -------
    (n,) array of object
        Names, or numbers where the format has those.

    Raises
    ------
    InputError
        When a band has no name.
    """
    translated = np.empty(len(bands), object)
    for band in sorted(set(bands)):
        if band not in names:
            known = ", ".join(names) or "none"
            raise InputError(f"lightcurves.{format}.bands: no name for the band {band!r} (bands with a name: {known})")
        translated[bands == band] = names[band]
    return translated
