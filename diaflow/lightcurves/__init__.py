"""Light curves for other programs: what each of them reads, with all that it needs to know about the fluxes.

A format is a file here with `OPTIONS`, `HAS_FLAGS` (does a row say what is wrong with it?) and
``write(curves, folder, options)``; which rows there are is the same for all (`curves`).  `ades` is
for tracklets.
"""

__all__ = ["ades", "bands", "csv", "curves", "fits", "hats", "nested_parquet", "sncosmo", "snana", "tns", "votable"]
