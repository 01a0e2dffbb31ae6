"""Aggregates of DIAObjects: the values of LSST's plugins, positions on the sphere, what does not count."""

import numpy as np
import pytest
import scipy.stats

from diaflow.associate import aggregate, statistics
from diaflow.store import tables

# Fluxes, errors and times of `test_diaCalculationPlugins.py` in LSST's meas_base, and its expected values.
FLUX = np.linspace(-1, 1, 10)
TIME = np.append(np.linspace(0, 1, 10)[:-1], 1 - 1 / 90)


def one_object(flux=FLUX, error=1.0, time=TIME, options=(), **columns):
    sources = tables.from_columns(
        "dia_source",
        **{"diaSourceId": np.arange(len(flux)) + 5, "visit": np.arange(len(flux)), "band": "u", "ra": 1.0, "dec": 2.0}
        | {"psfFlux": flux, "psfFluxErr": error, "midpointMjdTai": time}
        | columns,
    )
    return aggregate.dia_objects(sources, np.zeros(len(sources), int), ["u"], options)[0]


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


# --- options ---


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("Percentile", "psfFluxPercentile05", -0.9),
        ("Percentile", "psfFluxPercentile25", -0.5),
        ("Percentile", "psfFluxPercentile50", 0.0),
        ("Percentile", "psfFluxPercentile75", 0.5),
        ("Percentile", "psfFluxPercentile95", 0.9),
        ("MAD", "psfFluxMAD", 0.5555555556),
        ("Skew", "psfFluxSkew", 0.0),
        ("StetsonJ", "psfFluxStetsonJ", -0.5958393936080928),
    ],
)
def test_options_are_those_of_lsst(option, name, value):
    assert one_object(options=[option])[f"u_{name}"] == pytest.approx(value, rel=3e-7, abs=1e-7)


def test_stetson_j_of_lsst_with_missing_fluxes():
    flux, error = FLUX.copy(), np.ones(10)
    flux[7], error[4] = np.nan, np.nan
    row = one_object(flux, error, options=["StetsonJ"])
    # The table holds the fluxes as float32 too.
    assert row["u_psfFluxStetsonJ"] == pytest.approx(-0.5412797916187173, rel=1e-6)


def test_the_period_of_lsst():
    # A sine of amplitude 1 and period 10 with noise of 1e-3 at ten times, which are irregular: there are no aliases.
    rng = np.random.default_rng(4)
    time = rng.uniform(0, 30, 10)
    flux = np.sin(2 * np.pi * time / 10) + rng.normal(0, 1e-3, 10)
    row = one_object(flux, 1e-3, time, ["LombScargle"])
    assert row["u_psfFluxPeriod"] == pytest.approx(10, abs=0.04)
    assert 0.99 < row["u_psfFluxPower"] <= 1
    assert np.isnan(one_object(flux[:4], 1e-3, time[:4], ["LombScargle"])["u_psfFluxPeriod"])


def test_a_line_is_fitted_with_weights_also_far_from_the_origin_of_time():
    time = 60400 + np.array([0.0, 1.0, 3.0, 7.0])
    flux, error = 5 + 2.5 * (time - 60400) + [0, 0, 0, 90], np.array([0.1, 0.1, 0.1, 1e6])
    row = one_object(flux, error, time, ["LinearFit"])
    assert row["u_psfFluxLinearSlope"] == pytest.approx(2.5, rel=1e-6)
    assert row["u_psfFluxLinearIntercept"] == pytest.approx(5 - 2.5 * 60400, rel=1e-6)
    assert np.isnan(one_object([1.0, 2.0], 1.0, [3.0, 3.0], ["LinearFit"])["u_psfFluxLinearSlope"])


def test_options_of_positions_and_flags():
    offsets = np.array([0, 2e-5, 1e-5, 1e-5])
    moved = {"ra": 40 + offsets / np.cos(np.deg2rad(60)), "dec": 60 + offsets, "isDipole": True}
    row = one_object([1.0] * 4, 1.0, np.arange(4.0), ["ra_dec_Cov", "flags"], **moved)
    assert row["ra_dec_Cov"] == pytest.approx(np.cov(offsets, offsets)[0, 1] / 4, rel=1e-3)
    assert row["flags"] == 0, "being a dipole is no flag"
    assert one_object([1.0, 1.0], 1.0, [0.0, 1.0], ["flags"], shape_flag=[False, True])["flags"] == 1
    assert np.isnan(one_object([1.0], 1.0, [0.0], ["ra_dec_Cov"])["ra_dec_Cov"])


def test_options_of_many_objects_are_those_of_each():
    rng = np.random.default_rng(7)
    n, n_objects = 600, 60
    index = rng.integers(0, n_objects, n)
    index[:n_objects] = np.arange(n_objects)
    index[index == 0], index[index == 1] = 2, 2  # objects 0 and 1 get one and two fluxes
    index[0], index[1:3] = 0, 1
    flux, error, time = rng.exponential(50, n), rng.uniform(3, 9, n), rng.uniform(60400, 60800, n)
    sources = tables.from_columns(
        "dia_source", diaSourceId=np.arange(n), visit=np.arange(n), band="g", ra=1.0, dec=1.0, midpointMjdTai=time,
        psfFlux=flux, psfFluxErr=error, scienceFlux=flux, scienceFluxErr=error,
    )  # fmt: skip
    options = [*statistics.STATISTICS, "scienceFluxSigma"]
    objects = aggregate.dia_objects(sources, index, ["g"], options)
    for k, row in enumerate(objects):
        own = sources[index == k]
        values, sigma = own["psfFlux"].astype(float), own["psfFluxErr"].astype(float)
        expected = {f"psfFluxPercentile{p:02d}": np.percentile(values, p) for p in statistics.PERCENTILES}
        expected["psfFluxMAD"] = np.median(np.abs(values - np.median(values)))
        expected["psfFluxSkew"] = scipy.stats.skew(values, bias=False) if len(own) > 2 else np.nan
        expected["scienceFluxSigma"] = values.std(ddof=1) if len(own) > 1 else np.nan
        line = np.polyfit(own["midpointMjdTai"] - 60600, values, 1, w=1 / sigma) if len(own) > 1 else [np.nan] * 2
        expected["psfFluxLinearSlope"] = line[0]
        expected["psfFluxLinearIntercept"] = line[1] - 60600 * line[0]
        for name, value in expected.items():
            assert row[f"g_{name}"] == pytest.approx(value, rel=1e-5, abs=1e-4, nan_ok=True), (k, name)
        assert np.isnan(row["g_psfFluxStetsonJ"]) == (len(own) < 2)
        assert np.isnan(row["g_psfFluxPeriod"]) == (len(own) < statistics.LEAST_DETECTIONS)


def test_every_option_of_the_table_fills_its_columns():
    of_table = {entry["option"] for entry in tables.schema("dia_object").values() if "option" in entry}
    assert of_table == {*statistics.STATISTICS, "ra_dec_Cov", "flags", "scienceFluxSigma", "fpFlux"}
    filled = one_object(options=of_table, scienceFlux=FLUX, scienceFluxErr=1.0, isNegative=True)
    names = [name for name in filled.dtype.names if name not in one_object().dtype.names and "fpFlux" not in name]
    assert len(names) == 15 and all(np.isfinite(filled[name]) for name in names)


def test_tables_with_and_without_options_are_read_written_and_put_under_each_other(tmp_path):
    one, other = (tables.empty("dia_object", 1, ["g"], options) for options in (["Skew"], ["flags"]))
    one["g_psfFluxSkew"], other["flags"] = 2.0, 1
    tables.write("dia_object", one, tmp_path / "one")
    both = tables.concatenate("dia_object", [tables.read("dia_object", tmp_path / "one"), other])
    np.testing.assert_array_equal(both["g_psfFluxSkew"], [2, np.nan])
    np.testing.assert_array_equal(both["flags"], [0, 1])
    assert "g_psfFluxMAD" not in both.dtype.names
