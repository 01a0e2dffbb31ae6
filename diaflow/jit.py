"""How loops over pixels and sources are compiled by numba: ``@njit(**EXACT)``."""

# Kept on disk, and as numpy does it: a division by zero gives infinity or NaN.
EXACT = {"cache": True, "error_model": "numpy"}
# Sums may be vectorised and products contracted; NaN and infinity keep their meaning.
FAST = EXACT | {"fastmath": {"contract", "reassoc", "nsz"}}
