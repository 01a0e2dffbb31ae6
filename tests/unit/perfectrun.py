"""A run on a simulated survey as theory wants it, beside its truth; without images, so that it can be large."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from builders import constant_psf, exposure, gaussian, tan_header, tan_wcs

from diaflow.store import ids, tables
from diaflow.validate import efficiency
from diaflow.validate.comparison import IMAGE, Comparison

THRESHOLD, RADIUS = 5.0, 0.5  # of detection [sigma] and association [arcsec]
N_VISITS, FWHM, SCALE, ERROR = 10, 4.0, 0.5, 20.0  # visits, pixel, arcsec, nJy
AREA, NOISE = 0.05, 2  # of an image [deg2], and false sources of noise in it
FIELD, SPACING = (10.0, -5.0), 20.0  # deg; between objects [arcsec]: no two are near each other
FAINT, BRIGHT = (3.0, 10.0), (22.0, 60.0)  # true S/N
STARS, STAR_IMAGES, STAR_SIZE = 8, 2, 64  # constant stars, calexps with pixels, their size [pixel]
CALIBRATION_FIELD = 12.0, 3.0  # of the constant stars [deg]


def perfect(folder: Path) -> Comparison:
    """Truth, products and measurements that differ from it by noise alone."""
    rng = np.random.default_rng(2)
    objects, truth, snr = sky(rng)
    of_truth = objects[ids.rows_of(objects["objectId"], truth["objectId"])]
    sources = dia_sources(truth, snr, rng)
    images = np.zeros(N_VISITS, IMAGE)
    images["visit"] = np.arange(N_VISITS) + 1
    values = {"area": AREA, "noise": NOISE, "fwhm": FWHM, "error": ERROR, "pixel_scale": SCALE}
    values |= {"sigma": FWHM / 2.3548, "major": FWHM / 2.3548}
    for column, value in values.items():
        images[column] = value
    write_calibration(objects, folder)
    return Comparison(
        objects=objects,
        truth=truth,
        truth_images=truth_images(),
        of_truth=of_truth,
        summary=summary(),
        sources=sources,
        dia_objects=dia_objects(sources),
        forced=tabulated(truth, of_truth, rng),
        expected=truth["flux"],
        templates=[],
        at_truth=forced(truth["flux"], rng),
        at_stars=forced(np.zeros(600), rng),
        at_nothing=forced(np.zeros(600), rng),
        unmasked=np.ones(len(truth), bool),
        usable=np.ones(len(truth), bool),
        to_edge=np.full(len(sources), 100.0),
        images=images,
        products=folder,
    )


def sky(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tables "truth_object" and "truth_flux", and the true S/N of the rows of the latter."""
    kinds = [("supernova", "", 40, None), ("variable", "", 40, None), ("asteroid", "", 30, BRIGHT)]
    for place in ("sky", "galaxy", "star"):
        kinds += [("probe", place, 150, FAINT), ("probe", place, 25, BRIGHT)]
    objects, rows, snr = [], [], []
    for kind, place, n, range_of_snr in kinds:
        for visit in range(1, N_VISITS + 1):
            if range_of_snr is not None or visit == 1:
                first = 1 + sum(map(len, objects))
                ids = np.arange(first, first + n)
                objects.append(tables.from_columns("truth_object", ["r"], objectId=ids, type=kind, place=place))
            columns = {"objectId": ids, "visit": visit, "detector": 0, "band": "r"}
            rows.append(tables.from_columns("truth_flux", **columns))
            snr.append(rng.uniform(*(range_of_snr or BRIGHT), n))
    objects, truth, snr = np.concatenate(objects), np.concatenate(rows), np.concatenate(snr)
    side = int(np.ceil(np.sqrt(len(objects))))
    step = SPACING / 3600
    objects["ra"] = FIELD[0] + step * (np.arange(len(objects)) % side) / np.cos(np.radians(FIELD[1]))
    objects["dec"] = FIELD[1] + step * (np.arange(len(objects)) // side)
    for column in ("ra", "dec"):
        truth[column] = objects[column][truth["objectId"] - 1]
    truth["flux"] = snr * ERROR
    return np.concatenate([objects, stars(len(objects) + 1)]), truth, snr


def stars(first: int) -> np.ndarray:
    """Constant stars inside of the calexps."""
    offset = np.linspace(-10, 10, STARS) / 3600
    ra, dec = (middle + offset for middle in CALIBRATION_FIELD)
    ids = first + np.arange(STARS)
    return tables.from_columns("truth_object", ["r"], objectId=ids, type="star", ra=ra, dec=dec, r_mag=18.0, radius=0.0)


def dia_sources(truth: np.ndarray, snr: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is found of the truth by the theory of detection, and peaks of noise."""
    found = rng.uniform(size=len(truth)) < efficiency.probability(snr, np.full(len(snr), FWHM), THRESHOLD)
    rows, snr = truth[found], snr[found]
    names = ("visit", "detector", "band", "ra", "dec")
    real = tables.from_columns("dia_source", **{name: rows[name] for name in names}, diaObjectId=rows["objectId"])
    sigma = np.sqrt(2) * FWHM / 2.3548 * SCALE / snr / 3600
    real["ra"] += rng.normal(0, sigma) / np.cos(np.radians(rows["dec"]))
    real["dec"] += rng.normal(0, sigma)
    real["psfFlux"] = rows["flux"] + rng.normal(0, ERROR, len(rows))
    n = N_VISITS * NOISE
    visits = np.repeat(np.arange(N_VISITS) + 1, NOISE)
    false = tables.from_columns("dia_source", visit=visits, band="r", ra=FIELD[0] - 0.1, psfFlux=5 * ERROR)
    false["dec"] = FIELD[1] + SPACING / 3600 * np.arange(n)
    false["diaObjectId"] = 1_000_000 + np.arange(n)
    sources = np.concatenate([real, false])
    sources["psfFluxErr"] = ERROR
    sources["snr"] = sources["psfFlux"] / ERROR
    sources["diaSourceId"] = np.arange(len(sources)) + 1
    return sources


def dia_objects(sources: np.ndarray) -> np.ndarray:
    """The objects that sources belong to."""
    ids, first, counts = np.unique(sources["diaObjectId"], return_index=True, return_counts=True)
    table = tables.empty("dia_object", len(ids), ["r"])
    table["diaObjectId"], table["nDiaSources"] = ids, counts
    table["ra"], table["dec"] = sources["ra"][first], sources["dec"][first]
    return table


def forced(flux: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Forced photometry of some fluxes."""
    measured = flux + rng.normal(0, ERROR, len(flux))
    return tables.from_columns("dia_forced_source", psfFlux=measured, psfFluxErr=np.full(len(flux), ERROR))


def tabulated(truth: np.ndarray, of_truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Forced photometry of the DIAObjects that last."""
    rows = truth[np.isin(of_truth["type"].astype(str), ("supernova", "variable"))]
    table = forced(rows["flux"], rng)
    table["diaObjectId"], table["visit"] = rows["objectId"], rows["visit"]
    return table


def truth_images() -> np.ndarray:
    wcs = tan_header(*CALIBRATION_FIELD, SCALE, shape=(STAR_SIZE, STAR_SIZE)).tostring()
    visits = np.arange(N_VISITS) + 1
    return tables.from_columns(
        "truth_image",
        visit=visits,
        band="r",
        zero_point=27.0,
        pixel_scale=SCALE,
        nx=STAR_SIZE,
        ny=STAR_SIZE,
        wcs=wcs,
        psfFwhm=FWHM,
    )


def summary() -> np.ndarray:
    visits = np.arange(N_VISITS) + 1
    columns = {"status": "ok", "zero_point": 27.0, "psf_fwhm": FWHM, "seeing": FWHM * SCALE}
    return tables.from_columns("visit_summary", visit=visits, **columns)


def write_calibration(objects: np.ndarray, folder: Path) -> None:
    """Tables "visit" and "source", and calexps."""
    visits = np.arange(N_VISITS) + 1
    statuses = {"calexp_status": "ok", "diffim_status": "ok"}
    tables.write("visit", tables.from_columns("visit", visit=visits, **statuses), folder / "tables/visit.parquet")
    constant = objects[objects["type"] == "star"]
    flux = 10 ** (-0.4 * (constant["r_mag"] - 31.4))
    columns = {"ra": constant["ra"], "dec": constant["dec"], "psfFlux": flux, "psfFluxErr": flux / 1000, "band": "r"}
    parts = [tables.from_columns("source", visit=visit, **columns) for visit in visits]
    tables.write("source", np.concatenate(parts), folder / "tables/source.parquet")
    shape = STAR_SIZE, STAR_SIZE
    for visit in range(1, STAR_IMAGES + 1):
        wcs = tan_wcs(shape, SCALE, centre=CALIBRATION_FIELD)
        image = exposure(np.zeros(shape), 1.0, constant_psf(gaussian(2.0), shape), wcs)
        image.write(folder / f"calexp/{visit}/0.fits")


def with_sources(run: Comparison, sources: np.ndarray) -> Comparison:
    """The run with other DIASources, the DIAObjects that they make, and the forced sources of these."""
    objects = dia_objects(sources)
    kept = run.forced[np.isin(run.forced["diaObjectId"], objects["diaObjectId"])]
    to_edge = np.full(len(sources), 100.0)
    return replace(run, sources=sources, dia_objects=objects, forced=kept, to_edge=to_edge)
