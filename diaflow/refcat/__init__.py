"""Reference catalogues: any table of stars, brought once into one that is sorted on the sky and read in parts.

In comes the `refcat` section of the configuration, which names the files and their columns.  `convert` streams the
files (`formats.py`), brings the columns to AB magnitudes and degrees (`standard.py`) and writes them in the order of
their HEALPix pixels (`store.py`); `around` gives a "refcat" table of the stars around one image, at its date.
"""

from diaflow.refcat.convert import check, convert
from diaflow.refcat.formats import paths
from diaflow.refcat.store import around, read

__all__ = ["around", "check", "convert", "paths", "read"]
