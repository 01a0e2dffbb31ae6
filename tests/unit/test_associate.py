"""Association by `simple`: equal to an exhaustive search anywhere on the sky; which sources take part; one patch."""

import numpy as np
from fewsources import COMMON, around, dia_sources, two_tracts
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow.associate import patches, simple
from diaflow.sky.sphere import unit_vectors
from diaflow.store import tables
from diaflow.units import ARCSEC

CONFIG = COMMON


def associate(sources, config):
    return patches.associate(sources, simple.associate, config)


def patch_objects(sources, skymap, tract, patch, config):
    return patches.patch_objects(sources, skymap, tract, patch, simple.associate, config)


def exhaustive(sources, radius):
    """The definition, by comparing every pair: closest pairs of a visit first, each source and object once."""
    points = unit_vectors(sources["ra"], sources["dec"])
    chord = 2 * np.sin(radius * ARCSEC / 2)
    error2 = np.radians(sources["raErr"].astype(float)) ** 2 + np.radians(sources["decErr"].astype(float)) ** 2
    error2 = np.minimum(np.nan_to_num(error2), chord**2)
    index = np.full(len(sources), -1)
    totals, members = [], []
    for visit in np.unique(sources["visit"]):
        rows = [i for i in np.lexsort([sources["diaSourceId"]]) if sources["visit"][i] == visit]
        pairs = []
        for i in rows:
            for k, total in enumerate(totals):
                distance = np.linalg.norm(points[i] - total / np.linalg.norm(total))
                of_object = error2[members[k]].sum() / len(members[k]) ** 2
                if distance < np.sqrt(chord**2 + 9 * (error2[i] + of_object)):
                    pairs.append((distance, i, k))
        used = set()
        for _, i, k in sorted(pairs):
            if index[i] < 0 and k not in used:
                index[i] = k
                used.add(k)
        for i in rows:
            if index[i] < 0:
                index[i] = len(totals)
                totals.append(points[i].copy())
                members.append([i])
            else:
                totals[index[i]] += points[i]
                members[index[i]].append(i)
    return index


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 80),
    size=st.sampled_from([1.0, 4.0, 15.0]),
    radius=st.sampled_from([0.01, 0.5, 2.0]),
    errors=st.sampled_from([0, 1]),
    place=st.sampled_from([(0, 0), (0, 60), (123, -45), (77, 90), (200, -90), (359.9999, 89.9999), (180, 0), (270, 0)]),
)
def test_equals_an_exhaustive_search_also_at_the_poles_and_at_ra_zero(seed, n, size, radius, errors, place):
    rng = np.random.default_rng(seed)
    sources = dia_sources(
        rng.integers(0, 6, n), rng.integers(0, 2, n), *around(*place, *(radius * rng.uniform(-size, size, (2, n))))
    )
    sources["raErr"], sources["decErr"] = errors * radius / 3600 * rng.choice([0, 0.2, 1, np.nan], (2, n))
    found = associate(sources, CONFIG | {"radius": radius})
    np.testing.assert_array_equal(found, exhaustive(sources, radius))


def test_a_large_survey_recovers_every_object():
    # 400 objects on a grid of 20 arcsec, scatter 0.1 arcsec, radius 1 arcsec: nothing can be confused.
    rng = np.random.default_rng(2)
    east, north = (g.ravel() * 20.0 for g in np.meshgrid(np.arange(20), np.arange(20)))
    n_visits = 50
    visit = np.repeat(np.arange(n_visits), 400)
    true = np.tile(np.arange(400), n_visits)
    noise = rng.normal(0, 0.1, (2, 400 * n_visits))
    sources = dia_sources(visit, 0, *around(359.99, -30, east[true] + noise[0], north[true] + noise[1]))
    np.testing.assert_array_equal(associate(sources, CONFIG), true)


def test_objects_follow_the_mean_of_their_sources():
    # Steps of 0.6 arcsec: from the mean of {0, 0.6} a source at 1.25 is 0.95 away, from the founder 1.25;
    # one at -0.71 is 1.33 from the new mean 0.6167 and founds another object.
    sources = dia_sources([1, 2, 3, 4], 0, *around(10, 20, [0, 0.6, 1.25, -0.71], np.zeros(4)))
    np.testing.assert_array_equal(associate(sources, CONFIG), [0, 0, 0, 1])


def test_sources_of_large_error_are_one_object_and_those_of_small_error_two():
    # 0.4 arcsec in each coordinate: at S/N 5 in a seeing of 3 arcsec; 1.6 is 1.9 standard deviations of the distance.
    sources = dia_sources([1, 2, 3], 0, *around(10, 20, [0, 1.6, 0.7], np.zeros(3)))
    sources["raErr"] = sources["decErr"] = 0.4 / 3600
    np.testing.assert_array_equal(associate(sources, CONFIG), [0, 0, 0])
    sources["raErr"] = sources["decErr"] = 0.04 / 3600
    np.testing.assert_array_equal(associate(sources, CONFIG), [0, 1, 0])


def test_closest_pairs_come_first_and_a_visit_gives_an_object_one_source():
    # Object at 0.  Visit 2 has sources at 0.6 and 0.2: the second joins, though the first comes first.
    sources = dia_sources([1, 2, 2], 0, *around(0, 0, [0, 0.6, 0.2], np.zeros(3)))
    np.testing.assert_array_equal(associate(sources, CONFIG), [0, 1, 0])
    sources = dia_sources([1, 2, 2], [0, 0, 1], *around(0, 0, [0, 0.6, 0.2], np.zeros(3)))
    np.testing.assert_array_equal(associate(sources, CONFIG), [0, 1, 0])


def test_a_source_that_loses_its_object_takes_the_next_one():
    # Objects at 0 and 1.2; sources at 0.1 and 0.5 both prefer the first.
    sources = dia_sources([1, 1, 2, 2], 0, *around(0, 0, [0, 1.2, 0.5, 0.1], np.zeros(4)))
    np.testing.assert_array_equal(associate(sources, CONFIG), [0, 1, 1, 0])


def test_sources_that_cannot_be_used_have_no_object():
    sources = dia_sources(np.arange(6), 0, np.full(6, 10.0), np.full(6, 0.0), pixelFlags=[0, 1, 0, 0, 0, 0])
    sources["psfFlux_flag"][2] = True
    sources["ra"][3] = np.nan
    sources["visitInTemplate"][4] = True
    sources["glint_trail"][5] = True
    np.testing.assert_array_equal(associate(sources, CONFIG), [0, -1, -1, -1, 0, -1])


def test_flags_bands_and_the_least_snr_are_those_of_the_configuration():
    columns = {"band": ["g", "r", "r", "r"], "snr": [9, -9, 5, 9], "pixelFlags": [0, 0, 0, 1], "isDipole": [0, 1, 0, 0]}
    sources = dia_sources(np.arange(4), 0, np.full(4, 10.0), np.zeros(4), **columns)
    for change, expected in (
        ({"bands": ["r"]}, [-1, 0, 0, -1]),
        ({"min_snr": 6}, [0, 0, -1, -1]),
        ({"flags": []}, [0, 0, 0, 0]),
        ({"flags": ["isDipole"]}, [0, -1, 0, 0]),
    ):
        np.testing.assert_array_equal(associate(sources, CONFIG | change), expected)


def test_no_sources_give_no_objects():
    assert len(associate(tables.empty("dia_source"), CONFIG)) == 0


def test_the_links_of_a_patch_are_complete():
    skymap = two_tracts(30.0, 0.0)
    sources = dia_sources([1, 2, 3, 4], 0, *around(30, 0, [0, 0.1, -0.1, 5], [0, 0, 0, 0]), band="r")
    objects, links = patch_objects(sources, skymap, 7, "1_1", CONFIG)
    np.testing.assert_array_equal(objects["nDiaSources"], [3, 1])
    np.testing.assert_array_equal(objects["diaObjectId"], sources["diaSourceId"][[0, 3]])
    np.testing.assert_array_equal(links["diaSourceId"], sources["diaSourceId"])
    np.testing.assert_array_equal(links["diaObjectId"], sources["diaSourceId"][[0, 0, 0, 3]])
    assert (objects["tract"] == 7).all() and (objects["patch"] == "1_1").all()


def test_a_patch_without_usable_sources_is_an_empty_table():
    sources = dia_sources([1], 0, [30.0], [0.0], band="r", pixelFlags=True)
    for rows in (sources, sources[:0]):
        objects, links = patch_objects(rows, two_tracts(30.0, 0.0), 7, "1_1", CONFIG)
        assert len(objects) == len(links) == 0
