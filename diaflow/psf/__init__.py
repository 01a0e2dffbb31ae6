"""How point-spread functions are represented and evaluated; `diaflow.calibrate` fits them.

`StampField` is a polynomial in position, `StampGrid` is bilinear between nodes, `CoaddPsf` the weighted mean of its
inputs' PSFs.
"""

__all__ = ["coadd", "grid", "stampfield"]
