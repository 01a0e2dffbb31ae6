"""How good a run on a simulated survey is: its products against the tables that the simulation wrote of the truth.

`comparison` reads both and measures at the true places; `difference_flux` says what a true source has left there,
`matching` which row is which.  `scores` gives the figures in short.  `scorecard` judges every class with errors
(`figures`) against the table of `bars`: `images` and `calibration`, `detections` and the theory of their `efficiency`,
`fluxes`, `positions`, `objects`, and, where there are Objects, `static_sky` with its `object_figures`.
"""

__all__ = [
    "bars",
    "calibration",
    "comparison",
    "detections",
    "difference_flux",
    "efficiency",
    "figures",
    "fluxes",
    "images",
    "matching",
    "moving",
    "object_figures",
    "objects",
    "positions",
    "scorecard",
    "scores",
    "static_sky",
]
