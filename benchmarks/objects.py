"""Objects of a patch of 4k x 4k pixels in five bands, beside SExtractor in dual-image mode on the same coadds.

Whole processes, one thread each, rounds interleaved.  Ours runs the script of the rule: five coadds, whose PSFs are
means of six inputs, to the table of Objects with all fluxes, shapes, classes and flags.  The peer detects on i and
measures automatic and nine aperture fluxes in every band, with its defaults but for the noise map.  Without it (Debian
package source-extractor) its fields are empty.  What both find and how right their fluxes are is printed.
"""

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from measure import PYTHON, ROOT, cpu_and_memory, result

from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import write_fits
from diaflow.image.noise import WHITE
from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.psf.stampfield import StampField, fit_stamps
from diaflow.run.config import validated
from diaflow.simulate import field, sources
from diaflow.simulate.pointing import Visit
from diaflow.simulate.sky import Survey
from diaflow.sky.skymap.maps import SkyMap
from diaflow.sky.skymap.tract import Tract
from diaflow.store import tables
from diaflow.validate.matching import nearest

ROUNDS = 3
BANDS, REFERENCE = ("g", "r", "i", "z", "y"), "i"
SIZE, SCALE = 4096, 0.2  # [pixel], [arcsec]
SEEING = {"g": 0.9, "r": 0.8, "i": 0.75, "z": 0.75, "y": 0.8}  # [arcsec]
SURVEY = {"bands": list(BANDS), "template_visits": 1, "science_visits": 1, "detectors": 1, "size": SIZE}
SURVEY |= {"pixel_scale": SCALE, "seeing": {band: [width, 1.001 * width] for band, width in SEEING.items()}}
SURVEY |= {"stars": 90000, "galaxies": 400000, "faintest": 25.5, "early_types": 0.2}
SURVEY |= {"supernovae": 0, "variables": 0, "asteroids": 0}
SIGMA = {"g": 8.0, "r": 9.0, "i": 11.0, "z": 15.0, "y": 26.0}  # of a pixel of the sky [nJy]
N_INPUTS, SHIFT, TURN = 6, 30.0, 0.05  # of the coadds: inputs, their dithers [pixel] and rotations [deg]
STAMP, GRID, ORDER = 41, 7, 2  # side of the stamps [pixel], places along each axis, order of the polynomial
BRIGHT, MATCH = 50.0, 0.4  # S/N of the stars whose fluxes are judged, largest distance of a detection [arcsec]
APERTURES = (3, 6, 9, 12, 17, 25, 35, 50, 70)  # radii [pixel]
PEER = "source-extractor"

OURS = f"""
import json
import sys
sys.path[:0] = ["{ROOT / "scripts"}", "{ROOT / "benchmarks"}"]
import object
from measure import run_script
run_script(
    object.main,
    "object",
    wildcards=dict(tract="0", patch="0_0"),
    input=dict(coadds={[f"{band}.fits" for band in BANDS]!r}, refcat=[]),
    output=dict(objects="objects.parquet"),
    params=dict(priority={[REFERENCE]!r}, skymap=json.loads(sys.argv[1]), mjd=60000.0),
)
"""


def make_coadds(folder: Path) -> Survey:
    """The five coadds, for the peer too; returns the survey that they are of."""
    survey = Survey.make(validated({"images": "simulated", "simulate": SURVEY})["simulate"])
    wcs = plane((SIZE - 1) / 2, (SIZE - 1) / 2, 0.0)
    x, y = wcs.all_world2pix(survey.objects["ra"], survey.objects["dec"], 0)
    for number, band in enumerate(BANDS):
        rng = np.random.default_rng(number)
        visit = next(visit for visit in survey.visits if visit.band == band)
        image = np.zeros((SIZE, SIZE))
        sources.draw(image, survey.config, visit, 0, survey.objects, survey.flux[:, visit.visit - 1], x, y)
        image += rng.normal(0, SIGMA[band], image.shape)
        variance = np.full(image.shape, SIGMA[band] ** 2, np.float32)
        psf = CoaddPsf(inputs(survey.config, visit, rng), wcs)
        metadata = {"tract": 0, "patch": "0_0", "band": band}
        mask = np.zeros(image.shape, np.int32)
        coadd = Exposure(image.astype(np.float32), variance, mask, wcs, psf, noise=WHITE, metadata=metadata)
        coadd.write(folder / f"{band}.fits")
        write_fits([fits.PrimaryHDU(coadd.image, wcs.to_header())], folder / f"{band}_image.fits")
        rms = np.full(image.shape, SIGMA[band], np.float32)
        write_fits([fits.PrimaryHDU(rms)], folder / f"{band}_rms.fits")
    return survey


def plane(x: float, y: float, turn: float) -> WCS:
    """A tangent plane with the centre of the field at a pixel, turned by an angle [deg]."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], field.FIELD, [x + 1, y + 1]
    cos, sin = SCALE / 3600 * np.cos(np.radians(turn)), SCALE / 3600 * np.sin(np.radians(turn))
    wcs.wcs.cd = [[-cos, sin], [sin, cos]]
    wcs.wcs.set()
    return wcs


def inputs(config: dict, visit: Visit, rng: np.random.Generator) -> list[PsfInput]:
    """Images that a coadd could be made of: all with the same PSF, little shifted and turned."""
    psf = stamps(config, visit)
    shifts = rng.uniform(-SHIFT, SHIFT, (N_INPUTS, 2)) + (SIZE - 1) / 2
    turns = rng.uniform(-TURN, TURN, N_INPUTS)
    box = (-SIZE, -SIZE, 2.0 * SIZE, 2.0 * SIZE)
    return [
        PsfInput(n, 0, 1 / N_INPUTS, psf, plane(*shift, turn), box, 1.0)
        for n, (shift, turn) in enumerate(zip(shifts, turns))
    ]


def stamps(config: dict, visit: Visit) -> StampField:
    """The PSF of a visit as a field of stamps."""
    star = tables.from_columns("truth_object", radius=0.0)
    places = np.linspace(0, SIZE - 1, GRID).round()
    y, x = (axis.ravel() for axis in np.meshgrid(places, places, indexing="ij"))
    drawn = np.zeros((GRID**2, STAMP, STAMP))
    for stamp, *at in zip(drawn, x, y):
        corner = tuple(int(value) - STAMP // 2 for value in at)
        sources.draw(stamp, config, visit, 0, star, np.ones(1), *(np.array([value]) for value in at), corner)
    drawn /= drawn.sum(axis=(1, 2))[:, None, None]
    return fit_stamps(drawn, x, y, ORDER, (SIZE, SIZE))


def peer_commands(folder: Path) -> list[list]:
    """SExtractor in dual-image mode on all bands."""
    columns = ["ALPHA_J2000", "DELTA_J2000", "FLUX_AUTO", "FLUXERR_AUTO", "CLASS_STAR", "FLAGS", "KRON_RADIUS"]
    columns += ["X2_IMAGE", "Y2_IMAGE", "XY_IMAGE", f"FLUX_APER({len(APERTURES)})", f"FLUXERR_APER({len(APERTURES)})"]
    (folder / "columns.param").write_text("\n".join(columns))
    return [
        [
            PEER,
            f"{REFERENCE}_image.fits,{band}_image.fits",
            *("-CATALOG_NAME", f"{band}.cat", "-CATALOG_TYPE", "FITS_1.0", "-PARAMETERS_NAME", "columns.param"),
            *("-FILTER_NAME", "/usr/share/source-extractor/default.conv"),
            *("-STARNNW_NAME", "/usr/share/source-extractor/default.nnw"),
            *("-WEIGHT_TYPE", "MAP_RMS,MAP_RMS", "-WEIGHT_IMAGE", f"{REFERENCE}_rms.fits,{band}_rms.fits"),
            *("-BACK_TYPE", "MANUAL", "-BACK_VALUE", "0,0", "-SEEING_FWHM", SEEING[band], "-NTHREADS", 1),
            *("-PIXEL_SCALE", SCALE, "-PHOT_APERTURES", ",".join(str(2 * radius) for radius in APERTURES)),
        ]
        for band in BANDS
    ]


def quality(survey: Survey, table: np.ndarray, flux: np.ndarray, snr: np.ndarray) -> str:
    """Completeness at 5 to 7 and 7 to 10 sigma, false ones, and bias of bright stars of a catalogue in i, in words.

    `table` has ra and dec; `flux` and `snr` are in i.
    """
    visit = next(visit for visit in survey.visits if visit.band == REFERENCE)
    true = survey.flux[:, visit.visit - 1]
    stamp = stamps(survey.config, visit)(np.array([SIZE / 2]), np.array([SIZE / 2]))[0]
    true_snr = true * np.sqrt((stamp**2).sum()) / SIGMA[REFERENCE]
    x, y = plane((SIZE - 1) / 2, (SIZE - 1) / 2, 0.0).all_world2pix(survey.objects["ra"], survey.objects["dec"], 0)
    inside = (np.minimum(x, y) > 20) & (np.maximum(x, y) < SIZE - 20)
    distance, index = nearest(survey.objects, table)
    star = inside & (survey.objects["type"] == "star")
    words = [f"{len(table)} objects"]
    for low, high in ((5, 7), (7, 10)):
        rows = star & (true_snr > low) & (true_snr < high)
        words.append(f"{(distance[rows] < MATCH).mean():.1%} of the stars of S/N {low} to {high}")
    seen = snr > 5
    false = nearest(table[seen], survey.objects[true_snr > 1.5])[0] > 2 * MATCH
    bright = star & (true_snr > BRIGHT) & (true_snr < 100 * BRIGHT) & (distance < MATCH)
    bias = np.median(flux[index[bright]] / true[bright]) - 1
    return ", ".join([*words, f"{false.mean():.2%} false of S/N 5", f"bright stars' flux {1e3 * bias:+.1f}e-3"])


def catalogues(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows with ra and dec, flux and S/N in i of what was found: ours, and the peer's where it ran."""
    ours = tables.read("object", folder / "objects.parquet")
    ours = ours[ours["detect_isPrimary"]]
    flux, err = (ours[f"{REFERENCE}_psfFlux{end}"] for end in ("", "Err"))
    found = {
        "ours, PSF flux": (ours, flux, flux / err),
        "ours, Kron flux": (ours, ours[f"{REFERENCE}_kronFlux"], flux / err),
    }
    path = folder / f"{REFERENCE}.cat"
    if path.exists():
        theirs = fits.getdata(path, 1)
        places = np.rec.fromarrays([theirs["ALPHA_J2000"], theirs["DELTA_J2000"]], names="ra,dec")
        snr = theirs["FLUX_AUTO"] / theirs["FLUXERR_AUTO"]
        for name, flux in (("AUTO", theirs["FLUX_AUTO"]), ("12 pixel", theirs["FLUX_APER"][:, APERTURES.index(12)])):
            found[f"SExtractor, {name} flux"] = places, flux, snr
    return found


def main() -> list[dict]:
    """The row of the benchmark table."""
    there = shutil.which(PEER) is not None
    if not there:
        print(f"objects: no comparison, not on the PATH: {PEER}", file=sys.stderr)
    ra, dec = field.FIELD
    skymap = SkyMap("discrete", {0: Tract(0, ra, dec, 0.49 * SIZE * SCALE / 3600, SCALE, SIZE, 100)}).to_dict()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        survey = make_coadds(folder)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(cpu_and_memory([PYTHON, "-c", OURS, json.dumps(skymap)], folder))
            if there:
                theirs.append(sum(cpu_and_memory(command, folder)[0] for command in peer_commands(folder)))
        found = catalogues(folder)
    for name, columns in found.items():
        print(f"{name}: {quality(survey, *columns)}", file=sys.stderr)
    n = len(next(iter(found.values()))[0])
    label = f"objects of {SIZE}**2 pixels in {len(BANDS)} bands, {n} of them"
    peer = ("SExtractor, dual-image mode", statistics.median(theirs)) if there else ()
    return [result(label, statistics.median(cpu for cpu, _ in ours), max(mb for _, mb in ours), *peer)]


if __name__ == "__main__":
    print(main())
