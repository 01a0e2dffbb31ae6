"""What each figure is called and which bar it has to meet: the one table of both."""

from dataclasses import dataclass

import numpy as np

from diaflow.validate.figures import Figure

SIGMAS = 3.0  # standard errors that a figure may be off where that is more than its bar
ROUNDING = 1e-9  # of a bar: 0.95 of the images are enough

DESCRIPTIONS = {
    "images_ok": "fraction of the images that are there",
    "efficiency_half": "S/N of 50 % efficiency of probes",
    "efficiency_plateau": "efficiency at high S/N of probes",
    "completeness_over_theory": "found at S/N > 6, over the sum of the theoretical curve",
    "false_sources": "unflagged false sources per square degree and image",
    "forced_pull_median": "forced flux, (measured - true) / error: median",
    "forced_pull_width": "forced flux, (measured - true) / error: robust width",
    "forced_bias": "forced flux at S/N > 20, measured / true - 1: weighted mean",
    "detected_pull_median": "flux of DIASources at S/N > 20, (measured - true) / error: median",
    "detected_pull_width": "flux of DIASources at S/N > 20, (measured - true) / error: robust width",
    "detected_bias": "flux of DIASources at S/N > 20, measured / true - 1: weighted mean",
    "position_error": "position error per coordinate over sqrt(2) sigma / (S/N)",
    "object_purity": "fraction of DIAObjects with two sources or more that are one true object",
    "objects_split": "true objects in several DIAObjects with two sources or more, blends apart",
    "objects_merged": "DIAObjects with two sources or more of several true objects, blends apart",
    "close_pairs": "pairs closer than the association radius",
    "tracklets_linked": "asteroids detected three times in a night or more whose sources are linked",
    "tracklets_false": "tracklets that are not of one asteroid, per field and night",
    "zero_point_rms": "error of the zero point: rms over images [mag]",
    "star_flux_rms": "mean error of the stars' PSF magnitudes in an image: rms over images [mag]",
    "position_pull_median": "flux at positions of the user's choice, (measured - true) / error: median",
    "position_pull_width": "flux at positions of the user's choice, (measured - true) / error: robust width",
    "repeatability": "scatter of a bright star's magnitudes over the visits (PA1) [mag]",
    "wcs_rms": "error of the WCS per coordinate, bright stars: rms over images [mas]",
    "fwhm_rms": "FWHM of the PSF over its true full width at half maximum - 1: rms over images",
    "depth_offset": "isolated stars, how much fainter than theory they are found on deep coadds [mag]",
    "false_objects": "Objects at nothing beyond the peaks of noise, over all",
    "object_flux_bias": "PSF flux of Objects at S/N > 50, measured / true - 1: weighted mean",
    "object_pull_median": "PSF flux of Objects at S/N 10 to 100, (measured - true) / error: median",
    "object_pull_width": "PSF flux of Objects at S/N 10 to 100, (measured - true) / error: robust width",
    "object_colour_bias": "colour of galaxies at S/N > 20, measured - true: weighted mean [mag]",
    "star_purity": "fraction of point-like Objects that are stars, not galaxies wider than half the seeing",
    "star_completeness": "fraction of the stars among Objects that are point-like",
    "blends_found": "fraction of pairs of stars of which both are Objects",
    "blend_flux_bias": "PSF flux of both stars of a pair, measured / true - 1: weighted mean",
    "blend_given_bias": "flux of both stars of a pair in a joint fit at their true places, measured / true - 1: mean",
    "object_repeatability": "scatter of a bright Object's magnitudes over the visits (PA1) [mag]",
    "object_forced_pull_median": "forced flux of Objects at S/N < 50, (measured - true) / error: median",
    "object_forced_pull_width": "forced flux of Objects at S/N < 50, (measured - true) / error: robust width",
    "coadd_sky_pull_median": "flux at empty places of deep coadds over its error: median",
    "coadd_sky_pull_width": "flux at empty places of deep coadds over its error: robust width",
}


@dataclass(frozen=True)
class Bar:
    """How far a figure may be from its target.

    Attributes
    ----------
    figure : str
        Name of the figure.
    of : tuple of str
        Classes that have the bar; all where it is empty.
    side : str
        Which side of the target counts: "above", "below" or "both".
    target : float or None
        None for what theory expects.
    tolerance : float
    share : float
        Of what theory expects, added to the tolerance.
    """

    figure: str
    of: tuple[str, ...]
    side: str
    target: float | None
    tolerance: float
    share: float = 0.0

    def allowed(self, figure: Figure) -> float:
        """How far a figure may be from the target: the bar, or three standard errors where that is larger.

        Parameters
        ----------
        figure : Figure

        Returns
        -------
        float
        """
        return max(self._tolerance(figure), SIGMAS * np.nan_to_num(figure.error, nan=0.0))

    def met(self, figure: Figure) -> bool:
        """Whether a figure meets the bar.

        Parameters
        ----------
        figure : Figure

        Returns
        -------
        bool
            NaN meets none.
        """
        off = figure.value - self._target(figure)
        off = {"above": off, "below": -off, "both": abs(off)}[self.side]
        return bool(off <= self.allowed(figure) * (1 + ROUNDING))

    def text(self, figure: Figure) -> str:
        """The bar in figures, without the standard errors.

        Parameters
        ----------
        figure : Figure

        Returns
        -------
        str
            Such as "<= 0.005", ">= 0.95" or "4.87 +- 0.15".
        """
        target, tolerance = self._target(figure), self._tolerance(figure)
        if self.side == "both":
            return f"{target:.4g} ± {tolerance:.3g}"
        return f"≤ {target + tolerance:.4g}" if self.side == "above" else f"≥ {target - tolerance:.4g}"

    def _target(self, figure: Figure) -> float:
        return figure.expected if self.target is None else self.target

    def _tolerance(self, figure: Figure) -> float:
        return self.tolerance + (self.share * figure.expected if self.share else 0.0)


BARS = (
    Bar("images_ok", (), "below", 1.0, 0.05),
    Bar("efficiency_half", ("sky",), "both", None, 0.15),
    Bar("completeness_over_theory", ("unmasked",), "below", 1.0, 0.02),
    Bar("completeness_over_theory", ("usable",), "below", 1.0, 0.05),
    Bar("false_sources", ("all",), "above", 0.0, 20.0, share=1.5),
    Bar("forced_pull_median", (), "both", 0.0, 0.1),
    Bar("forced_pull_width", (), "both", 1.0, 0.1),
    Bar("forced_bias", (), "both", 0.0, 0.002),
    Bar("detected_pull_median", (), "both", 0.0, 0.1),
    Bar("detected_pull_width", (), "both", 1.0, 0.1),
    Bar("detected_bias", (), "both", 0.0, 0.002),
    Bar("position_error", (), "above", 1.0, 0.2),
    Bar("object_purity", (), "below", 1.0, 0.05),
    Bar("objects_split", (), "above", 0.0, 0.0),
    Bar("objects_merged", (), "above", 0.0, 0.0),
    Bar("close_pairs", (), "above", 0.0, 0.0),
    Bar("tracklets_linked", (), "below", 1.0, 0.1),
    Bar("tracklets_false", (), "above", 0.0, 1.0),
    Bar("position_pull_median", (), "both", 0.0, 0.05),
    Bar("position_pull_width", (), "both", 1.0, 0.05),
    Bar("zero_point_rms", (), "above", 0.0, 0.005),
    Bar("star_flux_rms", (), "above", 0.0, 0.003),
    Bar("wcs_rms", (), "above", 0.0, 0.0, share=10.0),
    Bar("fwhm_rms", (), "above", 0.0, 0.02),
    Bar("depth_offset", (), "both", 0.0, 0.1),
    Bar("false_objects", (), "above", 0.0, 0.05),
    Bar("object_flux_bias", (), "both", 0.0, 0.003),
    Bar("object_pull_width", (), "above", 1.0, 0.1),
    Bar("object_colour_bias", (), "both", 0.0, 0.01),
    Bar("star_purity", ("S/N > 50",), "below", 1.0, 0.05),
    Bar("star_completeness", ("S/N > 50",), "below", 1.0, 0.1),
    Bar("blends_found", ("1:1 from 1.25 FWHM", "1:3 from 2 FWHM"), "below", 1.0, 0.05),
    Bar("blend_flux_bias", ("1:1 from 1.25 FWHM", "1:3 from 2 FWHM"), "both", 0.0, 0.02),
    Bar("blend_given_bias", (), "both", 0.0, 0.02),
    Bar("object_repeatability", (), "above", 0.0, 0.005),
    Bar("object_forced_pull_width", (), "both", 1.0, 0.05),
    Bar("coadd_sky_pull_width", (), "both", 1.0, 0.05),
)


def bar_of(figure: Figure) -> Bar | None:
    """The bar of a figure.

    Parameters
    ----------
    figure : Figure

    Returns
    -------
    Bar or None
        None where it has none.
    """
    return next((bar for bar in BARS if bar.figure == figure.name and (not bar.of or figure.of in bar.of)), None)
