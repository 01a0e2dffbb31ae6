"""Non-linear least squares: the minimum of a known curve, and fits that go nowhere."""

import numpy as np

from diaflow.measure import levenberg

T = np.linspace(-10, 10, 41)


def of_gaussian(data):
    """Normal equations of flux times a Gaussian of unit radius."""

    def evaluate(values):
        flux, place = values
        profile = np.exp(-0.5 * (T - place) ** 2)
        design, residual = np.stack([profile, flux * (T - place) * profile]), data - flux * profile
        return (residual**2).sum(), design @ design.T, design @ residual

    return evaluate


def test_flux_and_place_of_a_curve_without_noise_are_exact():
    evaluate = of_gaussian(300 * np.exp(-0.5 * (T - 1.7) ** 2))
    values, normal = levenberg.minimise(evaluate, np.array([100.0, 0.5]), slice(1, 2), 40)
    np.testing.assert_allclose(values, [300, 1.7], rtol=1e-6)
    np.testing.assert_allclose(normal, evaluate(values)[1])


def test_no_solution_where_the_steps_are_too_few_or_none_helps():
    evaluate, start = of_gaussian(300 * np.exp(-0.5 * (T - 1.7) ** 2)), np.array([100.0, 0.5])
    assert levenberg.minimise(evaluate, start, slice(1, 2), 1) is None
    costs = iter(range(100))
    assert levenberg.minimise(lambda values: (next(costs), *evaluate(start)[1:]), start, slice(1, 2), 40) is None


def test_parameters_without_effect_do_not_move():
    step = levenberg.damped_step(np.diag([2.0, 0.0]), np.array([4.0, 0.0]), 0.0)
    np.testing.assert_array_equal(step, [2, 0])
