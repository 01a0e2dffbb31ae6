"""Refraction against the classic constants, ERFA's own model and its observed places."""

import erfa
import numpy as np
import pytest
from chromatic import FIELD, SETTINGS, wcs

from diaflow.errors import InputError
from diaflow.run import config
from diaflow.sky import refraction

PLACE = tuple(SETTINGS[name] for name in ("latitude", "longitude", "altitude"))
DATES = 60000 + np.array([0.02, 0.09, 0.17, 0.23, 0.34])


def test_refraction_is_that_of_the_almanac():
    """58.3" tan z - 0.067" tan^3 z at 10 deg C and 760 mmHg: the cubic term is subtracted."""
    low, high = refraction.refraction(575.0, 45, 45), refraction.refraction(575.0, np.degrees(np.arctan(2)), 45)
    cubic = (high - 2 * low) / 6
    # Constants are given to three and two digits.
    assert low - cubic == pytest.approx(58.3, rel=2e-3)
    assert cubic == pytest.approx(-0.067, rel=0.02)


@pytest.mark.parametrize(("altitude", "temperature", "humidity"), [(0, 10, 0), (0, 20, 80), (2663, 5, 30)])
def test_refraction_agrees_with_erfa(altitude, temperature, humidity):
    """Another dispersion formula and another model of the atmosphere (ERFA refco).

    They differ by kappa in total (up to 0.5 %).  ERFA's dispersion has two terms in 1 / wavelength^2, Stone's has the
    resonances of dry air and of water: between 404 and 478 nm they differ by 1.2 % in warm and humid air.
    """
    wavelengths = np.array([404.0, 478, 552, 620, 865])
    pressure = refraction.pressure_at(altitude)
    weather = {"pressure": pressure, "temperature": temperature, "humidity": humidity}
    ours = refraction.refraction(wavelengths, 50, 30, altitude, **weather)
    a, b = erfa.refco(pressure, temperature, humidity / 100, wavelengths / 1000)
    # refco starts from the zenith distance that is seen.
    seen = np.tan(np.radians(50) - ours * refraction.ARCSEC)
    theirs = (a * seen + b * seen**3) / refraction.ARCSEC
    np.testing.assert_allclose(ours, theirs, rtol=5e-3)
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), rtol=1.5e-2)


def test_blue_light_is_refracted_more():
    bent = refraction.refraction(np.arange(231, 2058.0), 40, -30, 2663)
    assert (np.diff(bent) < 0).all()


@pytest.mark.parametrize("mjd", DATES)
def test_zenith_distance_and_parallactic_angle_are_those_of_the_observed_place(mjd):
    distance, angle = refraction.towards(*FIELD, *refraction.zenith(mjd, *PLACE))
    utc = erfa.taiutc(2400000.5, mjd)
    place = np.radians(PLACE[1]), np.radians(PLACE[0]), PLACE[2]
    _, zob, hob, dob, _, _ = erfa.atco13(*np.radians(FIELD), 0, 0, 0, 0, *utc, 0, *place, 0, 0, 0, 0, 0, 0.5)
    # Aberration is the same at the zenith but for its change over the distance (20 arcsec).
    assert distance == pytest.approx(np.degrees(zob), abs=0.01)
    # From true north of date, which precession has turned by 0.1 deg from that of ICRS.
    turned = (angle - np.degrees(erfa.hd2pa(hob, dob, place[1])) + 180) % 360 - 180
    assert np.radians(abs(turned)) < 1e-2


@pytest.mark.parametrize("rotation", [0.0, 35.0])
@pytest.mark.parametrize("mjd", DATES)
def test_offsets_follow_the_parallactic_angle(mjd, rotation):
    shape, pixel = (300, 320), 0.3
    offsets = refraction.Subbands.from_config(SETTINGS, "g").offsets(mjd, wcs(shape, rotation, pixel), shape)
    distance, angle = refraction.towards(*FIELD, *refraction.zenith(mjd, *PLACE))
    bent = refraction.refraction(np.array([404, 552]) + np.array([1, -1]) * 148 / 6, distance, PLACE[0], PLACE[2])
    bent = bent - refraction.refraction(478.0, distance, PLACE[0], PLACE[2])
    # East is left; the image is turned from north to where the zenith is.
    q = np.radians(angle - rotation)
    np.testing.assert_allclose(offsets[[0, 2], 0], -np.sin(q) * bent / pixel, rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(offsets[[0, 2], 1], np.cos(q) * bent / pixel, rtol=1e-2, atol=1e-4)
    assert (offsets[1] == 0).all() and bent[0] > 0 > bent[1]


def test_a_field_below_the_horizon_is_a_wrong_configuration():
    with pytest.raises(InputError, match=r"template.dcr: .* from the zenith"):
        refraction.Subbands.from_config(SETTINGS, "g").offsets(60000.6, wcs(), (300, 300))


def test_subbands_are_read_from_what_they_are_stored_as():
    model = refraction.Subbands.from_config(SETTINGS, "g")
    assert refraction.Subbands.from_metadata(model.metadata() | {"band": "g"}) == model
    assert refraction.Subbands.from_metadata({"band": "g"}) is None
    np.testing.assert_allclose(model.wavelengths, [404 + 148 / 6, 478, 552 - 148 / 6])


@pytest.mark.parametrize(
    ("dcr", "message"),
    [
        ({}, "template.dcr.latitude: method dcr needs"),
        (SETTINGS, "template.dcr.bands: no wavelengths of band r"),
        (SETTINGS | {"bands": {"g": [552, 404], "r": [552, 691]}}, "template.dcr.bands.g"),
        (SETTINGS | {"subbands": 4}, "template.dcr.subbands"),
        ({"latitude": 10, "longitude": 10}, "template.dcr.bands: no wavelengths of band g, r"),
    ],
)
def test_incomplete_configuration_is_refused(dcr, message):
    with pytest.raises(InputError, match=message):
        full = config.validated({"images": "simulated", "template": {"method": "dcr", "dcr": dcr}})
        refraction.check(full["template"], ["g", "r"])
