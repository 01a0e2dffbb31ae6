"""The tables that users open: the per-visit and per-patch tables of a run put under each other.

Tables of sources are streamed file by file, so that memory does not grow with the number of visits; DIASources
get the DIAObject they belong to.  `visits` joins what every step says about an image.  Rows are in the order of
visit, detector and identifier whatever the order of the files, and each output appears only when it is complete.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diaflow.errors import InputError
from diaflow.store import ids, provenance, tables
from diaflow.store.files import replacing

# Rows of a parquet row group: large enough to compress well, small enough to hold in memory.
GROUP_ROWS = 2**17
NOT_RUN = "not run"
FORCED_MEANS = "fpFlux"  # the option of DIAObjects with means of forced photometry

Paths = Sequence[str | Path]


# Of rows of a table, the columns that are known only when all of it is collected, by name.
Columns = Callable[[np.ndarray], dict[str, np.ndarray]]


def dia_sources(dia_source_paths: Paths, dia_link_paths: Paths, out: str | Path, *columns: Columns) -> None:
    """All DIASources, diaObjectId filled in from the links (0 where there is none).

    Parameters
    ----------
    dia_source_paths, dia_link_paths : sequences of paths
        "dia_source" tables, one per visit; "dia_link" tables, one per patch.
    out : path
        The collected "dia_source" table.
    *columns : callables
        Further columns that are filled in now.

    Raises
    ------
    InputError
        When a table cannot be read or written; the message names it.
    """
    links = tables.concatenate("dia_link", [tables.read("dia_link", path) for path in dia_link_paths])
    left_out = links["diaObjectId"] == 0
    if left_out.any():
        logging.info("%d DIASources are of ambiguous objects and have none", left_out.sum())
    links = links[~left_out]
    # Should two patches claim a source, the object founded first has it.
    links = links[np.lexsort((links["diaObjectId"], links["diaSourceId"]))]

    def with_objects(part: pa.Table) -> pa.Table:
        row = ids.rows_of(links["diaSourceId"], part["diaSourceId"].to_numpy())
        objects = np.append(links["diaObjectId"], 0)[row]  # -1 is the last
        return _with_columns("dia_source", _set(part, "diaObjectId", objects), columns)

    _stream("dia_source", dia_source_paths, out, "diaSourceId", with_objects)


def dia_forced_sources(paths: Paths, out: str | Path, *columns: Columns) -> None:
    """All forced photometry on difference images.

    Parameters
    ----------
    paths : sequence of paths
        "dia_forced_source" tables, one per visit.
    out : path
        The collected table.
    *columns : callables
        Further columns that are filled in now.

    Raises
    ------
    InputError
        When a table cannot be read or written; the message names it.
    """

    def filled(part: pa.Table) -> pa.Table:
        return _with_columns("dia_forced_source", part, columns)

    _stream("dia_forced_source", paths, out, "diaForcedSourceId", filled)


def extra(name: str, paths: Paths, out: str | Path) -> None:
    """A table that not every run has: of visits, in their order, or of parts of the sky or of the time.

    Parameters
    ----------
    name : str
        Of its table.
    paths : sequence of paths
        Its parts.
    out : path
        The collected table.

    Raises
    ------
    InputError
        When a table cannot be read or written; the message names it.
    """
    if "visit" in tables.columns(name):
        _stream(name, paths, out, next(iter(tables.columns(name))))
    else:
        tables.write(name, tables.concatenate(name, [tables.read(name, path) for path in sorted(map(str, paths))]), out)


def sources(paths: Paths, out: str | Path) -> None:
    """All sources of the calibrated exposures.

    Parameters
    ----------
    paths : sequence of paths
        "source" tables, one per visit.
    out : path
        The collected table.

    Raises
    ------
    InputError
        When a table cannot be read or written; the message names it.
    """
    _stream("source", paths, out, "sourceId")


def dia_objects(paths: Paths, dia_forced_source_paths: Paths, out: str | Path, *columns: Columns) -> None:
    """The DIAObjects of all patches, over the bands of all of them, sorted by diaObjectId.

    Where they have the option fpFlux, its columns are filled from the forced photometry, over the bands of that too.

    Parameters
    ----------
    paths, dia_forced_source_paths : sequences of paths
        "dia_object" tables, one per patch; "dia_forced_source" tables, one per visit.
    out : path
        The collected table.
    *columns : callables
        Further columns that are filled in now.

    Raises
    ------
    InputError
        When a table cannot be read or written; the message names it.
    """
    objects = tables.concatenate("dia_object", [tables.read("dia_object", path) for path in sorted(map(str, paths))])
    # Should two patches own an object, the first has it.
    objects = objects[np.unique(objects["diaObjectId"], return_index=True)[1]]
    if FORCED_MEANS in tables.options_of("dia_object", objects.dtype.names):
        objects = _with_forced_means(objects, dia_forced_source_paths)
    for name, values in _filled(objects, columns).items():
        objects[name] = values
    tables.write("dia_object", objects, out)


def _with_forced_means(objects: np.ndarray, paths: Paths) -> np.ndarray:
    """Objects, sorted by identifier, with the weighted means of their forced fluxes; sums run file by file."""
    sums: dict[str, np.ndarray] = {}  # of weight and of weight times flux, by band
    columns = ("diaObjectId", "band", "psfFlux", "psfFluxErr", "psfFlux_flag", "pixelFlags")
    for path in sorted(map(str, paths)):
        rows = tables.read("dia_forced_source", path, columns)
        place = ids.rows_of(objects["diaObjectId"], rows["diaObjectId"])
        good = np.isfinite(rows["psfFlux"]) & (rows["psfFluxErr"] > 0) & ~rows["psfFlux_flag"] & ~rows["pixelFlags"]
        good &= place >= 0
        for band in np.unique(rows["band"][good].astype(str)):
            mine = good & (rows["band"] == band)
            weight = rows["psfFluxErr"][mine].astype(float) ** -2
            total = sums.setdefault(band, np.zeros((2, len(objects))))
            total[0] += np.bincount(place[mine], weight, len(objects))
            total[1] += np.bincount(place[mine], weight * rows["psfFlux"][mine], len(objects))
    options = tables.options_of("dia_object", objects.dtype.names)
    objects = tables.concatenate("dia_object", [objects, tables.empty("dia_object", 0, sorted(sums), options)])
    for band, (weight, flux) in sums.items():
        weight = np.where(weight > 0, weight, np.nan)
        objects[f"{band}_fpFluxMean"], objects[f"{band}_fpFluxMeanErr"] = flux / weight, weight**-0.5
    return objects


def visits(
    exposures_path: str | Path, visit_summary_paths: Paths, diffim_summary_paths: Paths, out: str | Path
) -> None:
    """The "visit" table: every image of the exposure table with what calibration and subtraction say about it.

    Images that a step did not see have the status "not run" there.

    Parameters
    ----------
    exposures_path : path
        The "exposure" table.
    visit_summary_paths, diffim_summary_paths : sequences of paths
        "visit_summary" and "diffim_summary" tables.
    out : path
        The "visit" table.

    Raises
    ------
    InputError
        When a table cannot be read or written; the message names it.
    """
    exposures = tables.read("exposure", exposures_path)
    exposures = exposures[exposures["status"] != "calibration"]
    exposures = exposures[np.lexsort((exposures["path"].astype(str), exposures["detector"], exposures["visit"]))]
    joined = tables.empty("visit", len(exposures))
    for name in ("visit", "detector", "band", "mjd", "exptime", "ra", "dec", "path"):
        joined[name] = exposures[name]
    outcome = ("status", "reason", "kind")
    for name in outcome:
        joined[f"ingest_{name}"] = exposures[name]
    _join(joined, "visit_summary", visit_summary_paths, {name: f"calexp_{name}" for name in outcome})
    renamed = {name: f"diffim_{name}" for name in outcome} | {"depth": "diffim_depth"}
    _join(joined, "diffim_summary", diffim_summary_paths, renamed)
    tables.write("visit", joined, out)


def _join(joined: np.ndarray, name: str, paths: Paths, renamed: dict[str, str]) -> None:
    """Fill the columns of `joined` that table `name` has, under their own or a new name."""
    rows = tables.concatenate(name, [tables.read(name, path) for path in paths])
    place = ids.rows_of(_data_id(rows), _data_id(joined))
    present = (place >= 0) & (joined["ingest_status"] == "ok")
    joined[renamed["status"]] = NOT_RUN
    of_exposures = {"visit", "detector", "band", "mjd", "exptime", "ra", "dec"}
    for column in rows.dtype.names:
        target = renamed.get(column, column)
        if column not in of_exposures and target in joined.dtype.names:
            joined[target][present] = rows[column][place[present]]


def _data_id(table: np.ndarray) -> np.ndarray:
    """Visit and detector in one integer."""
    return (table["visit"] << ids.DETECTOR_BITS) | table["detector"]


def _filled(rows: np.ndarray, columns: Sequence[Columns]) -> dict[str, np.ndarray]:
    """What all of `columns` have of the rows of a table."""
    return {name: values for each in columns for name, values in each(rows).items()}


def _with_columns(name: str, part: pa.Table, columns: Sequence[Columns]) -> pa.Table:
    """Rows of a table with some columns filled in."""
    if not columns:
        return part
    rows = tables.from_columns(name, **{column: part[column].to_numpy() for column in part.column_names})
    for column, values in _filled(rows, columns).items():
        part = _set(part, column, values)
    return part


def _set(part: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    column = part.schema.get_field_index(name)
    field = part.schema.field(column)
    return part.set_column(column, field, pa.array(values, from_pandas=False).cast(field.type))


def _stream(
    name: str, paths: Paths, out: str | Path, key: str, change: Callable[[pa.Table], pa.Table] = lambda rows: rows
) -> None:
    """Write the rows of tables of one visit each, in the order of visit, detector and `key`."""
    first_visit = {path: tables.read(name, path, only=["visit"])["visit"].min(initial=ids.MAX_VISIT) for path in paths}
    paths = sorted((path for path, visit in first_visit.items() if visit < ids.MAX_VISIT), key=first_visit.get)
    if not paths:
        tables.write(name, tables.empty(name), out)
        return
    order = [(column, "ascending") for column in ("visit", "detector", key)]
    # what made the parts did not make the whole
    schema = _read(name, paths[0]).schema.with_metadata({b"note": b""} | provenance.metadata())
    with replacing(out) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
        waiting = []
        for path in paths:
            rows = _read(name, path).sort_by(order)
            waiting.append(change(rows))
            if sum(map(len, waiting)) >= GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))


def _read(name: str, path: str | Path) -> pa.Table:
    """A table as pyarrow has it, with the declared columns in their order."""
    try:
        return pq.ParquetFile(path).read().select(list(tables.columns(name)))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable {name} table ({error})") from error
