"""Figures of the static sky: completeness, false objects, fluxes, colours, classes, blends, light curves, empty sky."""

from itertools import combinations

import numpy as np
from scipy.special import xlogy

from diaflow.units import magnitude
from diaflow.validate.calibration import MIN_VISITS, REPEATABLE_SNR
from diaflow.validate.comparison import EMPTY
from diaflow.validate.efficiency import probability
from diaflow.validate.figures import FEWEST, Figure, fraction, pulls, weighted_bias
from diaflow.validate.matching import nearest
from diaflow.validate.static_sky import StaticSky

# True S/N from which fluxes, classes and colours are judged; between which pulls are: above, zero points matter.
BRIGHT, COLOUR_SNR = 50.0, 20.0
PULL_SNR = 10.0, 100.0
SNR_BINS = ((5.0, 10.0), (10.0, 20.0), (20.0, BRIGHT), (BRIGHT, np.inf))  # of classes
RESOLVED = 0.5  # half-light radius of the galaxies that can be told from stars [FWHM]
FALSE_MATCH = 1.5  # distance of a false Object from all that is there [FWHM of the broadest coadd], chosen
GALAXY_FLUXES = ("kronFlux", "gaap1p0Flux", "gaap1p5Flux")
FAINT = 50.0  # S/N up to which the pulls of light curves are judged: above, the zero points of images matter
# Pairs that are found where they are told apart at all: ratio and separation [FWHM], of the issue of static skies.
SEPARABLE = {1: 1.25, 3: 2.0}
OFFSETS = np.arange(-1.0, 1.0005, 0.005)  # of the depth from theory that are tried [mag]
LEAST = 1e-4  # probability of a detection or its absence: one confused source shall not decide


def figures(sky: StaticSky) -> list[Figure]:
    """All figures of the static sky.

    Parameters
    ----------
    sky : StaticSky

    Returns
    -------
    list of Figure
    """
    return [
        completeness(sky),
        false_objects(sky),
        *star_fluxes(sky),
        *colours(sky),
        *classes(sky),
        *blends(sky),
        *light_curves(sky),
        *empty_sky(sky),
    ]


def completeness(sky: StaticSky) -> Figure:
    """How much fainter than the matched filters of the bands say isolated stars are found: an offset of magnitudes.

    Theory is that a star is found that is above the threshold in any band; the offset is the one by which stars would
    have to be brighter to be found as they are, by their binomial likelihood.

    Parameters
    ----------
    sky : StaticSky

    Returns
    -------
    Figure
        [mag]
    """
    rows = sky.kind("star") & sky.alone & np.all([deep.clean for deep in sky.deep.values()], axis=0)
    found = sky.match[rows] >= 0
    snr = {band: values[rows] for band, values in sky.snr.items()}
    n = int(np.sum(np.max(list(snr.values()), axis=0) < 2 * sky.threshold)) if rows.any() else 0
    if n < FEWEST:
        return Figure("depth_offset", "", np.nan, np.nan, n)
    likelihood = np.array([likelihood_of(sky, snr, found, offset) for offset in OFFSETS])
    best = int(np.argmax(likelihood))
    # One standard error takes half a unit of the logarithm of the likelihood.
    near = OFFSETS[likelihood > likelihood[best] - 0.5]
    return Figure("depth_offset", "", float(OFFSETS[best]), float(np.ptp(near) / 2), n)


def likelihood_of(sky: StaticSky, snr: dict[str, np.ndarray], found: np.ndarray, offset: float) -> float:
    """Logarithm of the likelihood of what is found, if all stars are brighter than they are.

    Parameters
    ----------
    sky : StaticSky
    snr : dict of str to (n,) array
        S/N of the stars in each band.
    found : (n,) bool array
    offset : float
        By which they are brighter [mag].

    Returns
    -------
    float
    """
    missed = np.ones(len(found))
    for band, values in snr.items():
        width = np.full(len(found), sky.deep[band].fwhm_pixel)
        missed *= 1 - probability(values * 10 ** (0.4 * offset), width, sky.threshold)
    missed = np.clip(missed, LEAST, 1 - LEAST)
    return float(np.sum(xlogy(found, 1 - missed) + xlogy(~found, missed)))


def false_objects(sky: StaticSky) -> Figure:
    """Objects far from all that is there, beyond those that noise makes, over the number of all.

    Parameters
    ----------
    sky : StaticSky

    Returns
    -------
    Figure
    """
    radius = FALSE_MATCH * max(deep.fwhm for deep in sky.deep.values())
    everything = np.concatenate([sky.truth, sky.varying])
    n_false = int((nearest(sky.objects, everything)[0] > radius).sum())
    expected = sum(deep.noise_peaks for deep in sky.deep.values())
    total = len(sky.objects)
    if not total:
        return Figure("false_objects", "", np.nan, np.nan, 0)
    return Figure("false_objects", "", (n_false - expected) / total, np.sqrt(n_false + 1) / total, total)


def star_fluxes(sky: StaticSky) -> list[Figure]:
    """Bias of the PSF fluxes of isolated bright stars, and pulls of all that are seen well, by band.

    Parameters
    ----------
    sky : StaticSky

    Returns
    -------
    list of Figure
    """
    out = []
    for band, deep in sky.deep.items():
        flux, err = sky.measured(f"{band}_psfFlux"), sky.measured(f"{band}_psfFluxErr")
        rows = sky.kind("star") & sky.alone & deep.clean & np.isfinite(flux)
        bright = rows & (sky.snr[band] > BRIGHT)
        seen = rows & (sky.snr[band] > PULL_SNR[0]) & (sky.snr[band] < PULL_SNR[1])
        true = sky.flux[band]
        out.append(weighted_bias("object_flux_bias", f"stars in {band}", (flux / true)[bright], sky.snr[band][bright]))
        out += pulls("object_pull", f"stars in {band}", ((flux - true) / err)[seen])
    return out


def colours(sky: StaticSky) -> list[Figure]:
    """Mean error of the colours of isolated galaxies, for pairs of bands: of bands with different seeing.

    Parameters
    ----------
    sky : StaticSky

    Returns
    -------
    list of Figure
        [mag]
    """
    out = []
    galaxies = sky.kind("galaxy") & sky.alone
    for name in GALAXY_FLUXES:
        for bands in combinations(sky.deep, 2):
            (f1, e1), (f2, e2) = ((sky.measured(f"{b}_{name}"), sky.measured(f"{b}_{name}Err")) for b in bands)
            with np.errstate(invalid="ignore", divide="ignore"):
                rows = galaxies & sky.deep[bands[0]].clean & sky.deep[bands[1]].clean
                rows &= (f1 > COLOUR_SNR * e1) & (f2 > COLOUR_SNR * e2)
                off = magnitude(f1) - magnitude(f2) - (sky.truth[f"{bands[0]}_mag"] - sky.truth[f"{bands[1]}_mag"])
                snr = 1 / np.hypot(e1 / f1, e2 / f2)
            of = f"{name.removesuffix('Flux')} {bands[0]} - {bands[1]}"
            out.append(weighted_bias("object_colour_bias", of, 1 + off[rows], snr[rows]))
    return out


def classes(sky: StaticSky) -> list[Figure]:
    """Purity and completeness of Objects that are called stars, by S/N; and resolved galaxies that are not.

    Parameters
    ----------
    sky : StaticSky

    Returns
    -------
    list of Figure
    """
    out = []
    extended = sky.measured("refExtendedness")
    snr, width = np.full((2, len(sky.truth)), np.nan)
    reference = np.append(sky.objects["refBand"].astype(str), "")[sky.match]
    for band, deep in sky.deep.items():
        mine = reference == band
        snr[mine], width[mine] = sky.snr[band][mine], deep.fwhm
    radius = sky.truth["radius"] * np.sqrt(sky.truth["axisRatio"])
    known = np.isfinite(snr) & sky.alone
    star, resolved = sky.kind("star") & known, sky.kind("galaxy") & known & (radius > RESOLVED * width)
    for low, high in SNR_BINS:
        here = (snr > low) & (snr <= high)
        of = f"S/N > {low:g}" if np.isinf(high) else f"S/N {low:g} to {high:g}"
        called = here & (extended == 0) & (star | resolved)
        out.append(fraction("star_purity", of, int((called & star).sum()), int(called.sum())))
        out.append(fraction("star_completeness", of, int((called & star).sum()), int((here & star).sum())))
    return out


def blends(sky: StaticSky) -> list[Figure]:
    """Pairs of stars of which both are Objects, and the bias of the fluxes of those in the reference band.

    Parameters
    ----------
    sky : StaticSky

    Returns
    -------
    list of Figure
        By flux ratio, those that are far enough apart and those that are not; and for each separation.  Of each ratio
        the bias of a fit at the true places, too.
    """
    out = []
    ratio, separation, rows = pairs(sky)
    given, given_snr = _of_reddest(sky)
    found = (sky.match[rows] >= 0).all(axis=1)
    bias, snr = _reference_bias(sky)
    for whole in np.unique(ratio):
        limit = SEPARABLE.get(int(whole), np.inf)
        mine = ratio == whole
        all_stars = rows[mine].ravel()
        all_stars = all_stars[np.isfinite(given[all_stars])]
        out.append(weighted_bias("blend_given_bias", f"1:{whole}", 1 + given[all_stars], given_snr[all_stars]))
        groups = {f"1:{whole} from {limit:g} FWHM": mine & (separation >= limit)}
        groups[f"1:{whole} closer"] = mine & (separation < limit)
        for apart in np.unique(separation[mine]):
            groups[f"1:{whole} at {apart:.2f} FWHM"] = mine & (separation == apart)
        for of, chosen in groups.items():
            both = rows[chosen & found].ravel()
            both = both[np.isfinite(bias[both])]
            out.append(fraction("blends_found", of, int((chosen & found).sum()), int(chosen.sum())))
            out.append(weighted_bias("blend_flux_bias", of, 1 + bias[both], snr[both]))
    return out


def pairs(sky: StaticSky) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of stars.

    Parameters
    ----------
    sky : StaticSky

    Returns
    -------
    ratio : (n,) int array
        Of the fluxes, the brighter over the fainter.
    separation : (n,) array
        [FWHM of the sharpest coadd]
    rows : (n, 2) int array
        Of the brighter and the fainter in the truth.
    """
    truth = sky.truth
    fainter = np.flatnonzero(sky.kind("blend") & (truth["hostId"] > 0))
    order = np.argsort(truth["objectId"])
    brighter = order[np.searchsorted(truth["objectId"], truth["hostId"][fainter], sorter=order)]
    band = list(sky.deep)[-1]
    ratio = np.rint(sky.flux[band][brighter] / sky.flux[band][fainter]).astype(int)
    apart = 3600 * np.hypot(
        (truth["ra"][brighter] - truth["ra"][fainter]) * np.cos(np.radians(truth["dec"][fainter])),
        truth["dec"][brighter] - truth["dec"][fainter],
    )
    # Set separations come out the same, whatever the rounding of positions.
    separation = np.round(apart, 2) / min(deep.fwhm for deep in sky.deep.values())
    return ratio, separation, np.stack([brighter, fainter], 1)


def _reference_bias(sky: StaticSky) -> tuple[np.ndarray, np.ndarray]:
    """Relative error of the PSF flux of n objects in the reference band of each, and true S/N there."""
    bias, snr = np.full((2, len(sky.truth)), np.nan)
    reference = np.append(sky.objects["refBand"].astype(str), "")[sky.match]
    for band, deep in sky.deep.items():
        mine = (reference == band) & deep.clean
        bias[mine] = (sky.measured(f"{band}_psfFlux") / sky.flux[band] - 1)[mine]
        snr[mine] = sky.snr[band][mine]
    return bias, snr


def _of_reddest(sky: StaticSky) -> tuple[np.ndarray, np.ndarray]:
    """Relative error of the flux of n objects at given places in the last band, and true S/N there."""
    band, deep = list(sky.deep.items())[-1]
    return np.where(deep.clean, deep.given / sky.flux[band] - 1, np.nan), sky.snr[band]


def light_curves(sky: StaticSky) -> list[Figure]:
    """Scatter of bright constant stars over the visits (PA1) by band, and pulls of the fluxes of fainter ones.

    Parameters
    ----------
    sky : StaticSky

    Returns
    -------
    list of Figure
    """
    steady = sky.kind("star") & sky.alone & (sky.match >= 0) & (nearest(sky.truth, sky.varying)[0] > EMPTY)
    stars = np.flatnonzero(steady)
    by_id = dict(zip(sky.objects["objectId"][sky.match[stars]].tolist(), stars.tolist()))
    star = np.array([by_id.get(object_id, -1) for object_id in sky.forced["objectId"].tolist()], int)
    forced = sky.forced
    good = (star >= 0) & ~forced["psfFlux_flag"] & ~forced["pixelFlags"] & np.isfinite(forced["psfFlux"])
    out = []
    for band in sky.deep:
        rows = np.flatnonzero(good & (forced["band"] == band))
        flux, err, which = forced["psfFlux"][rows].astype(float), forced["psfFluxErr"][rows].astype(float), star[rows]
        snr = sky.flux[band][which] / err
        scatter = [
            np.std(magnitude(flux[which == one]), ddof=1)
            for one in np.unique(which[snr > REPEATABLE_SNR])
            if (which == one).sum() >= MIN_VISITS and (snr[which == one] > REPEATABLE_SNR).all()
        ]
        out.append(_median("object_repeatability", band, np.array(scatter)))
        faint = snr < FAINT
        out += pulls("object_forced_pull", band, ((flux - sky.flux[band][which]) / err)[faint])
    return out


def empty_sky(sky: StaticSky) -> list[Figure]:
    """Pulls of fluxes at places without an object on the deep coadds, by band and kind of flux.

    Parameters
    ----------
    sky : StaticSky

    Returns
    -------
    list of Figure
    """
    return [
        figure
        for band, deep in sky.deep.items()
        for name, values in deep.sky_pulls.items()
        for figure in pulls("coadd_sky_pull", f"{name}, {band}", values)
    ]


def _median(name: str, of: str, values: np.ndarray) -> Figure:
    """The median of positive values, with its error from their own scatter."""
    n = len(values)
    if n < FEWEST:
        return Figure(name, of, np.nan, np.nan, n)
    low, high = np.percentile(values, [50 - 50 / np.sqrt(n), 50 + 50 / np.sqrt(n)])
    return Figure(name, of, float(np.median(values)), float((high - low) / 2), n)
