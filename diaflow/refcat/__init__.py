"""Reference catalogues: any table of stars, brought once into one that is sorted on the sky and read in parts.

In comes the `refcat` section of the configuration, which names the files and their columns.  `convert` streams the
files (`formats`), brings the columns to AB magnitudes and degrees (`standard`) and writes them in the order of their
HEALPix pixels (`store`); `store.stars_around` reads the stars around one image, moved to its date.
`positions` reads tables of the user's that are no catalogues of stars: where to measure, what is known.
"""

__all__ = [
    "astropymeta",
    "columns",
    "convert",
    "formats",
    "identifiers",
    "positions",
    "standard",
    "store",
    "textfiles",
]
