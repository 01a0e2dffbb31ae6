"""Forced photometry: the PSF flux at given sky positions, whether or not anything was detected there."""

__all__ = ["diffim", "positions"]
