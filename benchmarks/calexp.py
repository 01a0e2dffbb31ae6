"""Calibration of a simulated 4k x 4k detector with 5,000 sources, beside SExtractor, PSFEx and SCAMP on the same image.

Whole processes, one thread each, rounds interleaved.  Ours runs the script of the rule: from the raw image and the
sorted reference catalogue to the calexp with variance, mask, PSF, WCS and zero point, its sources and its summary; for
a visit of one detector, and per detector of a visit of four (the same image), which start the process only once.
The peers find sources and cut them out, model the PSF, and solve for WCS and zero point against the same catalogue;
they write no calibrated image and no PSF fluxes.  Without them (Debian packages source-extractor, psfex, scamp) their
fields are empty.
"""

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from measure import PYTHON, ROOT, cpu_and_memory, result

from diaflow.image.exposure_file import write_fits
from diaflow.refcat import store
from diaflow.refcat.convert import convert
from diaflow.run.config import validated
from diaflow.simulate import pixels, pointing, truth
from diaflow.simulate.sky import Survey
from diaflow.store import tables

ROUNDS = 3
VISITS = (1, 4)  # detectors
BAND = "r"
SURVEY = {"bands": [BAND], "template_visits": 1, "science_visits": 1, "detectors": 1, "size": 4096}
SURVEY |= {"pixel_scale": 0.2, "seeing": [0.7, 0.8], "stars": 85000, "galaxies": 170000}
SURVEY |= {"supernovae": 0, "variables": 0, "asteroids": 0}
CONFIG = {
    "images": "simulated",
    "simulate": SURVEY,
    "refcat": {"path": "catalogue.parquet", "bands": {BAND: f"{BAND}_mag"}},
}
PEERS = ("source-extractor", "psfex", "scamp")

SECTION = validated(CONFIG)["calexp"]
OURS = f"""
import json
import sys
sys.path[:0] = ["{ROOT / "scripts"}", "{ROOT / "benchmarks"}"]
import calexp
from measure import run_script
visit = sys.argv[1]
rows = [tuple(row) for row in json.loads(sys.argv[2])]
run_script(
    calexp.main,
    "calexp",
    input=dict(refcat="refcat.parquet", jointcal=[], reference_visit=[]),
    output=dict(
        calexps=["calexp/" + visit], sources=[f"sources/{{visit}}.parquet"], summaries=[f"summary/{{visit}}.parquet"]
    ),
    params=dict(exposures=rows, calexp={SECTION!r}, instrument="generic", detrended=None, compress=False),
)
"""

COLUMNS = """
X_IMAGE Y_IMAGE XWIN_IMAGE YWIN_IMAGE ERRAWIN_IMAGE ERRBWIN_IMAGE ERRTHETAWIN_IMAGE X2WIN_IMAGE Y2WIN_IMAGE XYWIN_IMAGE
FLUX_AUTO FLUXERR_AUTO FLUX_APER(1) FLUXERR_APER(1) FLUX_RADIUS ELONGATION SNR_WIN FLAGS VIGNET(31,31)
"""


def make_field(folder: Path) -> np.ndarray:
    """The raw image and the reference catalogue for us and as SCAMP reads it; returns the image's row."""
    config = validated(CONFIG)
    survey = Survey.make(config["simulate"])
    write_fits([fits.PrimaryHDU(*pixels.render(survey, 1, 0))], folder / "image.fits")
    row = pointing.plan(config["simulate"])[:1]
    row["path"], row["zero_point"] = "image.fits", np.nan
    truth.write_refcat(survey, folder / "catalogue.parquet")
    convert([folder / "catalogue.parquet"], config["refcat"], folder / "refcat.parquet")
    stars = store.read(folder / "refcat.parquet", BAND, float(row["ra"][0]), float(row["dec"][0]), 1.0, 60000.0)
    write_ldac(stars[stars["star"]], folder / "reference.cat")
    return row


def visit(row: np.ndarray, n: int) -> str:
    """The rows of a visit of n detectors, all of them the same image, as JSON."""
    rows = np.repeat(row, n)
    rows["visit"], rows["detector"] = n, np.arange(n)
    return json.dumps(rows.tolist())


def write_ldac(stars: np.ndarray, path: Path) -> None:
    """A FITS_LDAC catalogue: positions, errors and magnitudes of stars."""
    error, n = 0.015 / 3600, len(stars)
    columns = {"X_WORLD": stars["ra"], "Y_WORLD": stars["dec"], "MAG": stars["mag"], "MAGERR": np.full(n, 0.01)}
    columns |= {"ERRA_WORLD": np.full(n, error), "ERRB_WORLD": np.full(n, error), "OBSDATE": np.full(n, 2020.0)}
    header = fits.Header([("NAXIS", 2), ("EQUINOX", 2000.0)]).tostring()
    card = fits.Column("Field Header Card", f"{len(header)}A", array=[header])
    objects = [fits.Column(name, "D", array=values.astype(float)) for name, values in columns.items()]
    tables_ = [([card], "LDAC_IMHEAD"), (objects, "LDAC_OBJECTS")]
    hdus = [fits.BinTableHDU.from_columns(parts, name=name) for parts, name in tables_]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)


def peer_commands(folder: Path) -> list[list]:
    """SExtractor, PSFEx and SCAMP, their options the defaults but for what the image asks for."""
    (folder / "columns.param").write_text("\n".join(COLUMNS.split()))
    header = fits.getheader(folder / "image.fits")
    options = {
        "source-extractor": {
            "PARAMETERS_NAME": "columns.param",
            "CATALOG_TYPE": "FITS_LDAC",
            "CATALOG_NAME": "sources.cat",
            "FILTER_NAME": "/usr/share/source-extractor/default.conv",
            "STARNNW_NAME": "/usr/share/source-extractor/default.nnw",
            "PHOT_APERTURES": "24",
            "SATUR_LEVEL": header["SATURATE"],
            "GAIN": header["GAIN"],
            "SEEING_FWHM": header["SEEING"],
            "BACK_SIZE": "128",
            "NTHREADS": "1",
        },
        "psfex": {"PSF_SIZE": "31,31", "PSF_SAMPLING": "1", "PSFVAR_DEGREES": "2", "NTHREADS": "1"}
        | {"CHECKIMAGE_TYPE": "NONE", "CHECKPLOT_DEV": "NULL", "CHECKPLOT_TYPE": "NONE", "WRITE_XML": "N"},
        "scamp": {
            "ASTREF_CATALOG": "FILE",
            "ASTREFCAT_NAME": "reference.cat",
            "ASTREFMAG_KEY": "MAG",
            "ASTREFMAGERR_KEY": "MAGERR",
            "CENTROID_KEYS": "XWIN_IMAGE,YWIN_IMAGE",
            "CENTROIDERR_KEYS": "ERRAWIN_IMAGE,ERRBWIN_IMAGE,ERRTHETAWIN_IMAGE",
            "DISTORT_DEGREES": "3",
            "CHECKPLOT_DEV": "NULL",
            "CHECKPLOT_TYPE": "NONE",
            "WRITE_XML": "N",
            "NTHREADS": "1",
        },
    }
    inputs = {"source-extractor": "image.fits", "psfex": "sources.cat", "scamp": "sources.cat"}
    return [
        [name, inputs[name], *(word for key, value in options[name].items() for word in (f"-{key}", value))]
        for name in PEERS
    ]


def main() -> list[dict]:
    """The rows of the benchmark table."""
    missing = [name for name in PEERS if shutil.which(name) is None]
    if missing:
        print(f"calexp: no comparison, not on the PATH: {', '.join(missing)}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        row = make_field(folder)
        peers = [] if missing else peer_commands(folder)
        ours, theirs = {n: [] for n in VISITS}, []
        for _ in range(ROUNDS):
            for n, runs in ours.items():
                runs.append(cpu_and_memory([PYTHON, "-c", OURS, n, visit(row, n)], folder))
            theirs.append([cpu_and_memory(command, folder)[0] for command in peers])
        n_sources = len(tables.read("source", folder / f"sources/{VISITS[-1]}.parquet")) // VISITS[-1]
    peer = ()
    if peers:
        print("SExtractor, PSFEx, SCAMP [CPU s]:", *np.median(theirs, axis=0).round(2), file=sys.stderr)
        peer = "SExtractor + PSFEx + SCAMP", statistics.median(map(sum, theirs))
    rows = []
    for n, runs in ours.items():
        label = f"calexp of {SURVEY['size']}**2 pixels, {n_sources} sources, visit of {n}, each"
        rows.append(result(label, statistics.median(cpu / n for cpu, _ in runs), max(mb for _, mb in runs), *peer))
    return rows


if __name__ == "__main__":
    print(main())
