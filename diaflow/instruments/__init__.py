"""Instruments: from image files of any camera to rows of the exposure table, and to pixels.

One YAML map per camera, beside this file, says which header keys hold what (`translate` has the rules).
"""

__all__ = [
    "columns",
    "companions",
    "delivered",
    "fits_files",
    "headers",
    "images",
    "ingest",
    "maps",
    "pointing",
    "raw",
    "times",
    "translate",
]
