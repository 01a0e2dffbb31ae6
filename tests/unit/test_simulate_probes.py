"""Probes: points of known signal to noise where they should be, each in one image, and nothing else moves for them."""

from dataclasses import replace

import numpy as np
import pytest

from diaflow.run import config
from diaflow.simulate import background, optics, pixels, probes, truth
from diaflow.simulate.sky import Survey
from diaflow.sky import sphere

NUMBER = 20


def settings_of(**changes) -> dict:
    changes = {"detectors": 2, "size": 500, "template_visits": 2, "science_visits": 3, "bands": ["g", "r"]} | changes
    return config.validated({"images": "simulated", "simulate": changes})["simulate"]


@pytest.fixture(scope="module")
def survey():
    return Survey.make(settings_of(probes={"number": NUMBER}))


@pytest.fixture(scope="module")
def rows(survey):
    """truth_flux of the probes."""
    fluxes = truth.fluxes(survey)
    return fluxes[np.isin(fluxes["objectId"], survey.objects["objectId"][survey.objects["type"] == "probe"])]


def of_rows(survey, rows, column):
    order = {object_id: i for i, object_id in enumerate(survey.objects["objectId"])}
    return survey.objects[column][[order[i] for i in rows["objectId"]]]


def test_probes_move_nothing_else(survey):
    without = Survey.make(settings_of())
    n = len(without.objects)
    for column in without.objects.dtype.names:
        np.testing.assert_array_equal(survey.objects[column][:n], without.objects[column], err_msg=column)
    np.testing.assert_array_equal(survey.flux[:n], without.flux)
    assert (survey.objects["type"][n:] == "probe").all()
    np.testing.assert_array_equal(pixels.render(survey, 1, 0)[0], pixels.render(without, 1, 0)[0])


def test_a_probe_is_in_one_science_image_and_in_no_template(survey, rows):
    assert len(rows) == len(np.unique(rows["objectId"])) == (survey.objects["type"] == "probe").sum()
    science = {visit.visit for visit in survey.visits if visit.mjd > 60400}
    assert set(rows["visit"]) == science
    images, counts = np.unique(rows[["visit", "detector"]], return_counts=True)
    assert len(images) == 2 * len(science) and (counts <= NUMBER).all() and (counts >= NUMBER * 0.6).all()


def test_places_are_what_they_are_called(survey, rows):
    objects = survey.objects
    place, host, light = (of_rows(survey, rows, column) for column in ("place", "hostId", "surfaceBrightness"))
    assert set(place) == {"sky", "galaxy", "star"} and set(objects["place"][objects["type"] != "probe"]) == {""}
    vectors = sphere.unit_vectors(rows["ra"], rows["dec"])
    others = objects[~np.isin(objects["type"].astype(str), ["probe", "asteroid"])]
    away = sphere.separation(vectors[:, None], sphere.unit_vectors(others["ra"], others["dec"])).min(axis=1)
    assert (np.degrees(away[place == "sky"]) * 3600 > 0.99 * probes.EMPTY).all()
    assert (host[place == "sky"] == 0).all() and np.isnan(light[place == "sky"]).all()
    for kind in ("galaxy", "star"):
        under = objects[[int(np.flatnonzero(objects["objectId"] == i)[0]) for i in host[place == kind]]]
        assert (under["type"] == kind).all() and (light[place == kind] > 0).all()
        distance = np.degrees(sphere.separation(vectors[place == kind], sphere.unit_vectors(under["ra"], under["dec"])))
        assert (3600 * distance <= (1.02 * under["radius"] if kind == "galaxy" else 1e-3)).all()


def test_probes_are_far_from_each_other_and_from_what_varies(survey, rows):
    distance = np.radians(survey.config["probes"]["distance"] / 3600)
    vectors = sphere.unit_vectors(rows["ra"], rows["dec"])
    between = sphere.separation(vectors[:, None], vectors) + 10 * np.eye(len(vectors))
    assert between.min() > distance
    varying = survey.objects[np.isin(survey.objects["type"].astype(str), ["supernova", "variable"])]
    assert sphere.separation(vectors[:, None], sphere.unit_vectors(varying["ra"], varying["dec"])).min() > distance


def test_signal_to_noise_is_that_of_a_matched_filter(survey, rows):
    snr = []
    for row in rows[:: len(rows) // 12]:
        visit = survey.visit(int(row["visit"]))
        alone = survey.objects["objectId"] == row["objectId"]
        one = replace(survey, objects=survey.objects[alone], flux=survey.flux[alone])
        image = pixels.scene(one, visit.visit, int(row["detector"]))
        snr.append(np.sqrt((image**2).sum()) / background.sky_sigma(survey.config, visit, int(row["detector"])))
    # flux * sqrt(sum P**2) / sigma is the root of the sum of squares of the drawn probe over sigma.
    low, high = survey.config["probes"]["snr"]
    bright = survey.config["probes"]["bright_snr"]
    assert all(low * 0.999 < s < high * 1.001 or bright[0] * 0.999 < s < bright[1] * 1.001 for s in snr)


def test_signal_to_noise_is_uniform_and_a_share_is_bright():
    survey = Survey.make(
        settings_of(bands=["r"], science_visits=10, probes={"number": 40, "distance": 4, "bright": 0.2})
    )
    fluxes = truth.fluxes(survey)
    snr = np.empty(0)
    for visit in survey.visits:
        for detector in (0, 1):
            here = fluxes[(fluxes["visit"] == visit.visit) & (fluxes["detector"] == detector)]
            here = here[of_rows(survey, here, "type") == "probe"]
            counts = here["flux"] * 10 ** (0.4 * (visit.zero_point - 31.4))
            # The norm of the PSF: its size changes by 1 % over an image.
            width = optics.fwhm(survey.config, visit, detector)
            snr = np.append(snr, counts * 0.6 / width / background.sky_sigma(survey.config, visit, detector))
    faint = snr[snr < 14]
    assert len(faint) / len(snr) == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / len(snr)))
    assert np.percentile(faint, 75) - np.percentile(faint, 25) == pytest.approx(3.5, rel=0.2)


def test_surface_brightness_is_that_of_the_image(survey, rows):
    place = of_rows(survey, rows, "place")
    light, host = (of_rows(survey, rows, column) for column in ("surfaceBrightness", "hostId"))
    in_last_band = rows["band"] == "r"
    for i in np.flatnonzero((place == "galaxy") & in_last_band)[:5]:
        alone = survey.objects["objectId"] == host[i]
        one = replace(survey, objects=survey.objects[alone], flux=survey.flux[alone])
        visit = survey.visit(int(rows["visit"][i]))
        image = pixels.scene(one, visit.visit, int(rows["detector"][i])) * 10 ** (0.4 * (31.4 - visit.zero_point))
        x, y = round(rows["x"][i]), round(rows["y"][i])
        around = image[y - 1 : y + 2, x - 1 : x + 2] / survey.config["pixel_scale"] ** 2
        assert around.min() <= light[i] <= 1.02 * around.max()  # its maximum may be between pixels
