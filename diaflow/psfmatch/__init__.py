"""PSF matching: the kernel K(x, y) that turns one image's PSF into another's (Alard & Lupton 1998; Alard 2000).

`basis` holds the functions the kernel is made of, `normal_equations` the algebra of the least-squares fit, `solution`
the fit to stars and which of them to believe, `homogeneous` the matching to a model PSF.
"""

__all__ = ["basis", "homogeneous", "normal_equations", "solution"]
