"""Reference catalogue: cost of sorting ten million rows of text on the sky, and of the stars around detectors.

Whole processes.  The peer is what comes to mind first: pandas to convert the text to parquet, and for every detector
all positions of that file.  Run by hand or through `make benchmarks`; `main()` returns the rows of the table.
"""

import tempfile
from pathlib import Path

import measure
import numpy as np
import pyarrow as pa
from pyarrow import csv

AREA = 100.0  # [deg2]
N_DETECTORS = 20
CHUNK = 500_000

CONVERT = """
import sys
from diaflow.refcat.convert import convert
from diaflow.run.config import validated
settings = {"path": sys.argv[1], "bands": {b: b for b in "gri"}, "keep": {"starnotgal": 1, "isvariable": 0}}
convert([sys.argv[1]], validated({"images": "x", "refcat": settings})["refcat"], sys.argv[2])
"""
PANDAS = """
import sys
import pandas
pandas.read_csv(sys.argv[1]).to_parquet(sys.argv[2], compression="zstd")
"""
# Circles around detectors of 4k x 4k at 0.2 arcsec, with two arcminutes for the pointing.
READ = """
import sys
import numpy as np
from diaflow.refcat import store
for ra, dec in np.random.default_rng(2).uniform([0.5, -4.5], [9.5, 4.5], (int(sys.argv[2]), 2)):
    assert len(store.read(sys.argv[1], "r", ra, dec, 0.19, 60000.0)) > 0
"""
READ_ALL = """
import sys
import numpy as np
import pyarrow.parquet as pq
for ra, dec in np.random.default_rng(2).uniform([0.5, -4.5], [9.5, 4.5], (int(sys.argv[2]), 2)):
    table = pq.read_table(sys.argv[1], columns=["id", "ra", "dec", "r"])
    assert len(table.filter(np.hypot(table["ra"].to_numpy() - ra, table["dec"].to_numpy() - dec) < 0.19)) > 0
"""


def catalogue(n_rows: int, path: Path) -> None:
    """A text table of stars, evenly over a square field on the equator."""
    rng = np.random.default_rng(1)
    side = np.sqrt(AREA)
    with open(path, "wb") as file:
        for first in range(0, n_rows, CHUNK):
            n = min(CHUNK, n_rows - first)
            columns = {"id": np.arange(first, first + n)}
            columns |= {"ra": rng.uniform(0, side, n), "dec": rng.uniform(-side / 2, side / 2, n)}
            columns |= {band: rng.uniform(14, 25, n).round(4) for band in "gri"}
            columns |= {"starnotgal": rng.integers(0, 2, n), "isvariable": rng.integers(0, 2, n)}
            csv.write_csv(pa.table(columns), file, csv.WriteOptions(include_header=not first))


def main(n_rows: int = 10_000_000) -> list[dict]:
    """The rows of the benchmark table."""
    with tempfile.TemporaryDirectory() as folder:
        text, store, plain = (Path(folder, name) for name in ("stars.csv", "store.parquet", "plain.parquet"))
        catalogue(n_rows, text)
        commands = [
            (CONVERT, text, store),
            (PANDAS, text, plain),
            (READ, store, N_DETECTORS),
            (READ_ALL, plain, N_DETECTORS),
        ]
        costs = [measure.cpu_and_memory([measure.PYTHON, "-c", *command]) for command in commands]
    (convert, convert_mb), (pandas, _), (read, read_mb), (read_all, _) = costs
    millions = f"{n_rows / 1e6:g} million rows"
    return [
        measure.result(
            f"reference catalogue of {millions} from text", convert, convert_mb, "pandas to parquet", pandas
        ),
        measure.result(f"stars around {N_DETECTORS} detectors in it", read, read_mb, "whole parquet file", read_all),
    ]


if __name__ == "__main__":
    print(main())
