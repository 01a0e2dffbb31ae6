"""Files that come with an image and lie beside it: tables with its gain, masks, variances.

In come the `file` and `pattern` of an instrument map and the image, out goes the path.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from astropy.io import fits

from diaflow.errors import BadData, Kind
from diaflow.instruments.fits_files import readable

if TYPE_CHECKING:
    from diaflow.instruments.translate import Image


def check(rule: dict) -> None:
    """Refuse a name of a file beside the image whose numbers in braces are no groups of its pattern.

    Parameters
    ----------
    rule : dict
        With a file and maybe a pattern.

    Raises
    ------
    ValueError, TypeError, re.error
        With the fault.
    """
    groups = re.compile(rule.get("pattern", "")).groups
    for number in re.findall(r"\{(\d+)[:}]", str(rule.get("file", ""))):
        if not 1 <= int(number) <= groups:
            raise ValueError(f"file needs a pattern with a group {number}")


def path(rule: dict, image: "Image") -> Path:
    """The file in the folder of an image whose name has parts of the image's name, or values of header keys, in it.

    Parameters
    ----------
    rule : dict
        file, a glob with header keys, and formats, in braces: ``{FIELDID:06d}``.  A number in braces is that group of
        the regular expression `pattern` in the name of the image.
    image : Image

    Returns
    -------
    Path
        Of several that match, the one with the longest name.

    Raises
    ------
    BadData
        When there is none.
    """
    groups = re.search(rule.get("pattern", ""), image.path.name)
    if groups is None:
        raise BadData(f"the file name does not match {rule['pattern']}", Kind.FILE)
    name = re.sub(
        r"\{([^}:]+)(:[^}]*)?\}",
        lambda part: groups[int(part[1])] if part[1].isdigit() else _formatted(part, image),
        rule["file"],
    )
    # The longest name is the one with the highest number, e.g. the latest reprocessing.
    matches = sorted(image.path.parent.glob(name), key=lambda path: (len(path.name), path.name))
    if not matches:
        raise BadData(f"no file {name} beside the image", Kind.FILE)
    return matches[-1]


def first_row(path: Path, hdu: int | str) -> dict:
    """The first row of a table.

    Parameters
    ----------
    path : Path
    hdu : int or str

    Returns
    -------
    dict
        Value by name of the column.

    Raises
    ------
    BadData
        When it cannot be read.
    """
    with readable(f"unreadable table {path.name}"), fits.open(path, memmap=False) as hdus:
        table = hdus[hdu].data
        return {name: table[name][0] for name in table.names}


def _formatted(part: re.Match, image: "Image") -> str:
    value = image.lookup(part[1])
    try:
        return format(value, (part[2] or ":")[1:])
    except (TypeError, ValueError):
        raise BadData(f"header has no {part[1]} that can be written as {part[0]}", Kind.HEADER) from None
