"""Polynomials in position: their algebra against plain sums, the fit against known coefficients."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow import polynomials
from diaflow.errors import BadData

ORDERS = st.integers(0, 5)
SHAPES = st.tuples(st.integers(1, 300), st.integers(1, 300))
UNIT = st.floats(-1, 1)
SEEDS = st.integers(0, 2**32 - 1)
PROPERTY = settings(max_examples=50, deadline=None, derandomize=True)


def plain(coefficients, u, v, order):
    """The sum as the docstring of the module writes it."""
    pairs = [(degree - j, j) for degree in range(order + 1) for j in range(degree + 1)]
    return sum(c * u**i * v**j for c, (i, j) in zip(coefficients, pairs, strict=True))


@PROPERTY
@given(ORDERS)
def test_terms_exponents_and_order_belong_together(order):
    exponents = polynomials.exponents(order)
    assert len(exponents) == len(set(exponents)) == polynomials.n_terms(order)
    assert {sum(pair) for pair in exponents} == set(range(order + 1))
    assert [sum(pair) for pair in exponents] == sorted(sum(pair) for pair in exponents)
    assert polynomials.order_of(np.zeros((len(exponents), 3, 3))) == order
    u, v = np.array([[0.3, -2.0], [1.0, 0.0]]), np.array([[0.5, 1.5], [-1.0, 0.0]])
    terms = polynomials.terms(u, v, order)
    assert terms.shape == (len(exponents), 2, 2)
    for term, (i, j) in zip(terms, exponents):
        np.testing.assert_array_equal(term, u**i * v**j)


@PROPERTY
@given(SHAPES, UNIT, UNIT)
def test_spanned_positions_go_from_corner_to_corner(shape, a, b):
    """Affine, with -1 and 1 at the first and the last pixel of each axis; an axis of one pixel is at -1."""
    ny, nx = shape
    x, y = np.array([0, nx - 1]), np.array([0, ny - 1])
    u, v = polynomials.spanned(x, y, shape)
    assert u.tolist() == [-1, 1 if nx > 1 else -1] and v.tolist() == [-1, 1 if ny > 1 else -1]
    half_x, half_y = polynomials.half_length(nx), polynomials.half_length(ny)
    u, v = polynomials.spanned(half_x * (1 + a), half_y * (1 + b), shape)
    assert (u, v) == (pytest.approx(a, abs=1e-15), pytest.approx(b, abs=1e-15))


@PROPERTY
@given(SHAPES, st.floats(-100, 100), st.floats(-100, 100))
def test_centred_positions_have_one_unit_and_their_zero_in_the_middle(shape, dx, dy):
    ny, nx = shape
    u, v = polynomials.centred((nx - 1) / 2 + dx, (ny - 1) / 2 + dy, shape)
    # a position of up to 400 pixels is rounded by 6e-14
    assert np.hypot(u, v) * max(shape) / 2 == pytest.approx(np.hypot(dx, dy), abs=1e-12)
    turned = polynomials.centred((nx - 1) / 2 - dy, (ny - 1) / 2 + dx, shape)
    assert np.array(turned) * max(shape) / 2 == pytest.approx([-dy, dx], abs=1e-12)
    # the edges of the longer side are at -1 and 1
    edge = polynomials.centred(nx - 0.5, ny - 0.5, shape)
    assert max(edge) == pytest.approx(1, abs=1e-14)


@PROPERTY
@given(ORDERS, st.integers(0, 200), st.sampled_from([1, 1.5, 2, 3, 5, 10]), st.integers(0, 2))
def test_affordable_order_is_the_highest_that_has_its_values(order, n_values, per_term, lowest):
    found = polynomials.affordable(order, n_values, per_term, lowest)
    allowed = [o for o in range(lowest, order + 1) if n_values >= per_term * (o + 1) * (o + 2) / 2]
    assert found == (allowed[-1] if allowed else lowest)
    assert found <= polynomials.affordable(order, n_values + 1, per_term, lowest)
    assert found <= polynomials.affordable(order + 1, n_values, per_term, lowest)
    assert found >= polynomials.affordable(order, n_values, per_term + 1, lowest)


@PROPERTY
@given(ORDERS, SEEDS)
def test_fit_without_noise_gives_the_coefficients(order, seed):
    rng = np.random.default_rng(seed)
    n = 3 * polynomials.n_terms(order) + 5
    u, v = rng.uniform(-1, 1, (2, n))
    design, coefficients = polynomials.terms(u, v, order), rng.normal(size=polynomials.n_terms(order))
    found, kept = polynomials.fit(design, coefficients @ design, rng.uniform(0.5, 2, n))
    # Rounding grows with the condition of the design: below 1e4 for these, and 1e-16 of the values.
    np.testing.assert_allclose(found, coefficients, atol=1e-10)
    assert kept.all()


@PROPERTY
@given(st.integers(0, 2), SEEDS)
def test_clipped_fit_leaves_out_the_outliers_and_no_others(order, seed):
    """Values off by up to half an error, and one in eight by 1000, all to one side: a plain fit is shifted by more than
    the others scatter, the clipped one is as if these were absent."""
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(-1, 1, (2, 80))
    design, coefficients = polynomials.terms(u, v, order), rng.normal(size=polynomials.n_terms(order))
    values = coefficients @ design + rng.uniform(-0.5, 0.5, 80) * 0.01
    bad = rng.permutation(80) < 10
    values[bad] += 10.0
    found, kept = polynomials.fit(design, values, 0.01, clip=5.0)
    np.testing.assert_array_equal(kept, ~bad)
    np.testing.assert_array_equal(found, polynomials.fit(design[:, ~bad], values[~bad], 0.01)[0])
    # a fit with a constant has the mean of its values
    shift = (polynomials.fit(design, values, 0.01)[0] - found) @ design
    assert shift.mean() == pytest.approx(10.0 * 10 / 80, abs=0.01)


@PROPERTY
@given(st.integers(0, 1), SEEDS)
def test_most_values_tell_the_polynomial_where_a_third_is_off_to_one_side(order, seed):
    """A third is 6 to 30 errors too large, which shifts a plain fit by 6; that of the others is known to 1 / sqrt(40).

    The others and those beyond 6 errors are told apart by probabilities of 1 : 100, so that the fit is that of
    the others within a part of its errors: four and a half of these, for hundreds of tries.
    """
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(-1, 1, (2, 60))
    design, coefficients = polynomials.terms(u, v, order), rng.normal(size=polynomials.n_terms(order))
    off = np.arange(60) < 20
    values = coefficients @ design + 0.03 * (rng.normal(size=60) + off * rng.uniform(6, 30, 60))
    found, belongs = polynomials.fit_most(design, values, np.full(60, 0.03), [0.0])
    covariance = np.linalg.inv(design[:, ~off] @ design[:, ~off].T) * 0.03**2
    assert (np.abs(found - coefficients) < 4.5 * np.sqrt(np.diag(covariance))).all()
    assert (belongs[off] < 0.5).sum() >= 18 and (belongs[~off] > 0.5).sum() >= 32


@pytest.mark.parametrize("scatter", [0.0, 0.1])
def test_where_all_values_belong_the_fit_is_that_of_least_squares(scatter):
    """The scatter beyond their errors is found among those that are tried: with another, a tenth would not belong."""
    rng = np.random.default_rng(1)
    values, errors = rng.normal(1, np.hypot(0.02, scatter), 400), np.full(400, 0.02)
    found, belongs = polynomials.fit_most(np.ones((1, 400)), values, errors, [0.0, 0.1])
    # values beyond 3 errors, 1 in 400, may count less
    assert found[0] == pytest.approx(values.mean(), abs=0.2 * np.hypot(0.02, scatter) / 20)
    assert (belongs > 0.5).mean() > 0.98


def test_values_count_by_their_errors():
    """The weighted mean of 1 and 4 with errors 1 and 2 is (1 + 4 / 4) / (1 + 1 / 4)."""
    found, _ = polynomials.fit(np.ones((1, 2)), np.array([1.0, 4.0]), np.array([1.0, 2.0]))
    assert found == pytest.approx([1.6], rel=1e-14)


@pytest.mark.parametrize("error", [np.nan, 0.0])
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_cannot_be_fitted_is_bad_data(error):
    with pytest.raises(BadData, match="fit of a polynomial failed"):
        polynomials.fit(np.ones((1, 3)), np.ones(3), np.array([1.0, 1.0, error]))


@PROPERTY
@given(ORDERS, SEEDS)
def test_values_are_those_of_the_plain_sum(order, seed):
    rng = np.random.default_rng(seed)
    coefficients = rng.normal(size=(polynomials.n_terms(order), 2, 3))
    u, v = rng.uniform(-1, 1, (2, 4))
    values = polynomials.evaluated(coefficients, u, v)
    assert values.shape == (2, 3, 4)
    for a in range(2):
        for b in range(3):
            # sums of at most 21 numbers of order one
            np.testing.assert_allclose(values[a, b], plain(coefficients[:, a, b], u, v, order), atol=1e-13)


@PROPERTY
@given(ORDERS, SHAPES, SEEDS)
def test_image_has_the_value_at_every_spanned_position(order, shape, seed):
    coefficients = np.random.default_rng(seed).normal(size=polynomials.n_terms(order))
    image = polynomials.image(coefficients, shape)
    assert image.shape == shape and image.dtype == np.float32
    y, x = np.mgrid[: shape[0], : shape[1]]
    exact = polynomials.evaluated(coefficients, *polynomials.spanned(x, y, shape))
    # products of float32 numbers: 6e-8 of the sum of the absolute values of the terms
    np.testing.assert_allclose(image, exact, atol=1e-6 * np.abs(coefficients).sum())


@PROPERTY
@given(ORDERS, SEEDS)
def test_expansion_about_a_point_is_the_polynomial(order, seed):
    """sum over i, j of D_ij (x - u)^i (y - v)^j, with all derivatives, is exact."""
    rng = np.random.default_rng(seed)
    coefficients = rng.normal(size=polynomials.n_terms(order))
    u, v = rng.uniform(-1, 1, 3), float(rng.uniform(-1, 1))
    x, y = rng.uniform(-1, 1, 3), float(rng.uniform(-1, 1))
    expanded = 0.0
    for i, j in polynomials.exponents(order):
        local = polynomials.derivative_terms(u, v, i, j, order)
        assert local.shape == (3, polynomials.n_terms(order)) and local.dtype == np.float32
        expanded = expanded + local.astype(float) @ coefficients * (x - u) ** i * (y - v) ** j
    # float32 factors of up to 10, times distances of up to 2 to the power of the order
    atol = 1e-6 * comb(order, order // 2) * 4**order * np.abs(coefficients).sum()
    np.testing.assert_allclose(expanded, plain(coefficients, x, np.full(3, y), order), atol=atol)


def test_derivatives_beyond_the_order_of_a_term_vanish():
    terms = polynomials.derivative_terms(np.array([0.5]), 2.0, 1, 1, 3)[0]
    # of 1, u, v, u^2, uv, v^2, u^3, u^2 v, u v^2, v^3
    np.testing.assert_array_equal(terms, [0, 0, 0, 0, 1, 0, 0, 2 * 0.5, 2 * 2.0, 0])


@pytest.mark.parametrize("true", [0, 1, 2])
def test_likeliest_order_is_the_true_one_and_outliers_do_not_raise_it(true):
    rng = np.random.default_rng(true)
    found = []
    for _ in range(50):
        u, v = rng.uniform(-1, 1, (2, 60))
        coefficients = rng.choice([-1, 1], (3, polynomials.n_terms(true))) * 0.1
        values = coefficients @ polynomials.terms(u, v, true) + rng.normal(0, 0.02, (3, 60))
        values[0, :3] += 5.0
        terms, kept = polynomials.likeliest(u, v, values, np.full((3, 60), 0.02), range(4), 4.0)
        assert terms.shape == (3, polynomials.n_terms(polynomials.order_of(terms[0])))
        assert not kept[0, :3].any() and kept[1:].mean() > 0.95
        found.append(polynomials.order_of(terms[0]))
    # three times the 2, 3 or 4 next terms lower chi2 by twice their number by chance in 6 % at most
    assert np.min(found) == true and np.mean(np.array(found) == true) > 0.8
