"""What astropy writes of the columns of a table above the rows of ECSV files, and into parquet files."""

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from diaflow.errors import InputError


class Description(NamedTuple):
    """Of the columns of a table.

    Attributes
    ----------
    units : dict of str to str
        By column, "" for none.
    masks : dict of str to str
        By column, the one that is true where its values are missing.
    delimiter : str
        Of ECSV.
    """

    units: dict[str, str]
    masks: dict[str, str]
    delimiter: str


def read(lines: list[str]) -> Description:
    """Read a description.

    Parameters
    ----------
    lines : list of str
        YAML.

    Returns
    -------
    Description

    Raises
    ------
    InputError
        When it cannot be read.
    """
    from astropy.table import meta

    try:
        described = meta.get_header_from_yaml(lines)
        units = {column["name"]: str(column.get("unit") or "") for column in described["datatype"]}
        serialized = (described.get("meta") or {}).get("__serialized_columns__") or {}
        masks = {name: entry["mask"]["name"] for name, entry in serialized.items() if "mask" in entry}
    except (meta.YamlParseError, AttributeError, KeyError, TypeError) as error:
        raise InputError(f"the description of its columns cannot be read ({' '.join(str(error).split())})") from error
    return Description(units, masks, described.get("delimiter", " "))


def without_masked(values: pa.Array, mask: pa.Array) -> pa.Array:
    """Values, null where a mask is true.

    Parameters
    ----------
    values : (n,) array
    mask : (n,) array
        Truth values or text of them.

    Returns
    -------
    (n,) array
    """
    return pc.if_else(pc.cast(mask, pa.bool_()), None, values)
