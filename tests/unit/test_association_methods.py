"""What every algorithm of association keeps to, anywhere on the sky, and what is special to each."""

from types import SimpleNamespace

import numpy as np
import pytest
from fewsources import COMMON, around, dia_sources, two_tracts
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from diaflow.associate import aggregate, assignment, patches
from diaflow.run import methods
from diaflow.store import tables

VARIANTS = [
    (name, options)
    for name in methods.listed("associate")
    for options in ([{"remove_ambiguous": True}, {"remove_ambiguous": False}] if name == "multimatch" else [{}])
]
EVERY = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{n}{list(o.values())}" for n, o in VARIANTS])
PLACES = [(0, 0), (0, 60), (77, 90), (200, -90), (359.9999, 89.9999), (180, 0)]
SEEDS = st.integers(0, 2**32 - 1)


def associate(sources, name, options=None):
    config = COMMON | {"algorithm": name} | (options or {})
    return patches.associate(sources, methods.load("associate", name).associate, config)


def crowd(rng, n, place=(5, 5), size=6.0):
    """Sources of 8 visits within some radii of a place, in two detectors, of several errors."""
    sources = dia_sources(
        rng.integers(0, 8, n), rng.integers(0, 2, n), *around(*place, *rng.uniform(-size, size, (2, n)))
    )
    sources["raErr"] = sources["decErr"] = rng.choice([0, 0.2, 1, np.nan], n) / 3600
    return sources


@EVERY
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_the_order_of_rows_does_not_matter(name, options, seed):
    rng = np.random.default_rng(seed)
    sources = crowd(rng, 200)
    shuffle = rng.permutation(200)
    np.testing.assert_array_equal(
        associate(sources[shuffle], name, options), associate(sources, name, options)[shuffle]
    )


@EVERY
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, n=st.integers(0, 120), place=st.sampled_from(PLACES))
def test_no_place_on_the_sky_is_special(name, options, seed, n, place):
    found = associate(crowd(np.random.default_rng(seed), n, place), name, options)
    np.testing.assert_array_equal(found, associate(crowd(np.random.default_rng(seed), n, (150, 0)), name, options))


@EVERY
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, size=st.sampled_from([0.3, 2.0, 8.0]))
def test_no_source_is_lost_and_no_visit_is_twice_in_an_object(name, options, seed, size):
    # The detectors of a visit are one set: they do not overlap on the sky, so two sources are two things.
    sources = crowd(np.random.default_rng(seed), 150, size=size)
    index = associate(sources, name, options)
    linked = index >= 0
    assert linked.all() or options.get("remove_ambiguous")
    np.testing.assert_array_equal(np.unique(index[linked]), np.arange(index.max() + 1))
    pairs = np.stack([index[linked], sources["visit"][linked]])
    assert np.unique(pairs, axis=1).shape == pairs.shape
    ordered = np.lexsort([sources[key] for key in ("diaSourceId", "detector", "visit")])
    first = np.unique(index[ordered][linked[ordered]], return_index=True)[1]
    assert (np.diff(first) > 0).all(), "objects are in the order of their first sources"


def survey(rng, ra, dec):
    """Sources of 6 visits at 300 places on two tracts, a third of them on borders of patches or tracts."""
    # Tract 7 covers 75 arcsec around the origin, tract 9 the same around 75 arcsec east; borders of patches are at
    # 25 arcsec from the centres, that of the tracts is at 37.5 arcsec.
    east, north = rng.uniform(-65, 140, 300), rng.uniform(-65, 65, 300)
    east[:50], north[50:100] = rng.choice([-25, 25, 37.5, 50, 100], 50), rng.choice([-25, 25], 50)
    noise = rng.normal(0, 0.3, (2, 1800))
    positions = around(ra, dec, np.tile(east, 6) + noise[0], np.tile(north, 6) + noise[1])
    return dia_sources(np.repeat(np.arange(6), 300), 0, *positions, band="g")


@EVERY
@settings(max_examples=4, deadline=None)
@given(seed=SEEDS, ra=st.sampled_from([0.0, 150.0]), dec=st.sampled_from([-30.0, 80.0]))
def test_patches_together_hold_every_object_once_and_whole(name, options, seed, ra, dec):
    sources, skymap = survey(np.random.default_rng(seed), ra, dec), two_tracts(ra, dec)
    algorithm, config = methods.load("associate", name).associate, COMMON | options
    parts = [
        patches.patch_objects(sources, skymap, tract, patch, algorithm, config)
        for tract in skymap.tracts
        for patch in skymap.tracts[tract].patches()
    ]
    objects = np.sort(tables.concatenate("dia_object", [part[0] for part in parts]), order="diaObjectId")
    links = np.sort(tables.concatenate("dia_link", [part[1] for part in parts]), order="diaSourceId")

    index = associate(sources, name, options)
    whole = aggregate.dia_objects(sources, index, ["g"])
    expected = np.sort(whole, order="diaObjectId")
    for column in ("diaObjectId", "ra", "dec", "nDiaSources"):
        np.testing.assert_array_equal(objects[column], expected[column])
    order = np.argsort(sources["diaSourceId"])
    np.testing.assert_array_equal(links["diaSourceId"], sources["diaSourceId"][order])
    founders = np.where(index >= 0, whole["diaObjectId"][index], 0)
    np.testing.assert_array_equal(links["diaObjectId"], founders[order])


@EVERY
def test_a_survey_without_confusion_recovers_every_object(name, options):
    rng = np.random.default_rng(2)
    east, north = (g.ravel() * 20.0 for g in np.meshgrid(np.arange(10), np.arange(10)))
    true = np.tile(np.arange(100), 30)
    noise = rng.normal(0, 0.1, (2, 3000))
    positions = around(359.99, -30, east[true] + noise[0], north[true] + noise[1])
    sources = dia_sources(np.repeat(np.arange(30), 100), 0, *positions, raErr=0.1 / 3600, decErr=0.1 / 3600)
    np.testing.assert_array_equal(associate(sources, name, options), true)


def on_a_line(visit, east, detector=0, error=np.nan, place=(10, 20)):
    """Sources at these places along a parallel [arcsec]."""
    sources = dia_sources(visit, detector, *around(*place, np.asarray(east, float), np.zeros(len(east))))
    sources["raErr"] = sources["decErr"] = np.asarray(error) / 3600
    return sources


# --- multimatch: E.3 of the specification ---


@pytest.mark.parametrize(
    ("visit", "east", "removed", "resolved"),
    [
        # Two sources of a visit match the object: it goes with all its sources, before and after.
        ([1, 2, 2, 3, 4], [0, 0.6, 0.2, 0.1, 5], [-1, -1, -1, -1, 0], [0, 1, 0, 0, 2]),
        # A source matches two objects: both go, the object far away stays.
        ([1, 1, 1, 2], [0, 1.2, 9, 0.5], [-1, -1, 0, -1], [0, 1, 2, 0]),
        # Objects stay at their first source: 1.1 is not matched to 0, though it is near the mean of 0 and 0.6.
        ([1, 2, 3], [0, 0.6, 1.1], [0, 0, 1], [0, 0, 1]),
        # Sources of one visit are objects of their own, however close.
        ([1, 1], [0, 0.1], [0, 1], [0, 1]),
    ],
)
def test_multimatch_leaves_out_or_resolves_what_is_ambiguous(visit, east, removed, resolved):
    sources = on_a_line(visit, east)
    np.testing.assert_array_equal(associate(sources, "multimatch", {"remove_ambiguous": True}), removed)
    np.testing.assert_array_equal(associate(sources, "multimatch", {"remove_ambiguous": False}), resolved)


def test_sources_that_multimatch_leaves_out_are_linked_to_nothing_in_one_patch():
    sources = on_a_line([1, 2, 2, 3], [0, 0.6, 0.2, 5], place=(30, 0))
    sources["band"] = "r"
    objects, links = patches.patch_objects(
        sources,
        two_tracts(30.0, 0.0),
        7,
        "1_1",
        methods.load("associate", "multimatch").associate,
        COMMON | {"remove_ambiguous": True},
    )
    np.testing.assert_array_equal(links["diaSourceId"], sources["diaSourceId"])
    np.testing.assert_array_equal(links["diaObjectId"], [0, 0, 0, sources["diaSourceId"][3]])
    np.testing.assert_array_equal(objects["nDiaSources"], [1])


# --- cluster ---


@pytest.mark.parametrize(
    ("visit", "east", "expected"),
    [
        # All visits at once: `simple` would found a second object at -0.9, 1.2 from the first mean.
        ([1, 2, 3, 4], [0.6, 0.0, -0.6, 0.1], [0, 0, 0, 0]),
        # A chain of friends wider than the radius: the closest go together.
        ([1, 2, 3, 4], [0, 0.2, 1.1, 1.9], [0, 0, 1, 1]),
        # A visit twice: the closer source of each visit joins.
        ([1, 2, 2], [0, 0.6, 0.2], [0, 1, 0]),
        # Two stars closer than the radius, both seen in every visit, stay two.
        ([1, 1, 2, 2, 3, 3], [0, 0.8, 0.05, 0.78, -0.04, 0.83], [0, 1, 0, 1, 0, 1]),
    ],
)
def test_clusters_are_no_wider_than_the_radius_and_have_no_visit_twice(visit, east, expected):
    np.testing.assert_array_equal(associate(on_a_line(visit, east), "cluster"), expected)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_sources_of_a_cluster_are_within_the_radius_of_its_mean(seed):
    sources = crowd(np.random.default_rng(seed), 150, size=4.0)
    sources["raErr"] = np.nan
    sources["decErr"] = np.nan
    index = associate(sources, "cluster")
    objects = aggregate.dia_objects(sources, index, [])
    centre = objects[index]
    east = (sources["ra"] - centre["ra"]) * np.cos(np.radians(centre["dec"]))
    assert np.hypot(east, sources["dec"] - centre["dec"]).max() * 3600 < 1.0 + 1e-6


# --- assignment: E.4 of the specification ---


def test_assignment_of_lsst_worked_example():
    # Objects at every 0.04 deg; new sources within 0.1 arcsec of four of them, and one far away.
    places = 144 * np.arange(5)
    sources = on_a_line([1] * 5 + [2] * 5, [*places, *(places[1:] + [0.1, -0.1, 0.05, -0.02]), 1000], error=0.1)
    np.testing.assert_array_equal(associate(sources, "assignment"), [0, 1, 2, 3, 4, 1, 2, 3, 4, 5])


def test_assignment_finds_the_crossing_pairs_where_the_closest_first_leave_one_alone():
    # The first new source can have both objects, the second only the first, to which it is farther.
    sources = on_a_line([1, 1, 2, 2], [0, 1.2, 0.3, -0.8])
    np.testing.assert_array_equal(associate(sources, "assignment"), [0, 1, 1, 0])
    np.testing.assert_array_equal(associate(sources, "simple"), [0, 1, 0, 2])


def test_assignment_leaves_the_worse_source_alone():
    np.testing.assert_array_equal(associate(on_a_line([1, 2, 2], [0, 0.6, 0.2]), "assignment"), [0, 1, 0])
    np.testing.assert_array_equal(associate(on_a_line([1, 2, 2], [0, 0.2, 0.6]), "assignment"), [0, 0, 1])


@pytest.mark.parametrize(("tight", "expected"), [(0.1, 1), (0.02, 0)])
def test_assignment_prefers_the_object_of_the_smaller_cost_not_the_nearer(tight, expected):
    # The source is 0.15 arcsec from an object known to 0.4, 0.2 from one known to `tight`; its own error is 0.05.
    sources = on_a_line([1, 1, 2], [-0.15, 0.2, 0], error=[0.4, tight, 0.05])
    of_errors = np.array([0.4, tight]) ** 2 + 0.05**2 + assignment.FLOOR**2
    cost = np.array([0.15, 0.2]) ** 2 / of_errors / 2 + np.log(of_errors)
    assert np.argmin(cost) == expected
    assert associate(sources, "assignment")[2] == expected


def test_assignment_crosses_ra_zero():
    sources = dia_sources([1, 2], 0, np.array([359.99999, 0.00001]), np.zeros(2))
    np.testing.assert_array_equal(associate(sources, "assignment"), [0, 0])


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 12), density=st.sampled_from([0.15, 0.4, 1.0]))
def test_assignment_is_the_cheapest_of_all(seed, n, density):
    rng = np.random.default_rng(seed)
    possible = rng.random((n, n + 3)) < density
    cost = np.where(possible, rng.normal(0, 5, possible.shape), np.inf)
    alone = 50.0
    rows, columns = np.nonzero(possible)
    state = SimpleNamespace(objects=np.full(n, -1), owner=np.full(n + 3, -1), price=np.zeros(n + 3))
    assignment.least_cost(
        0, np.searchsorted(rows, np.arange(n + 1)), columns, cost[possible], alone, state.objects, state.owner,
        state.price, np.full(n + 3, np.inf), np.empty(n + 3, int), np.zeros(n + 3, bool),
    )  # fmt: skip
    own = np.where(np.eye(n, dtype=bool), alone, 1e6)
    best = np.hstack([np.where(possible, cost, 1e6), own])
    expected = best[linear_sum_assignment(best)].sum()
    has = state.objects >= 0
    assert len(set(state.objects[has])) == has.sum()
    assert cost[np.flatnonzero(has), state.objects[has]].sum() + alone * (~has).sum() == pytest.approx(expected)
