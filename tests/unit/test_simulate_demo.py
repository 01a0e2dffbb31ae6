"""The demo survey stays what it is, whatever the simulator learns.

The digests are those of the version before skies were configurations.  Tables are compared in single precision, so that
another processor, whose sines may differ in the last bit, gives the same.
"""

import hashlib

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from diaflow.run import config
from diaflow.simulate import pixels, pointing, truth
from diaflow.simulate.sky import Survey

IMAGES = {
    (1, 0): "8072f69cd338168a",
    (12, 1): "9004799c1272c303",
    (28, 0): "88eeb399fff2c4d2",
}
TABLES = {
    "objects": (
        "88e8d65eb10d7adb",
        ["objectId", "type", "ra", "dec", "hostId", "radius", "axisRatio", "positionAngle", "g_mag", "r_mag"],
    ),
    "fluxes": ("cb0d9f22d9d416f9", ["objectId", "visit", "detector", "band", "ra", "dec", "x", "y", "flux"]),
    "images": ("3d3906e02d035797", ["visit", "detector", "band", "zero_point", "pixel_scale", "nx", "ny"]),
    "exposures": (
        "6129aa499056f761",
        ["visit", "detector", "band", "mjd", "ra", "dec", "seeing", "zero_point", "nx", "path"],
    ),
    "refcat": ("1b589179859a5bb3", ["id", "ra", "dec", "g_mag", "r_mag", "star"]),
}


def digest(*columns: np.ndarray) -> str:
    """Of columns of numbers, in single precision if they are no integers, and of words."""
    sha = hashlib.sha256()
    for column in columns:
        if column.dtype == object:
            sha.update("\n".join(column).encode())
        else:
            sha.update(np.ascontiguousarray(column, np.float32 if column.dtype.kind == "f" else column.dtype).tobytes())
    return sha.hexdigest()[:16]


@pytest.fixture(scope="module")
def survey(root):
    return Survey.make(config.validated(yaml.safe_load((root / "config.yaml").read_text()))["simulate"])


@pytest.mark.parametrize(("visit", "detector"), IMAGES)
def test_pixels_of_the_demo_are_what_they_were(survey, visit, detector):
    image, _ = pixels.render(survey, visit, detector)
    assert digest(image) == IMAGES[visit, detector]


@pytest.fixture(scope="module")
def made(survey, tmp_path_factory):
    """Tables of the demo."""
    path = tmp_path_factory.mktemp("demo") / "refcat.parquet"
    truth.write_refcat(survey, path)
    refcat = pq.read_table(path)
    return {
        "objects": survey.objects,
        "fluxes": truth.fluxes(survey),
        "images": truth.images(survey),
        "exposures": pointing.plan(survey.config),
        "refcat": {name: refcat[name].to_numpy() for name in refcat.column_names},
    }


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_the_demo_are_what_they_were(made, name):
    expected, columns = TABLES[name]
    assert digest(*(made[name][column] for column in columns)) == expected
