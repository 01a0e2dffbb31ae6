"""PSF matching: the kernel K(x, y) that turns one image's PSF into another's (Alard & Lupton 1998; Alard 2000).

`basis` holds the functions the kernel is made of, `solution` the least-squares fit, `homogeneous` the matching to a
model PSF.
"""

__all__ = ["basis", "homogeneous", "solution"]
