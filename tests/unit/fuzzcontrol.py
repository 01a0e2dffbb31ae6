"""The control of the fuzzes: a small field whose right numbers are known, calibrated as the scripts do it.

Each try changes one thing.  What comes out is a `Product`, a `Refusal` of one image (a failed row) or of the run (one
line); anything else is an exception, and so a failure of the test.
"""

import functools
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import starfield
from astropy.io import fits
from scipy.spatial import KDTree

from diaflow import units
from diaflow.errors import InputError
from diaflow.isr.noise import TRUSTED
from diaflow.refcat.convert import check, convert
from diaflow.run import plan as planning
from diaflow.run.config import validated
from diaflow.sky import sphere
from diaflow.store import tables

SIZE, N_STARS = 256, 36  # of the image [pixel]: the light of as many leaves sky between them
APART, FROM_EDGE = 28.0, 15.0  # of the stars at least [pixel]; near the nodes of a lattice they would match if turned
CONTROLS = (1, 3)  # visits; that of the image that is tried is between them
# Of the noise: its quiet pixels, of which a flaw leaves some 3500, tell it to 2 %, and here to half of that.
NOISE_SEED = 1002
BAND, VISIT, START_UTC, EXPTIME = "r", 2, 60000.125, 30.0
REFCAT = validated({"images": "x", "refcat": {"path": "stars.csv", "bands": {BAND: "r"}}})["refcat"]
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?")
SCRIPT = Path(__file__).parents[2] / "scripts" / "calexp.py"

# What the control may be off by: its zero point is 3 mmag bright by the light of neighbours; factors of 3 to 5 of that
# and of its errors, since a change may take most of its stars.
ZERO_POINT_OFF, FLUX_OFF, NOISE_OFF, FWHM_OFF = 0.02, 0.02, 0.05, 0.08
POSITION_OFF = 0.1  # [arcsec], of stars above this S/N:
BRIGHT = 30.0


@dataclass(frozen=True)
class Refusal:
    """An image (`row`) or a run that is not made, and the line that says why."""

    reason: str
    of_run: bool


@dataclass(frozen=True)
class Product:
    """What calibration made of an image."""

    row: np.void
    sources: np.ndarray
    summary: np.void
    path: Path


@functools.cache
def field() -> starfield.Field:
    """The stars and the counts."""
    rng = np.random.default_rng(1)
    places = np.empty((0, 2))
    while len(places) < N_STARS:
        place = rng.uniform(FROM_EDGE, SIZE - 1 - FROM_EDGE, 2)
        if np.all(np.hypot(*(places - place).T) > APART):
            places = np.vstack([places, place])
    x, y = places.T
    flux = 10 ** rng.uniform(3.3, 5.0, N_STARS)
    noiseless = starfield.painted((SIZE, SIZE), x, y, flux, starfield.FWHM)
    image = starfield.observed(noiseless + starfield.SKY, NOISE_SEED)
    return starfield.Field(image, starfield.row(SIZE), x, y, flux, noiseless)


@functools.cache
def stars() -> np.ndarray:
    """The reference catalogue: true positions and magnitudes."""
    return starfield.refcat(field())


def cards() -> dict[str, object]:
    """The header, without what says how the pixels are stored."""
    return {
        "VISIT": VISIT, "DETECTOR": 0, "FILTER": BAND, "EXPTIME": EXPTIME, "MJD-OBS": START_UTC, "TIMESYS": "UTC",
        "GAIN": starfield.GAIN, "RDNOISE": starfield.READ_NOISE, "SATURATE": starfield.SATURATION,
        "BIASLVL": starfield.BIAS, "RADESYS": "ICRS", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg",
        "CUNIT2": "deg", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": (SIZE + 1) / 2, "CRPIX2": (SIZE + 1) / 2,
        "CD1_1": -starfield.PIXEL_SCALE / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": starfield.PIXEL_SCALE / 3600,
    }  # fmt: skip


def counts() -> np.ndarray:
    """The pixels as a camera writes them [DN]."""
    return field().image.round().astype(np.uint16)


def card_bytes(key: str, value: object) -> bytes:
    """One header card, or several where the text is long."""
    with fits.conf.set_temp("enable_record_valued_keyword_cards", False):
        return fits.Card(key, value).image.encode("latin-1")


def image_bytes(header: list[bytes], data: np.ndarray) -> bytes:
    """A FITS file of cards as they are, whatever they are, and pixels in the type that they have."""
    unsigned = data.dtype.kind == "u" and data.dtype.itemsize > 1
    zero = 1 << (8 * data.dtype.itemsize - 1) if unsigned else 0
    stored = (data.astype(np.int64) - zero).astype(f"i{data.dtype.itemsize}") if unsigned else data
    bitpix = (-1 if stored.dtype.kind == "f" else 1) * 8 * stored.dtype.itemsize
    structure = {"SIMPLE": True, "BITPIX": bitpix, "NAXIS": data.ndim}
    structure |= {f"NAXIS{k + 1}": n for k, n in enumerate(reversed(data.shape))}
    structure |= {"BSCALE": 1, "BZERO": zero} if unsigned else {}
    text = b"".join([*(card_bytes(*card) for card in structure.items()), *header, b"END".ljust(80)])
    content = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    return text + b" " * (-len(text) % 2880) + content + bytes(-len(content) % 2880)


def number(value: object) -> float | None:
    """The number that a card says, None where it says none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    return float(text.upper().replace("D", "E")) if NUMBER.fullmatch(text) else None


@functools.cache
def calibrate_script():
    """The function of the script that calibrates one image."""
    spec = importlib.util.spec_from_file_location("calexp_script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.calibrate


@functools.cache
def prepared(folder: Path) -> Path:
    """The control image as two visits, and its reference catalogue in a folder."""
    for visit in CONTROLS:
        header = [card_bytes(*card) for card in (cards() | {"VISIT": visit}).items()]
        (folder / f"control{visit}.fits").write_bytes(image_bytes(header, counts()))
    with open(folder / "stars.csv", "w") as file:
        file.write("id,ra,dec,r\n")
        file.writelines(f"{s['id']},{s['ra']:.9f},{s['dec']:.9f},{s['mag']:.5f}\n" for s in stars())
    convert([folder / "stars.csv"], REFCAT, folder / "stars.parquet")
    return folder


def run(folder: Path, name: str, **sections: dict) -> Product | Refusal:
    """Ingest an image beside the control, plan the run and calibrate it."""
    prepared(folder)
    config = {"images": [*(str(folder / f"control{visit}.fits") for visit in CONTROLS), str(folder / name)]} | sections
    try:
        config = validated(config)
        plan = planning.make(config, folder / "no_exposures.parquet")
        planning.check_selection(plan)
        check(REFCAT, plan.bands.values())
    except InputError as error:
        return Refusal(str(error), of_run=True)
    rows = plan.exposures[plan.exposures["path"] == str(folder / name)]
    assert len(rows) == 1, f"{len(rows)} rows of one image"
    if rows["status"][0] != "ok":
        return Refusal(rows["reason"][0], of_run=False)
    assert (plan.exposures["status"] == "ok").sum() == 1 + len(CONTROLS), "the control is no longer usable"
    return calibrated(rows[0], folder, config)


def calibrated(row: np.void, folder: Path, config: dict, catalogue: str = "stars.parquet") -> Product | Refusal:
    """What the script makes of a row of the exposure table."""
    visits = {row["visit"]: folder}
    calexp = folder / f"{row['detector']}.fits"
    calexp.unlink(missing_ok=True)
    row = tables.from_rows("exposure", [tuple(row.tolist())])[0]
    sources, summary = calibrate_script()(
        row, config["instrument"], None, config["calexp"], folder / catalogue, [], None, visits, False
    )
    if summary["status"][0] != "ok":
        assert not calexp.exists()
        return Refusal(summary["reason"][0], of_run=False)
    return Product(row, sources, summary[0], calexp)


def assert_clear(refusal: Refusal) -> None:
    """One line, of words."""
    assert refusal.reason.strip() and "\n" not in refusal.reason and len(refusal.reason) < 600, refusal
    for jargon in (
        "Traceback",
        "NoneType",
        "object has no",
        "object is not",
        "positional argument",
        "has no attribute",
    ):
        assert jargon not in refusal.reason, refusal


def _believed(row: np.void, variance: float, scale: float, step: float) -> float:
    """Variance of the sky as gain and read noise of the header have it, where pixels cannot contradict them [DN**2]."""
    said = (starfield.SKY * scale / row["gain"] + (row["read_noise"] / row["gain"]) ** 2) / scale**2 + step**2 / 12
    return said if abs(np.log(said / variance)) < np.log(TRUSTED) + 2 * NOISE_OFF else variance


def assert_right(product: Product, scale: float = 1.0, step: float = 0.0) -> None:
    """The numbers are those of the control, for counts that are `scale` times its, rounded to its `step` [DN]."""
    summary, sources = product.summary, product.sources
    assert (summary["astrometry"], summary["photometry"]) == ("refcat", "refcat")
    zero_point = starfield.ZERO_POINT + 2.5 * np.log10(scale)
    assert abs(summary["zero_point"] - zero_point) < ZERO_POINT_OFF + 5 * summary["zero_point_err"], summary
    variance = starfield.SKY / starfield.GAIN + (starfield.READ_NOISE / starfield.GAIN) ** 2 + step**2 / 12
    noises = np.sqrt([variance, _believed(product.row, variance, scale, step)]) * units.nanojansky(starfield.ZERO_POINT)
    off = summary["sky_rms"] / noises
    assert off.max() > 1 - NOISE_OFF and off.min() < 1 + NOISE_OFF, (summary["sky_rms"], noises)
    assert abs(summary["psf_fwhm"] / starfield.FWHM - 1) < FWHM_OFF, summary["psf_fwhm"]
    assert abs(summary["seeing"] / (starfield.FWHM * starfield.PIXEL_SCALE) - 1) < FWHM_OFF, summary["seeing"]
    pixel_flags = np.any([sources[name] for name in sources.dtype.names if name.startswith("pixelFlags")], axis=0)
    good = sources[~pixel_flags & (sources["psfFlux"] > BRIGHT * sources["psfFluxErr"])]
    tree = KDTree(sphere.unit_vectors(stars()["ra"], stars()["dec"]))
    distance, nearest = tree.query(sphere.unit_vectors(good["ra"], good["dec"]))
    apart = np.degrees(distance) * 3600
    assert len(good) >= 5 and np.mean(apart > POSITION_OFF) < 0.1, (len(good), apart)
    ratio = good["psfFlux"] / units.nanojansky(stars()["mag"][nearest])
    assert abs(np.median(ratio) - 1) < FLUX_OFF, np.median(ratio)
