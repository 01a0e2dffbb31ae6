"""``python -m planner compare A B``: which products of two runs differ, by how much, and because of what.

Tables are compared row by row where their rows are of the same things, images pixel by pixel in units of their noise.
The causes are those that products and runs record: code, parameters, inputs, configuration and environment.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

from diaflow.run.code import recorded
from diaflow.store import provenance
from planner import changes

KEYS = ("sourceId", "diaSourceId", "diaObjectId", "id", "visit", "detector", "tract", "patch", "band")
RECORD = "provenance.json"  # of a run
MOST = 5  # columns, or products of one kind, that are named
FLOOR = 1e-12  # of a scale [unit of the column], for columns without scatter


@dataclass(frozen=True)
class Difference:
    """A product that differs.

    Attributes
    ----------
    product : str
        Path in the run.
    how : str
        By how much.
    why : tuple of str
        What made it otherwise, as it says itself; empty where the cause is in its inputs.
    """

    product: str
    how: str
    why: tuple[str, ...]


def compare(one: Path, other: Path) -> tuple[list[Difference], dict[str, list[str]], list[str]]:
    """The differences of two runs.

    Parameters
    ----------
    one, other : path
        Folders of their products: ``results/main``, for example.

    Returns
    -------
    differences : list of Difference
        Of products that both have, sorted by path.
    alone : dict of str to list of str
        Products that only one has, by its folder.
    causes : list of str
        What of configuration and environment differs.
    """
    paths = [{str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} for run in (one, other)]
    for of_run in paths:
        of_run.discard(RECORD)
    history = recorded(one / RECORD) | recorded(other / RECORD)
    found = []
    for name in sorted(paths[0] & paths[1]):
        how = _how(one / name, other / name)
        if how:
            found.append(Difference(name, how, tuple(_why(one / name, other / name, history))))
    alone = {str(one): sorted(paths[0] - paths[1]), str(other): sorted(paths[1] - paths[0])}
    return found, alone, list(_causes(one / RECORD, other / RECORD))


def _how(one: Path, other: Path) -> str:
    """By how much two files differ; empty where they do not, but for what made them."""
    if one.suffix == ".parquet":
        return _tables(pq.read_table(one), pq.read_table(other))
    if one.suffix == ".fits":
        return _images(one, other)
    return "" if one.read_bytes() == other.read_bytes() else "contents differ"


def _tables(one: pa.Table, other: pa.Table) -> str:
    columns = [name for name in one.column_names if name in other.column_names]
    words = [f"only one has {name}" for name in sorted(set(one.column_names) ^ set(other.column_names))]
    if len(one) != len(other):
        return "; ".join([*words, f"{len(one)} and {len(other)} rows"])
    arrays = {name: tuple(table[name].to_numpy(zero_copy_only=False) for table in (one, other)) for name in columns}
    keys = [name for name in KEYS if name in columns]
    if any(not np.array_equal(*arrays[name]) for name in keys):
        return "; ".join([*words, f"{len(one)} rows, of other things"])
    by_sigma = {name: _column(name, arrays) for name in columns if name not in keys}
    changed = sorted((item for item in by_sigma.items() if item[1]), key=lambda item: -item[1][1])
    words += [f"{name}: {rows} of {len(one)} rows, up to {sigma:.2g} sigma" for name, (rows, sigma) in changed[:MOST]]
    return "; ".join(words + ([f"and {len(changed) - MOST} other columns"] if len(changed) > MOST else []))


def _column(name: str, arrays: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[int, float] | None:
    """How many values of a column differ, and the most by its error, or else its scatter; infinite for no numbers."""
    one, other = arrays[name]
    numeric = one.dtype.kind in "fiu" and other.dtype.kind in "fiu"
    same = (one == other) | ((one != one) & (other != other))
    if np.all(same):
        return None
    if not numeric:
        return int(np.sum(~same)), np.inf
    one, other = one.astype(float), other.astype(float)
    scale = arrays.get(f"{name}Err", (None,))[0]
    if scale is None:
        low, high = np.nanpercentile(one, [15.9, 84.1]) if np.isfinite(one).any() else (0.0, 0.0)
        scale = np.full(len(one), (high - low) / 2)
    with np.errstate(invalid="ignore"):
        sigmas = np.abs(one - other)[~same] / np.maximum(scale[~same], FLOOR)
    return int(np.sum(~same)), float(np.max(np.where(np.isfinite(sigmas), sigmas, np.inf)))


def _images(one: Path, other: Path) -> str:
    with fits.open(one, memmap=False) as first, fits.open(other, memmap=False) as second:
        if [hdu.name for hdu in first] != [hdu.name for hdu in second]:
            return "other HDUs"
        variance = first["VARIANCE"].data if "VARIANCE" in first else None
        pairs = ((hdu.name, hdu.data, counterpart.data) for hdu, counterpart in zip(first, second))
        words = [_plane(name, a, b, variance) for name, a, b in pairs if a is not None and b is not None]
    return "; ".join(filter(None, words))


def _plane(name: str, one: np.ndarray, other: np.ndarray, variance: np.ndarray | None) -> str:
    """How many pixels of a plane differ, those of the image also by how many sigma."""
    if one.shape != other.shape:
        return f"{name}: another shape"
    if one.dtype.fields is not None:
        return "" if one.tobytes() == other.tobytes() else f"{name}: other rows"
    differ = ~((one == other) | ((one != one) & (other != other)))
    if not differ.any():
        return ""
    words = f"{name}: {differ.mean():.2g} of the pixels"
    if name != "IMAGE" or variance is None:
        return words
    with np.errstate(invalid="ignore", divide="ignore"):
        sigmas = np.abs(one[differ].astype(float) - other[differ]) / np.sqrt(variance[differ])
    sigmas = sigmas[np.isfinite(sigmas)]
    return f"{words}, rms {np.sqrt(np.mean(sigmas**2)):.2g} sigma, up to {sigmas.max():.2g}" if len(sigmas) else words


def _why(one: Path, other: Path, history: dict[str, dict[str, str]]) -> Iterator[str]:
    """What the products say: other code, parameters or inputs."""
    before, now = provenance.read(one), provenance.read(other)
    if before is None or now is None:
        return
    if before.code != now.code:
        yield changes.code(before.code, history.get(now.code, {}), history)
    if before.parameters != now.parameters:
        yield "parameters changed"
    yield from changes.inputs(*(_within_run(said.inputs) for said in (before, now)))


def _within_run(inputs: tuple[str, ...] | None) -> list[str] | None:
    """Inputs without the name of the run, which differs."""
    return inputs and [path.split("/", 2)[-1] if path.startswith("results/") else path for path in inputs]


def _causes(one: Path, other: Path) -> Iterator[str]:
    """Keys of the configuration and the environment that differ, from what the runs recorded."""
    records = [json.loads(path.read_text()) if path.exists() else {} for path in (one, other)]
    for part in ("config", "environment"):
        before, now = (record.get(part, {}) for record in records)
        yield from changes.differences("", before, now)


def text(differences: list[Difference], alone: dict[str, list[str]], causes: list[str]) -> str:
    """The differences for the terminal, products of one kind together.

    Parameters
    ----------
    differences, alone, causes
        As `compare` gives them.

    Returns
    -------
    str
        Lines.
    """
    lines = [f"recorded: {cause}" for cause in causes]
    for run, names in alone.items():
        kinds = Counter(name.split("/")[0] for name in names)
        lines += [f"only in {run}: {count} of {kind}" for kind, count in kinds.items()]
    by_kind = defaultdict(list)
    for difference in differences:
        by_kind[difference.product.split("/")[0]].append(difference)
    for kind, group in by_kind.items():
        why = sorted({reason for difference in group for reason in difference.why}) or ["its inputs"]
        lines.append(f"{kind}: {len(group)} differ, because of {'; '.join(why)}")
        lines += [f"  {difference.product}: {difference.how}" for difference in group[:MOST]]
        lines += [f"  and {len(group) - MOST} more"] if len(group) > MOST else []
    return "\n".join(lines or ["no difference"]) + "\n"


def main(words: list[str]) -> None:
    """Print how two runs differ.

    Parameters
    ----------
    words : list of str
        Of the command line: the folders of the runs' products.
    """
    parser = argparse.ArgumentParser(prog="planner compare", description=__doc__)
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="folder of products: results/main, for example")
    runs = parser.parse_args(words).runs
    for run in runs:
        if not run.is_dir():
            parser.error(f"{run}: no such folder")
    print(text(*compare(*runs)), end="")
