"""The static sky as a catalogue: objects of coadds in several bands, detected, deblended and measured (LSST's Object).

`detection` finds peaks in each band, `merge` makes one list of them, `deblend` shares the pixels of a footprint out to
its peaks (`blends`) by their `templates`, which `symmetry` makes.  `sky` is the level between them.  `measure` measures
each, `neighbours` are stars of the reference catalogue; `objects` is the chain for a patch.
"""

__all__ = [
    "blends",
    "deblend",
    "detection",
    "measure",
    "merge",
    "neighbours",
    "objects",
    "sky",
    "symmetry",
    "templates",
]
