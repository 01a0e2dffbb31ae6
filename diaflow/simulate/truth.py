"""What the survey really contains, as tables; and the reference catalogue that an observer would have.

In comes a survey, out go truth_object.parquet (the sky), truth_flux.parquet (the flux of everything that varies, in
every image on which it lies), truth_image.parquet (zero point, WCS, seeing and noise of every image), and a catalogue
of stars with realistic errors, a plain parquet file.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.wcs import WCS

from diaflow.simulate import background, field, optics
from diaflow.simulate.optics import true_wcs
from diaflow.simulate.pointing import stream
from diaflow.simulate.sky import Survey
from diaflow.store import provenance, tables
from diaflow.store.files import replacing

VARYING = ("supernova", "variable", "asteroid", "probe")  # types of objects
FLEETING = ("asteroid", "probe")  # those that are nowhere in most visits
# Of the catalogue, chosen: faintest star in the last band [mag]; errors per coordinate [arcsec] and in each band [mag].
REFERENCE_LIMIT = 22.0
REFERENCE_POSITION_ERROR, REFERENCE_MAG_ERROR = 0.015, 0.01


def write_truth(survey: Survey, folder: str | Path) -> None:
    """Write the truth tables into a folder, each to the file of its name.

    Parameters
    ----------
    survey : Survey
    folder : path
        Gets truth_object.parquet, truth_flux.parquet and truth_image.parquet.

    Raises
    ------
    InputError
        When the folder cannot be written to.
    """
    for name, table in (
        ("truth_object", survey.objects),
        ("truth_flux", fluxes(survey)),
        ("truth_image", images(survey)),
    ):
        tables.write(name, table, Path(folder) / f"{name}.parquet")


def images(survey: Survey) -> np.ndarray:
    """What is true of every image: zero point, pixel scale, shape, WCS, seeing, noise of the sky and what is unusual.

    Parameters
    ----------
    survey : Survey

    Returns
    -------
    "truth_image" table
        In the order of visit and detector.
    """
    exposures = [(visit, detector) for visit in survey.visits for detector in range(survey.config["detectors"])]
    return tables.from_columns(
        "truth_image",
        visit=[visit.visit for visit, _ in exposures],
        detector=[detector for _, detector in exposures],
        band=[visit.band for visit, _ in exposures],
        zero_point=[visit.zero_point for visit, _ in exposures],
        pixel_scale=survey.config["pixel_scale"],
        nx=survey.config["size"],
        ny=survey.config["size"],
        wcs=[header_text(true_wcs(survey.config, visit, detector)) for visit, detector in exposures],
        psfFwhm=[optics.fwhm(survey.config, visit, detector) for visit, detector in exposures],
        skySigma=[background.sky_sigma(survey.config, visit, detector) for visit, detector in exposures],
        defect=[_defect(survey.config, visit.visit, detector) for visit, detector in exposures],
    )


def _defect(config: dict, visit: int, detector: int) -> str:
    """What is unusual about an image, in words; empty for most."""
    defocused = (visit, detector) in [(v, d) for v, d, _ in config["psf"]["defocused"]]
    here = {
        "defocused": defocused,
        "trailed": visit in dict(config["psf"]["trailed"]) and not defocused,
        "clouds": visit in dict(config["clouds"]),
    }
    return ", ".join(word for word, present in here.items() if present)


def header_text(wcs: WCS) -> str:
    """The cards of a TAN-SIP WCS without an inverse, with all digits of its numbers.

    Astropy's own header keeps 14 of them.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        With a CD matrix.

    Returns
    -------
    str
        Cards of 80 characters, for `astropy.io.fits.Header.fromstring`.
    """
    linear, sip = wcs.wcs, wcs.sip
    axes = {"CTYPE": linear.ctype, "CUNIT": linear.cunit, "CRVAL": linear.crval, "CRPIX": linear.crpix}
    cards = {f"{name}{axis}": value for name, values in axes.items() for axis, value in enumerate(values, 1)}
    cards |= {f"CD{i + 1}_{j + 1}": linear.cd[i, j] for i, j in np.ndindex(2, 2)}
    cards |= {"RADESYS": linear.radesys, "A_ORDER": sip.a_order, "B_ORDER": sip.b_order}
    for name, matrix in (("A", sip.a), ("B", sip.b)):
        cards |= {f"{name}_{i}_{j}": matrix[i, j] for i, j in np.argwhere(matrix)}
    return "".join(_card(key, value) for key, value in cards.items())


def _card(key: str, value: object) -> str:
    """A card of a FITS header; a number has as many digits as it takes to get it back."""
    text = str(value).upper() if isinstance(value, int | float) else f"'{value!s:<8}'"
    return f"{key:<8}= {text:>20}".ljust(80)


def fluxes(survey: Survey) -> np.ndarray:
    """The flux of every varying object on every image that contains it.

    Parameters
    ----------
    survey : Survey

    Returns
    -------
    "truth_flux" table
        A supernova before its explosion has a row with flux 0; asteroids and probes have rows where they shine only.
    """
    varying = np.isin(survey.objects["type"].astype(str), VARYING)
    objects, flux = survey.objects[varying], survey.flux[varying]
    fleeting = np.isin(objects["type"].astype(str), FLEETING)
    parts = []
    for visit in survey.visits:
        ra, dec = (axis[varying] for axis in survey.positions(visit.visit))
        for detector in range(survey.config["detectors"]):
            x, y = true_wcs(survey.config, visit, detector).all_world2pix(ra, dec, 0)
            inside = (np.minimum(x, y) >= -0.5) & (np.maximum(x, y) < survey.config["size"] - 0.5)
            rows = inside & ((flux[:, visit.visit - 1] > 0) | ~fleeting)
            if rows.any():
                parts.append(
                    tables.from_columns(
                        "truth_flux",
                        objectId=objects["objectId"][rows],
                        visit=visit.visit,
                        detector=detector,
                        band=visit.band,
                        ra=ra[rows],
                        dec=dec[rows],
                        x=x[rows],
                        y=y[rows],
                        flux=flux[rows, visit.visit - 1],
                    )
                )
    return tables.concatenate("truth_flux", parts)


def write_refcat(survey: Survey, path: str | Path) -> None:
    """Write a catalogue of the stars and variable stars as a survey of higher resolution would have it.

    Parameters
    ----------
    survey : Survey
    path : path
        A parquet file with the columns id, ra, dec [deg], {band}_mag [mag] and star (whether it is constant).

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    rng = stream(survey.config["seed"], "refcat")
    bands = survey.config["bands"]
    objects = survey.objects
    kind = objects["type"].astype(str)
    point = (kind == "star") | ((kind == "variable") & (objects["hostId"] == 0))
    stars = objects[point & (objects[f"{bands[-1]}_mag"] < REFERENCE_LIMIT)]
    east, north = rng.normal(0, REFERENCE_POSITION_ERROR, (2, len(stars))) / 3600
    ra, dec = field.moved(survey.config, stars["ra"], stars["dec"], east, north)
    columns = {
        "id": stars["objectId"],
        "ra": ra,
        "dec": dec,
        **{f"{b}_mag": stars[f"{b}_mag"] + rng.normal(0, REFERENCE_MAG_ERROR, len(stars)) for b in bands},
        "star": stars["type"] == "star",
    }
    with replacing(path) as part:
        pq.write_table(pa.table(columns, metadata=provenance.metadata()), part)
