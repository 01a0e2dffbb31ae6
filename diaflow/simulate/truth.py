"""What the survey really contains, as tables; and the reference catalogue that an observer would have.

Goes out: truth_object.parquet (the sky), truth_flux.parquet (the flux of everything that varies, in every image on
which it lies), and a catalogue of stars with realistic errors, a plain parquet file.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diaflow.simulate.optics import true_wcs
from diaflow.simulate.pointing import stream
from diaflow.simulate.sky import Survey
from diaflow.store import tables
from diaflow.store.files import replacing

VARYING = ("supernova", "variable", "asteroid")
REFERENCE_LIMIT = 22.0  # faintest star of the catalogue in the last band [mag]
REFERENCE_POSITION_ERROR, REFERENCE_MAG_ERROR = 0.015, 0.01  # per coordinate [arcsec], [mag]


def write_truth(survey: Survey, folder: str | Path) -> None:
    """Write the tables "truth_object" and "truth_flux" into a folder."""
    folder = Path(folder)
    tables.write("truth_object", survey.objects, folder / "truth_object.parquet")
    tables.write("truth_flux", fluxes(survey), folder / "truth_flux.parquet")


def fluxes(survey: Survey) -> np.ndarray:
    """Table "truth_flux": every varying object on every image that contains it.

    A supernova before its explosion is there with flux 0; an asteroid only in its own visit.
    """
    varying = np.isin(survey.objects["type"].astype(str), VARYING)
    objects, flux = survey.objects[varying], survey.flux[varying]
    fleeting = objects["type"] == "asteroid"
    parts = []
    for visit in survey.visits:
        for detector in range(survey.config["detectors"]):
            x, y = true_wcs(survey.config, visit, detector).all_world2pix(objects["ra"], objects["dec"], 0)
            inside = (np.minimum(x, y) >= -0.5) & (np.maximum(x, y) < survey.config["size"] - 0.5)
            here = inside & ((flux[:, visit.visit - 1] > 0) | ~fleeting)
            if here.any():
                parts.append(
                    tables.from_columns(
                        "truth_flux",
                        objectId=objects["objectId"][here],
                        visit=visit.visit,
                        detector=detector,
                        band=visit.band,
                        ra=objects["ra"][here],
                        dec=objects["dec"][here],
                        x=x[here],
                        y=y[here],
                        flux=flux[here, visit.visit - 1],
                    )
                )
    return tables.concatenate("truth_flux", parts)


def write_refcat(survey: Survey, path: str | Path) -> None:
    """Write a catalogue of the stars and variable stars as a survey of higher resolution would have it."""
    rng = stream(survey.config["seed"], "refcat")
    bands = survey.config["bands"]
    objects = survey.objects
    kind = objects["type"].astype(str)
    point = (kind == "star") | ((kind == "variable") & (objects["hostId"] == 0))
    stars = objects[point & (objects[f"{bands[-1]}_mag"] < REFERENCE_LIMIT)]
    east, north = rng.normal(0, REFERENCE_POSITION_ERROR, (2, len(stars))) / 3600
    columns = {
        "id": stars["objectId"],
        "ra": stars["ra"] + east / np.cos(np.radians(stars["dec"])),
        "dec": stars["dec"] + north,
        **{f"{b}_mag": stars[f"{b}_mag"] + rng.normal(0, REFERENCE_MAG_ERROR, len(stars)) for b in bands},
        "star": stars["type"] == "star",
    }
    with replacing(path) as part:
        pq.write_table(pa.table(columns), part)
