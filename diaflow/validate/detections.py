"""What is detected of what is true, and what is detected where nothing is.

A true source is found when an unflagged DIASource of its sign is near it, in the same image: within two pixels, or 1.5
pixels and three standard deviations of a centroid.  An unflagged DIASource near no true source is false; its kind is
the first that fits of `KINDS`.
"""

import numpy as np

from diaflow.units import NANOJANSKY_ZERO_POINT
from diaflow.validate import efficiency
from diaflow.validate.comparison import Comparison
from diaflow.validate.figures import Figure
from diaflow.validate.matching import nearest, rows_of_image

PLACES = ("sky", "galaxy", "star")  # of probes
COMPLETE_SNR, REAL_SNR = 6.0, 3.0  # S/N above which sources must be found, and from which a detection is real, chosen
MATCH_PIXELS, CENTROID_PIXELS, CENTROID_SIGMAS = 2.0, 1.5, 3.0  # of a detection from its source
FALSE_MATCH = 1.5  # least distance of a false detection from any source [arcsec], chosen
UNKNOWN = (np.nan, np.nan)
KINDS = {
    "dipole": "flagged as a star at two places",
    "mover": "negative, where an asteroid was in a template visit",
    "edge": "near the edge of the image or missing pixels",
    "track": "touches a cosmic ray or streak, or is sharper than the PSF",
    "star": "near a star",
    "galaxy": "near a galaxy",
    "source": "beside a true source",
    "noise": "none of these",
}
# Chosen: distance from an edge [pixel]; distance from a star, galaxy or true source [FWHM]; S/N in one image from which
# a star or galaxy leaves residuals; area of a source over that of the PSF below which it is sharp, and chi-squared of
# the PSF fit above its expectation [standard deviation] that it then has.
EDGE, NEAR, STATIC_SNR, SHARP, SHARP_SIGMAS = 10.0, 2.0, 50.0, 0.6, 5.0


def match_radius(run: Comparison) -> np.ndarray:
    """How far the DIASource of a true source may be.

    Parameters
    ----------
    run : Comparison

    Returns
    -------
    (n,) array
        For each row of the truth [arcsec]; NaN where there is no difference image.
    """
    with np.errstate(invalid="ignore"):
        error = np.sqrt(2) * run.truth_major / np.fmax(np.abs(run.snr), REAL_SNR)
        pixels = np.fmax(MATCH_PIXELS, CENTROID_PIXELS + CENTROID_SIGMAS * error)
    return pixels * run.of_image("pixel_scale", run.truth)


def matches(run: Comparison) -> np.ndarray:
    """The DIASource of each true source.

    Parameters
    ----------
    run : Comparison

    Returns
    -------
    (n,) int array
        For each row of the truth the nearest unflagged DIASource of its image and sign; -1 for none.
    """
    out = np.full(len(run.truth), -1)
    radius = match_radius(run)
    for sign in (-1, 1):
        rows = np.flatnonzero(np.sign(run.expected) == sign)
        sources = np.flatnonzero(~run.sources["pixelFlags"] & (np.sign(run.sources["psfFlux"]) == sign))
        distance, index = nearest(run.truth[rows], run.sources[sources], by_image=True)
        near = distance < radius[rows]
        out[rows[near]] = sources[index[near]]
    return out


def efficiencies(run: Comparison, found: np.ndarray, threshold: float) -> list[Figure]:
    """S/N of 50 % efficiency of the probes in each kind of place, beside its theory.

    Parameters
    ----------
    run : Comparison
    found : (n,) bool array
        Rows of the truth.
    threshold : float
        Of the detection [sigma].

    Returns
    -------
    list of Figure
        Of the places where the truth has probes: the S/N, and the plateau of the curve.
    """
    out = []
    for place in PLACES:
        probes = (run.kind == "probe") & (run.of_truth["place"] == place)
        if not probes.any():
            continue
        judged = probes & run.usable & np.isfinite(run.snr)
        curve = efficiency.fit(np.abs(run.snr[judged]), found[judged])
        theory = efficiency.expected_half(run.truth_fwhm[judged], threshold)
        half, plateau = (curve.half(), curve.top()) if curve else (UNKNOWN, UNKNOWN)
        out.append(Figure("efficiency_half", place, *half, int(judged.sum()), theory))
        out.append(Figure("efficiency_plateau", place, *plateau, int(judged.sum()), 1.0))
    return out


def completeness(run: Comparison, found: np.ndarray, threshold: float) -> list[Figure]:
    """Sources found above `COMPLETE_SNR` over the sum of their theoretical probabilities.

    Parameters
    ----------
    run : Comparison
    found : (n,) bool array
        Rows of the truth.
    threshold : float
        Of the detection [sigma].

    Returns
    -------
    list of Figure
        Of unmasked places and of all with usable central pixels.
    """
    snr = np.abs(run.snr)
    theory = efficiency.probability(snr, run.truth_fwhm, threshold)
    out = []
    for where, judged in (("unmasked", run.unmasked), ("usable", run.usable)):
        with np.errstate(invalid="ignore"):
            rows = judged & (snr > COMPLETE_SNR) & np.isfinite(theory)
        n, expected = int(rows.sum()), theory[rows].sum()
        value = found[rows].sum() / expected if n else np.nan
        missing = theory[rows] * (1 - theory[rows])
        # Binomial, with one more miss than there was.
        lost = max(missing.sum(), (~found[rows]).sum()) + 1
        out.append(Figure("completeness_over_theory", where, value, np.sqrt(lost) / expected if n else np.nan, n, 1.0))
    return out


def false_kinds(run: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """The unflagged DIASources at no true source, and of which kind they are.

    Parameters
    ----------
    run : Comparison

    Returns
    -------
    rows : (m,) int array
        Of the DIASources.
    kinds : (m,) array of str
        Of `KINDS`.
    """
    with np.errstate(invalid="ignore"):
        real = (run.expected != 0) & ~(np.abs(run.snr) <= REAL_SNR)
    radius = np.fmax(match_radius(run)[real], FALSE_MATCH)
    unflagged = np.flatnonzero(~run.sources["pixelFlags"])
    distance, index = nearest(run.sources[unflagged], run.truth[real], by_image=True)
    beyond = ~(distance < np.append(radius, 0)[np.minimum(index, len(radius))])
    rows, distance = unflagged[beyond], distance[beyond]
    sources = run.sources[rows]
    reach = NEAR * run.of_image("fwhm", sources) * run.of_image("pixel_scale", sources)
    area = (sources["ixx"] + sources["iyy"]) / (sources["ixxPSF"] + sources["iyyPSF"])
    n_pixels = np.maximum(sources["psfNdata"], 1)
    bad_fit = sources["psfChi2"] > n_pixels + SHARP_SIGMAS * np.sqrt(2 * n_pixels)
    star, galaxy = (_near_static(run, sources, kind, reach) for kind in ("star", "galaxy"))
    tests = {
        "dipole": sources["isDipole"],
        "mover": (sources["psfFlux"] < 0)
        & (nearest(sources, _movers_of_templates(run))[0] < np.fmax(reach, FALSE_MATCH)),
        "edge": run.to_edge[rows] < EDGE,
        "track": sources["pixelFlags_cr"] | sources["pixelFlags_streak"] | ((area < SHARP) & bad_fit),
        "star": star,
        "galaxy": galaxy,
        "source": distance < reach,
    }
    kinds = np.select(list(tests.values()), list(tests), "noise") if len(rows) else np.zeros(0, str)
    return rows, kinds


def false_sources(run: Comparison, kinds: np.ndarray) -> list[Figure]:
    """False sources per square degree and image, beside the number that noise alone gives.

    Parameters
    ----------
    run : Comparison
    kinds : (m,) array of str
        Of the false sources, from `false_kinds`.

    Returns
    -------
    list of Figure
        Of all together and of each kind.
    """
    area, noise = run.images["area"].sum(), run.images["noise"].sum()
    if not area:
        return [Figure("false_sources", "all", np.nan, np.nan, 0)]
    counts = {"all": len(kinds), **{kind: int((kinds == kind).sum()) for kind in KINDS}}
    return [
        Figure("false_sources", kind, n / area, np.sqrt(n) / area, n, noise / area if kind in ("all", "noise") else 0.0)
        for kind, n in counts.items()
    ]


def _movers_of_templates(run: Comparison) -> np.ndarray:
    """Rows of the truth of asteroids in visits that a template is made of."""
    visits = {source.visit for template in run.templates for source in template.inputs}
    return run.truth[(run.kind == "asteroid") & np.isin(run.truth["visit"], list(visits))]


def _near_static(run: Comparison, sources: np.ndarray, kind: str, reach: np.ndarray) -> np.ndarray:
    """Which sources are near a bright star or galaxy of their image: within their reach [arcsec] or its own radius."""
    near = np.zeros(len(sources), bool)
    static = run.objects[run.objects["type"] == kind]
    bands = dict(zip(run.truth_images["visit"].tolist(), run.truth_images["band"]))
    for image in run.images:
        mine = np.flatnonzero(rows_of_image(sources, image["visit"], image["detector"]))
        flux = 10 ** (-0.4 * (static[f"{bands[int(image['visit'])]}_mag"] - NANOJANSKY_ZERO_POINT))
        bright = static[flux > STATIC_SNR * image["error"]]
        distance, index = nearest(sources[mine], bright)
        if len(bright):
            near[mine] = distance < np.maximum(reach[mine], NEAR * bright["radius"][index])
    return near
