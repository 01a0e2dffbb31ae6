"""Aggregates of DIAObjects: the values of LSST's plugins, positions on the sphere, what does not count."""

import numpy as np
import pytest

from diaflow.associate import aggregate
from diaflow.store import tables

# Fluxes, errors and times of `test_diaCalculationPlugins.py` in LSST's meas_base, and its expected values.
FLUX = np.linspace(-1, 1, 10)
TIME = np.append(np.linspace(0, 1, 10)[:-1], 1 - 1 / 90)


def one_object(flux=FLUX, error=1.0, time=TIME, **columns):
    sources = tables.from_columns(
        "dia_source",
        **{"diaSourceId": np.arange(len(flux)) + 5, "visit": np.arange(len(flux)), "band": "u", "ra": 1.0, "dec": 2.0}
        | {"psfFlux": flux, "psfFluxErr": error, "midpointMjdTai": time}
        | columns,
    )
    return aggregate.dia_objects(sources, np.zeros(len(sources), int), ["u"])[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Mean", 0.0),
        ("MeanErr", np.sqrt(0.1)),
        ("Sigma", 0.6728111867),
        ("Chi2", 4.0740740740),
        ("Ndata", 10),
        ("Min", -1.0),
        ("Max", 1.0),
        ("MaxSlope", 2 + 2 / 9),
        ("ErrMean", 1.0),
    ],
)
def test_flux_statistics_are_those_of_lsst(name, value):
    # The table holds float32: seven digits.
    assert one_object()[f"u_psfFlux{name}"] == pytest.approx(value, rel=3e-7, abs=1e-7)


def test_missing_fluxes_and_errors_do_not_count():
    flux, error = FLUX.copy(), np.ones(10)
    flux[7], error[4] = np.nan, np.nan
    row = one_object(flux, error)
    used = np.delete(FLUX, [4, 7])
    assert row["nDiaSources"] == 10
    assert row["u_psfFluxNdata"] == 8
    assert row["u_psfFluxMean"] == pytest.approx(used.mean(), rel=1e-6)
    assert row["u_psfFluxSigma"] == pytest.approx(used.std(ddof=1), rel=1e-6)
    assert row["u_psfFluxChi2"] == pytest.approx(((used - used.mean()) ** 2).sum(), rel=1e-6)


def test_means_are_weighted_by_inverse_variance():
    row = one_object([1.0, 4.0], [1.0, 2.0], [0.0, 1.0], scienceFlux=[10.0, 20.0], scienceFluxErr=[2.0, 1.0])
    assert row["u_psfFluxMean"] == pytest.approx((1 + 4 / 4) / 1.25, rel=1e-6)
    assert row["u_psfFluxMeanErr"] == pytest.approx(1.25**-0.5, rel=1e-6)
    assert row["u_psfFluxErrMean"] == pytest.approx(1.5, rel=1e-6)
    assert row["u_scienceFluxMean"] == pytest.approx((10 / 4 + 20) / 1.25, rel=1e-6)
    assert row["u_scienceFluxMeanErr"] == pytest.approx(1.25**-0.5, rel=1e-6)


def test_slopes_are_signed_and_follow_time_not_rows():
    assert one_object([0.0, 1.0, 5.0], 1.0, [0.0, 2.0, 1.0])["u_psfFluxMaxSlope"] == pytest.approx(5.0)
    assert one_object([3.0, 1.0, 2.0], 1.0, [0.0, 2.0, 1.0])["u_psfFluxMaxSlope"] == pytest.approx(-1.0)
    assert np.isnan(one_object([3.0, 1.0], 1.0, [5.0, 5.0])["u_psfFluxMaxSlope"])


def test_one_flux_has_no_scatter_and_no_slope_and_none_has_nothing():
    row = one_object([2.0], 0.5, [7.0])
    assert row["u_psfFluxMean"] == 2 and row["u_psfFluxMeanErr"] == 0.5 and row["u_psfFluxChi2"] == 0
    assert np.isnan(row["u_psfFluxSigma"]) and np.isnan(row["u_psfFluxMaxSlope"])
    row = one_object([np.nan], 0.5, [7.0])
    assert row["u_psfFluxNdata"] == 0
    for name in ("Mean", "MeanErr", "Sigma", "Chi2", "Min", "Max", "MaxSlope", "ErrMean"):
        assert np.isnan(row[f"u_psfFlux{name}"]), name


def test_positions_are_averaged_across_ra_zero_and_over_the_pole():
    row = one_object([1.0, 1.0], 1.0, [0.0, 1.0], ra=[359.9999, 0.0003], dec=[0.0, 0.0])
    assert row["ra"] == pytest.approx(0.0001, abs=1e-10)
    row = one_object([1.0, 1.0], 1.0, [0.0, 1.0], ra=[90.0, 270.0], dec=[89.9999, 89.9998])
    assert (row["ra"], row["dec"]) == (pytest.approx(270), pytest.approx(89.99995, abs=1e-10))


def test_position_errors_shrink_with_the_number_of_sources():
    row = one_object([1.0] * 4, 1.0, np.arange(4.0), raErr=1e-5, decErr=2e-5)
    assert (row["raErr"], row["decErr"]) == (pytest.approx(5e-6, rel=1e-6), pytest.approx(1e-5, rel=1e-6))


def test_objects_and_bands_do_not_mix():
    rng = np.random.default_rng(4)
    n = 500
    sources = tables.from_columns(
        "dia_source",
        diaSourceId=2**60 + rng.permutation(n),
        visit=rng.integers(0, 50, n),
        band=np.array(["g", "r"], object)[rng.integers(0, 2, n)],
        ra=rng.uniform(10, 11, n),
        dec=rng.uniform(-1, 1, n),
        midpointMjdTai=rng.uniform(0, 100, n),
        psfFlux=rng.normal(0, 100, n),
        psfFluxErr=rng.uniform(5, 15, n),
        pixelFlags=rng.random(n) < 0.2,
    )
    index = np.concatenate([np.arange(60), rng.integers(-1, 60, n - 60)])
    objects = aggregate.dia_objects(sources, index, ["g", "r"])
    for k, row in enumerate(objects):
        own = np.sort(sources[index == k], order=["visit", "detector", "diaSourceId"])
        assert row["diaObjectId"] == own["diaSourceId"][0]
        assert row["nDiaSources"] == len(own)
        assert row["nDiaSourcesUnflagged"] == (~own["pixelFlags"]).sum()
        assert row["firstDiaSourceMjdTai"] == own["midpointMjdTai"].min()
        assert row["lastDiaSourceMjdTai"] == own["midpointMjdTai"].max()
        for band in "gr":
            lit = own[own["band"] == band]
            assert row[f"{band}_psfFluxNdata"] == len(lit)
            if len(lit):
                weight = lit["psfFluxErr"].astype(float) ** -2
                mean = np.average(lit["psfFlux"].astype(float), weights=weight)
                assert row[f"{band}_psfFluxMean"] == pytest.approx(mean, rel=1e-5, abs=1e-4)
                assert row[f"{band}_psfFluxMax"] == lit["psfFlux"].max()


def test_an_object_does_not_depend_on_what_else_is_in_the_table():
    rng = np.random.default_rng(5)
    sources = tables.from_columns(
        "dia_source",
        diaSourceId=np.arange(300),
        visit=np.arange(300),
        ra=rng.uniform(0, 1e-4, 300),
        dec=rng.uniform(0, 1e-4, 300),
    )
    index = rng.integers(0, 3, 300)
    whole = aggregate.dia_objects(sources, index, [])
    alone = aggregate.dia_objects(sources[index == 1], np.zeros((index == 1).sum(), int), [])
    assert (whole["ra"][1], whole["dec"][1]) == (alone["ra"][0], alone["dec"][0])
