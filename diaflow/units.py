"""Units: the AB magnitude system in nanojansky, and small angles."""

import numpy as np

NANOJANSKY_ZERO_POINT = 31.4  # AB magnitude of 1 nJy: 8.90 + 2.5 log10(1e9), Oke & Gunn 1983 as LSST rounds it
ARCSEC = np.pi / 180 / 3600  # [rad]
ARCSEC_PER_DEGREE = 3600.0
MAS_PER_DEGREE = 3.6e6
