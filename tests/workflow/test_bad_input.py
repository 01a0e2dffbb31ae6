"""Bad input: one clear line that names the file or key, the right exit code, nothing half-written."""

import re

import numpy as np
import pytest
from astropy.io import fits

from diaflow.store import tables

CARDS = {
    "VISIT": 1,
    "DETECTOR": 0,
    "FILTER": "g",
    "MJD-OBS": 60000.0,
    "TIMESYS": "UTC",
    "EXPTIME": 30.0,
    "GAIN": 1.5,
    "RDNOISE": 5.0,
    "SATURATE": 60000.0,
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRPIX1": 150.5,
    "CRPIX2": 150.5,
    "CRVAL1": 35.0,
    "CRVAL2": -4.5,
    "CD1_1": -1.4e-4,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": 1.4e-4,
}


@pytest.fixture
def raw(tmp_path):
    """Write one raw frame in the layout of the `generic` instrument; a test changes what it wants."""

    def write(name="a.fits", header=None, image=None, drop=()):
        rng = np.random.default_rng(1)
        pixels = rng.normal(200, 10, (300, 300)) if image is None else image
        cards = CARDS | (header or {})
        hdu = fits.PrimaryHDU(pixels.astype(np.float32))
        hdu.header.update({key: value for key, value in cards.items() if key not in drop})
        hdu.writeto(tmp_path / name)
        return tmp_path / name

    return write


def refused(done) -> str:
    """The output of a run that must have failed without a traceback."""
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in output, output
    return output


def test_no_images_names_the_glob(tmp_path, snakemake):
    assert "nowhere/*.fits" in refused(snakemake(tmp_path, {"images": "nowhere/*.fits"}, "-n"))


def test_unknown_config_key_is_named(tmp_path, snakemake):
    output = refused(snakemake(tmp_path, {"images": "*.fits", "templat": {}}, "-n"))
    assert "unknown key 'templat'" in output


def test_visits_are_those_that_are_written(tmp_path, snakemake, raw):
    """In YAML 1.1, which Snakemake reads, 0012 is 10 and 0014 is 12."""
    for visit in (10, 12, 14):
        raw(f"{visit:04d}.fits", {"VISIT": visit, "MJD-OBS": 60000.0 + visit})
    (tmp_path / "my.yaml").write_text("images: '*.fits'\ntemplate: {visits: [0012]}\nscience: {visits: [0014]}\n")
    warps, differences = planned_visits(snakemake(tmp_path, None, "-n", "--configfile", "my.yaml"))
    assert (warps, differences) == ({12}, {14})
    words = ["-n", "--configfile", "my.yaml", "--config", "science={visits: [0010]}"]
    assert planned_visits(snakemake(tmp_path, None, *words)) == ({12}, {10})


def planned_visits(done) -> tuple[set[int], set[int]]:
    """Visits of the template and those that are differenced, of a dry run."""
    assert done.returncode == 0, done.stderr[-3000:]
    folders = re.findall(r"results/main/(warp/0|diffim)/(\d+)", done.stdout + done.stderr)
    return tuple({int(visit) for name, visit in folders if name == kind} for kind in ("warp/0", "diffim"))


def test_key_that_comes_twice_is_named(tmp_path, snakemake, raw):
    raw()
    (tmp_path / "my.yaml").write_text("images: '*.fits'\nbands: [g]\nbands: [r]\n")
    output = refused(snakemake(tmp_path, None, "-n", "--configfile", "my.yaml"))
    assert "my.yaml: line 3: the key 'bands' comes twice" in output


def test_unknown_instrument_is_named(tmp_path, snakemake, raw):
    raw()
    output = refused(snakemake(tmp_path, {"images": "*.fits", "instrument": "decamm"}, "-n"))
    assert "decamm" in output and "sdss_fpc" in output


def test_header_without_wcs_is_named(tmp_path, snakemake, raw):
    raw(drop=("CTYPE1", "CTYPE2"))
    output = refused(snakemake(tmp_path, {"images": "*.fits"}, "-n"))
    assert "a.fits" in output and "WCS" in output


def test_two_files_with_the_same_visit_and_detector_are_named(tmp_path, snakemake, raw):
    raw("a.fits")
    raw("b.fits")
    output = refused(snakemake(tmp_path, {"images": "*.fits"}, "-n"))
    assert "a.fits" in output and "b.fits" in output


def test_reference_catalogue_without_the_band_is_an_error(tmp_path, snakemake, raw):
    raw()
    (tmp_path / "stars.csv").write_text("id,ra,dec,r\n1,35.0,-4.5,18.0\n")
    config = {"images": "*.fits", "refcat": {"path": "stars.csv", "bands": {"r": "r"}}}
    output = refused(snakemake(tmp_path, config))
    assert "stars.csv" in output and "band g" in output
    assert not list(tmp_path.glob("results/*/calexp/1/*.fits"))


def with_third_axis(path, kind):
    """Make of an image a plane that was cut out of a cube, as WCSAXES, CTYPE3 or NAXIS3 say."""
    with fits.open(path) as hdus:
        header, data = hdus[0].header, hdus[0].data.copy()
    header.update({"CTYPE3": "FREQ", "CRVAL3": 4.8e14, "CRPIX3": 1.0, "CDELT3": 1e12})
    if kind == "WCSAXES":
        header.insert("CTYPE1", ("WCSAXES", 3))
    fits.writeto(path, data[None] if kind == "NAXIS3" else data, header, overwrite=True)


def test_bad_detectors_have_a_status_and_the_rest_of_the_survey_is_made(tmp_path, tiny_run, snakemake, tiny):
    """A truncated file, a visit without stars, a saturated CCD and planes of cubes beside good images.

    The truncated file shares its job with a good visit.
    """
    images = tmp_path / "images"
    images.mkdir()
    files = sorted((tiny_run / "demo/images").glob("*.fits"))
    for file in files:
        (images / file.name).write_bytes(file.read_bytes())
    science = sorted({file.name.split("_")[0] for file in files})[-2:]
    truncated, starless, saturated = (
        images / f"{science[0]}_0.fits",
        images / f"{science[1]}_0.fits",
        images / f"{science[1]}_1.fits",
    )
    truncated.write_bytes(truncated.read_bytes()[:200_000])
    rng = np.random.default_rng(2)
    with fits.open(starless, mode="update") as hdus:
        hdus[-1].data[:] = rng.normal(1500, 20, hdus[-1].data.shape).astype(hdus[-1].data.dtype)
    with fits.open(saturated, mode="update") as hdus:
        hdus[-1].data[:] = 65000
    planes = {f"{science[0]}_1": "NAXIS3", files[0].stem: "WCSAXES", files[1].stem: "CTYPE3"}
    for name, kind in planes.items():
        with_third_axis(images / f"{name}.fits", kind)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/refcat.parquet").write_bytes((tiny_run / "demo/refcat.parquet").read_bytes())
    config = {key: value for key, value in tiny.items() if key != "simulate"}
    done = snakemake(tmp_path, config | {"images": "images/*.fits", "visits_per_job": 2})
    assert done.returncode == 0, done.stderr[-5000:]
    visits = tables.read("visit", tmp_path / "results/tiny/tables/visit.parquet")
    failed = visits[visits["calexp_status"] == "failed"]
    reasons = {(row["visit"], row["detector"]): row["calexp_reason"] for row in failed}
    assert set(reasons) == {(int(science[0]), 0), (int(science[1]), 0), (int(science[1]), 1)}
    assert "unreadable" in reasons[int(science[0]), 0]
    assert "star" in reasons[int(science[1]), 0]
    assert "satur" in reasons[int(science[1]), 1]
    before = tables.read("visit", tiny_run / "results/tiny/tables/visit.parquet")
    for name in planes:
        visit, detector = map(int, name.split("_"))
        row, same = (t[(t["visit"] == visit) & (t["detector"] == detector)][0] for t in (visits, before))
        # The pixels are the same; what the visits have in common is told by fewer of them: a few mmag of 30 stars.
        assert row["calexp_status"] == "ok" and abs(row["zero_point"] - same["zero_point"]) < 0.01
    sources = tables.read("dia_source", tmp_path / "results/tiny/tables/dia_source.parquet")
    assert np.any((sources["visit"] == int(science[0])) & (sources["detector"] == 1))


def test_a_list_of_visits_is_not_started(tmp_path, snakemake):
    rows = ["visit,band,mjd,ra,dec,rotation,seeing", "1,r,60000,10,-30,0,0.8", "2,r,60400,10,-30,0,0.8"]
    (tmp_path / "visits.csv").write_text("\n".join(rows) + "\n")
    config = {"images": "visits.csv", "template": {"mjd": [60000, 60001]}, "science": {"mjd": [60400, 60401]}}
    assert snakemake(tmp_path, config, "--dry-run").returncode == 0
    done = snakemake(tmp_path, config)
    assert done.returncode != 0 and "visits.csv lists visits" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()
