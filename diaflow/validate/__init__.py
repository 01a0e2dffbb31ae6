"""How good a run on a simulated survey is: its products against the tables that the simulation wrote of the truth.

`scores` judges differences, DIASources and light curves, and puts all figures together; `difference_flux`
says what a true source has left there; `calibration` judges calexps.
"""

__all__ = ["calibration", "difference_flux", "scores"]
