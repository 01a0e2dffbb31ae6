"""Forced photometry: the PSF flux at sky positions that are known, whether or not anything was detected there."""

__all__ = ["diffim", "positions"]
