"""Instrument signature: raw frames to flat-fielded images in DN with variance, mask and repaired pixels.

`assemble` puts amplifiers together, `masters` makes bias, dark and flat, `signature` removes them; `detrend` takes what
they make, or images that came flat-fielded, to an exposure.
"""

__all__ = [
    "assemble",
    "detrend",
    "filled",
    "flaws",
    "image_files",
    "masters",
    "noise",
    "repair",
    "saturation",
    "signature",
]
