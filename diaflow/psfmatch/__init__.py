"""PSF matching: the kernel K(x, y) that turns one image's PSF into another's (Alard & Lupton 1998; Alard 2000).

`basis` holds the functions the kernel is made of, `kernel_stars` what is taken from each star, `normal_equations` the
algebra of the least-squares fit, `solution` the fit and which stars to believe, `homogeneous` the matching to a model
PSF.
"""

__all__ = ["basis", "homogeneous", "kernel_stars", "normal_equations", "solution"]
