"""Figures of the static sky on made-up catalogues: a perfect one meets all bars, each flaw shows in its figure."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from diaflow.store import tables
from diaflow.units import nanojansky
from diaflow.validate import object_figures
from diaflow.validate.bars import DESCRIPTIONS, bar_of
from diaflow.validate.static_sky import Deep, StaticSky

BANDS, ERR = ("g", "i"), {"g": 60.0, "i": 50.0}  # [nJy]
FWHM = {"g": 1.4, "i": 0.9}  # [arcsec]
SPACING = 12.0 / 3600
N_STARS, N_GALAXIES, N_PAIRS, N_VISITS = 700, 400, 40, 6
FLUXES = ("psfFlux", *object_figures.GALAXY_FLUXES)


def _truth(rng) -> np.ndarray:
    """Stars, galaxies and pairs of two ratios and separations on a grid, and a supernova far away."""
    n = N_STARS + N_GALAXIES + N_PAIRS
    cells = rng.permutation(60 * 60)[:n]
    ra, dec = 10 + cells // 60 * SPACING, cells % 60 * SPACING
    table = tables.empty("truth_object", n + N_PAIRS + 1, BANDS)
    table["objectId"] = 1 + np.arange(len(table))
    table["type"] = ["star"] * N_STARS + ["galaxy"] * N_GALAXIES + ["blend"] * 2 * N_PAIRS + ["supernova"]
    table["ra"], table["dec"] = np.append(ra, [*ra[-N_PAIRS:], 5.0]), np.append(dec, [*dec[-N_PAIRS:], 5.0])
    apart = np.resize([1.0, 1.2, 2.7, 3.6], N_PAIRS)
    table["dec"][n:-1] += apart / 3600
    table["hostId"][n:-1] = table["objectId"][n - N_PAIRS : n]
    mag = rng.uniform(18, 25, len(table))
    mag[n - N_PAIRS : n] = 19.0
    mag[n:-1] = 19.0 + 2.5 * np.log10(np.repeat([1, 3], N_PAIRS // 2))
    table["i_mag"], table["g_mag"] = mag, mag + rng.uniform(0.2, 1.4, len(table))
    galaxy = table["type"] == "galaxy"
    table["radius"] = np.where(galaxy, rng.uniform(0.1, 1.5, len(table)), 0)
    table["axisRatio"] = 1
    return table


@pytest.fixture(scope="module")
def perfect() -> StaticSky:
    """What a catalogue without flaws would be."""
    rng = np.random.default_rng(3)
    truth = _truth(rng)
    constant = truth[:-1]
    flux = {band: nanojansky(constant[f"{band}_mag"].astype(float)) for band in BANDS}
    chance = np.max([rng.normal(flux[band] / ERR[band]) for band in BANDS], axis=0)
    seen = np.flatnonzero(chance > 5)
    m = len(seen)
    names = [("objectId", int), ("ra", float), ("dec", float), ("refBand", "U1"), ("refExtendedness", float)]
    names += [(f"{band}_{name}{end}", float) for band in BANDS for name in FLUXES for end in ("", "Err")]
    objects = np.zeros(m, names)
    objects["objectId"] = 100 + np.arange(m)
    objects["ra"], objects["dec"] = constant["ra"][seen], constant["dec"][seen]
    objects["refBand"] = "i"
    objects["refExtendedness"] = constant["type"][seen] == "galaxy"
    for band in BANDS:
        for name in FLUXES:
            objects[f"{band}_{name}"] = rng.normal(flux[band][seen], ERR[band])
            objects[f"{band}_{name}Err"] = ERR[band]
    visits = np.repeat(np.arange(N_VISITS), m)
    forced = [
        tables.from_columns(
            "forced_source",
            objectId=np.tile(objects["objectId"], N_VISITS),
            visit=visits,
            band=band,
            psfFlux=rng.normal(np.tile(flux[band][seen], N_VISITS), 2 * ERR[band]),
            psfFluxErr=2 * ERR[band],
            psfFlux_flag=False,
            pixelFlags=False,
        )
        for band in BANDS
    ]
    pulls = {"PSF": rng.normal(size=3000)}
    deep = {
        band: Deep(
            err=np.full(len(constant), ERR[band]),
            given=np.where(constant["type"] == "blend", 1.001 * flux[band], np.nan),
            clean=np.ones(len(constant), bool),
            fwhm=FWHM[band],
            fwhm_pixel=3.0,
            noise_peaks=0.1,
            sky_pulls=pulls,
        )
        for band in BANDS
    }
    return StaticSky(constant, truth[-1:], objects, np.concatenate(forced), deep, 5.0)


def by_name(figures) -> dict:
    return {(figure.name, figure.of): figure for figure in figures}


def changed(sky: StaticSky, **columns) -> StaticSky:
    """The sky with other values of columns of its Objects."""
    objects = sky.objects.copy()
    for name, values in columns.items():
        objects[name] = values
    return replace(sky, objects=objects)


def test_a_perfect_catalogue_meets_all_bars(perfect):
    figures = object_figures.figures(perfect)
    assert {figure.name for figure in figures} <= set(DESCRIPTIONS)
    judged = [(figure, bar_of(figure)) for figure in figures if bar_of(figure)]
    assert [figure for figure, bar in judged if not bar.met(figure)] == []
    names = {figure.name for figure, _ in judged}
    assert names >= {"depth_offset", "false_objects", "blends_found", "star_purity", "object_repeatability"}


def test_a_catalogue_that_is_less_deep_has_an_offset(perfect):
    # Objects below S/N 6.5 in both bands are gone: a threshold that is 0.285 mag brighter.
    best = np.max([perfect.objects[f"{band}_psfFlux"] / ERR[band] for band in BANDS], axis=0)
    figure = object_figures.completeness(replace(perfect, objects=perfect.objects[best > 6.5]))
    assert figure.value == pytest.approx(-2.5 * np.log10(6.5 / 5), abs=3 * figure.error)
    assert figure.error < 0.08 and not bar_of(figure).met(figure)


def test_theory_of_the_completeness_is_that_of_any_band(perfect):
    snr = {band: np.full(1, value) for band, value in (("g", 4.5), ("i", 5.2))}
    either = 1 - np.prod([1 - ndtr(value - 5.0) for value in (4.5, 5.2)])
    found = object_figures.likelihood_of(perfect, snr, np.ones(1, bool), 0.0)
    # Theory knows that the highest of several pixels counts.
    assert np.exp(found) == pytest.approx(either, abs=0.15) and np.exp(found) > either


def test_objects_at_nothing_are_false(perfect):
    n = len(perfect.objects) // 10
    more = perfect.objects[:n].copy()
    more["ra"] += 20
    figure = object_figures.false_objects(replace(perfect, objects=np.concatenate([perfect.objects, more])))
    assert figure.value == pytest.approx(1 / 11, abs=1e-3)


def test_biases_of_fluxes_and_colours_are_found(perfect):
    objects = perfect.objects
    sky = changed(perfect, g_psfFlux=1.02 * objects["g_psfFlux"], i_kronFlux=0.95 * objects["i_kronFlux"])
    figures = by_name(object_figures.star_fluxes(sky) + object_figures.colours(sky))
    assert figures["object_flux_bias", "stars in g"].value == pytest.approx(0.02, abs=0.002)
    assert figures["object_flux_bias", "stars in i"].value == pytest.approx(0, abs=0.002)
    kron, gaap = (figures["object_colour_bias", f"{name} g - i"] for name in ("kron", "gaap1p0"))
    assert kron.value == pytest.approx(2.5 * np.log10(0.95), abs=4 * kron.error)
    assert abs(gaap.value) < 4 * gaap.error
    halved = object_figures.star_fluxes(changed(perfect, i_psfFluxErr=0.5 * objects["i_psfFluxErr"]))
    assert by_name(halved)["object_pull_width", "stars in i"].value == pytest.approx(2, abs=0.2)


def test_galaxies_that_are_called_stars_lower_the_purity_and_only_resolved_ones_count(perfect):
    row = perfect.match
    small = (perfect.truth["radius"] > 0) & (perfect.truth["radius"] < 0.45) & (row >= 0)
    extended = perfect.objects["refExtendedness"].copy()
    extended[row[small]] = 0
    sky = changed(perfect, refExtendedness=extended)
    assert by_name(object_figures.classes(sky))["star_purity", "S/N > 50"].value == 1
    large = np.flatnonzero((perfect.truth["radius"] > 0.5) & (row >= 0))[::3]
    extended[row[large]] = 0
    sky = changed(perfect, refExtendedness=extended)
    assert by_name(object_figures.classes(sky))["star_purity", "S/N > 50"].value < 0.9


def test_pairs_are_told_by_ratio_and_separation(perfect):
    ratio, separation, rows = object_figures.pairs(perfect)
    assert sorted(set(ratio)) == [1, 3]
    np.testing.assert_allclose(sorted(set(separation)), np.array([1.0, 1.2, 2.7, 3.6]) / 0.9)
    # The fainter one of one wide pair in four is lost.
    wide = rows[(ratio == 1) & (separation > 1.25)]
    gone = perfect.match[wide[::4, 1]]
    sky = replace(perfect, objects=np.delete(perfect.objects, gone))
    figures = by_name(object_figures.blends(sky))
    assert figures["blends_found", "1:1 from 1.25 FWHM"].value == pytest.approx(0.75, abs=0.05)
    assert figures["blends_found", "1:3 from 2 FWHM"].value == 1
    assert figures["blends_found", "1:1 closer"].n == 5
    assert (
        figures["blend_given_bias", "1:3"].value == pytest.approx(0.001) and figures["blend_given_bias", "1:3"].n == 40
    )


def test_light_curves_that_wander_are_found(perfect):
    forced = perfect.forced.copy()
    forced["psfFlux"] *= 1 + 0.02 * (-1) ** forced["visit"]
    figures = by_name(object_figures.light_curves(replace(perfect, forced=forced)))
    assert figures["object_repeatability", "i"].value == pytest.approx(0.02 * 1.0857 * np.sqrt(6 / 5), rel=0.1)


def test_without_objects_and_light_curves_there_is_no_value_and_no_crash(perfect):
    empty = replace(perfect, objects=perfect.objects[:0], forced=perfect.forced[:0])
    values = by_name(object_figures.figures(empty))
    assert np.isnan(values["object_repeatability", "g"].value)
    assert values["blends_found", "1:1 from 1.25 FWHM"].value == 0
