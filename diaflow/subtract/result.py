"""What a subtraction gives, whichever algorithm made it."""

from dataclasses import dataclass

import numpy as np

from diaflow.image.exposure import Exposure


@dataclass(frozen=True)
class Difference:
    """A difference image and how it came about.

    Attributes
    ----------
    exposure : Exposure
        Science minus matched template, of white noise, with the variance plane, the errors of fluxes that are no noise
        and the unit-sum PSF (`StampField`) that belong to it, in the photometric scale of the science image [nJy].
    matched_template : Exposure
        The template as it was subtracted, on the same pixels.
    stars : (2, n) array
        x and y of the stars that the match rests on [pixel].
    figures : dict
        Columns of table "diffim_summary" that the subtraction knows, by name.
    """

    exposure: Exposure
    matched_template: Exposure
    stars: np.ndarray
    figures: dict[str, float | int | str | bool]
