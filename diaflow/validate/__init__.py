"""How good a run on a simulated survey is: its products against the truth."""

__all__ = ["calibration", "scores"]
