"""The stellar locus, on sizes of simulated sources: who is a star, and where there are none."""

import numpy as np
import pytest

from diaflow.calibrate import stellar_locus

SHAPE = (1000, 1000)


def sources(n_stars, n_others, seed, others=(0.05, 0.6), scatter=0.005):
    """ln(size) without noise, S/N, x and y; stars come first and have size 1."""
    rng = np.random.default_rng(seed)
    n = n_stars + n_others
    size_log = np.append(rng.normal(0, scatter, n_stars), rng.uniform(*others, n_others))
    snr = 50 * rng.uniform(0.01, 1, n) ** -0.7  # counts of stars of a slope of 0.6 per magnitude
    return size_log + rng.normal(0, 1 / snr), snr, *rng.uniform(0, SHAPE[0], (2, n))


@pytest.mark.parametrize("n_stars, n_galaxies", [(40, 0), (40, 40), (20, 60), (20, 120)])
def test_stars_are_found_among_any_number_of_galaxies(n_stars, n_galaxies):
    found = stellar_locus.find(*sources(n_stars, n_galaxies, seed=1), SHAPE)
    assert found.shown and found.exists
    assert found.star[:n_stars].mean() > 0.8
    # A galaxy as near as three errors of the faintest star, 0.06, is none the wiser.
    assert found.star[n_stars:].sum() <= 0.1 * n_stars


def test_pairs_that_the_seeing_hides_do_not_widen_the_locus():
    size_log, *rest = sources(30, 20, seed=2, others=(0.08, 0.2))
    found = stellar_locus.find(size_log, *rest, SHAPE)
    assert found.star[:30].mean() > 0.9 and not found.star[30:].any()


def test_the_locus_follows_sizes_over_the_detector():
    size_log, snr, x, y = sources(80, 20, seed=3)
    # from the sharpest to the broadest corner by a quarter
    size_log += 0.1 * x / SHAPE[1] + 0.15 * (y / SHAPE[0]) ** 2
    found = stellar_locus.find(size_log, snr, x, y, SHAPE)
    assert found.shown and found.star[:80].mean() > 0.9


def test_galaxies_alone_show_no_locus():
    shown = [stellar_locus.find(*sources(0, n, seed), SHAPE).shown for n in (60, 300) for seed in range(15)]
    assert np.mean(shown) <= 0.1


def test_many_galaxies_alone_have_no_locus():
    assert not any(stellar_locus.find(*sources(0, 300, seed), SHAPE).exists for seed in range(5))


def test_too_few_sources_are_not_refused():
    assert stellar_locus.find(*sources(8, 4, seed=4), SHAPE).exists
