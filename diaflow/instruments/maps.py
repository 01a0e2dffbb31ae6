"""Instrument maps: the YAML file of a camera, read and checked before any image is.

A map has a rule for each column of the exposure table (`translate`) and, where the camera needs them, sections on mask
and variance (`delivered`), amplifiers (`raw`) and a WCS of the pointing (`pointing`); each file checks its own section.
"""

import re
from pathlib import Path

from diaflow.errors import InputError
from diaflow.instruments import delivered, pointing, raw, translate
from diaflow.store import yamltext

FOLDER = Path(__file__).parent  # of the built-in maps

_SECTIONS = {
    "masks": delivered.check_masks,
    "variance": delivered.check_variance,
    "raw": raw.check,
    "pointing": pointing.check,
}


def names() -> list[str]:
    """The built-in instruments.

    Returns
    -------
    list of str
        In the order of the alphabet.
    """
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name_or_path: str) -> dict:
    """Read an instrument map.

    Parameters
    ----------
    name_or_path : str
        Name of a built-in instrument or path of a YAML file.

    Returns
    -------
    dict
        name and folder of the map, hdu, columns {column: rule}, and the sections masks, variance, raw and pointing;
        what the map does not have is None.

    Raises
    ------
    InputError
        When there is no such map, or it is not well formed.
    """
    is_path = str(name_or_path).endswith((".yaml", ".yml"))
    path = Path(name_or_path) if is_path else FOLDER / f"{name_or_path}.yaml"
    try:
        content = yamltext.load(path.read_bytes())
    except OSError as error:
        if is_path:
            raise InputError(f"instrument: {path.absolute()} cannot be read ({error.strerror})") from None
        known = ", ".join(names())
        raise InputError(f"unknown instrument '{name_or_path}' (known: {known}, or the path of a YAML file)") from None
    except InputError as error:
        raise InputError(f"instrument {path}: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("columns"), dict):
        raise InputError(f"instrument {path}: has no mapping named columns")
    unknown = set(content) - {"description", "hdu", "columns", *_SECTIONS}
    if unknown:
        known = ", ".join(["description", "hdu", "columns", *_SECTIONS])
        raise InputError(f"instrument {path}: unknown key {', '.join(map(str, unknown))} (known: {known})")
    translate.check(str(name_or_path), content["columns"])
    for section in set(_SECTIONS) & set(content):
        try:
            _SECTIONS[section](content[section])
        except (ValueError, TypeError, re.error) as fault:
            raise InputError(f"instrument {path}: {section}: {fault}") from None
    return {
        "name": str(name_or_path),
        "folder": str(path.parent),
        "columns": content["columns"],
        **{name: content.get(name) for name in ("hdu", *_SECTIONS)},
    }


def is_raw(instrument: str) -> bool:
    """Whether the frames of an instrument need bias, dark and flat.

    Parameters
    ----------
    instrument : str
        As in `load`.

    Returns
    -------
    bool

    Raises
    ------
    InputError
        As `load`.
    """
    return load(instrument)["raw"] is not None
