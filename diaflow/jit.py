"""How loops over pixels and sources are compiled by numba: ``@njit(**EXACT)``.

What is compiled is kept on disk.  numba takes it up again as long as the file of a function is as it was; here also the
files of the functions that it calls and the constants that it imports must be, for all of these are compiled into it.
"""

import hashlib
import sys
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
from numba import config
from numba.core import caching
from numba.core.dispatcher import Dispatcher

# Kept on disk, and as numpy does it: a division by zero gives infinity or NaN.
EXACT = {"cache": True, "error_model": "numpy"}
# Sums may be vectorised and products contracted; NaN and infinity keep their meaning.
FAST = EXACT | {"fastmath": {"contract", "reassoc", "nsz"}}
CONSTANTS = bool, int, float, complex, str, tuple  # of which the compiler takes the values, beside arrays


class _Stamped:
    """A place of compiled code that knows by what it was compiled from whether it is still that of the function."""

    def __init__(self, py_func: FunctionType, py_file: str):
        super().__init__(py_func, py_file)
        self._names = py_func.__globals__

    def get_source_stamp(self) -> str:
        return _digest(self._py_file, self._names)


class UserProvided(_Stamped, caching.UserProvidedCacheLocator):
    """In the folder that the user names."""


class InTree(_Stamped, caching.InTreeCacheLocator):
    """Beside the source."""


class UserWide(_Stamped, caching.UserWideCacheLocator):
    """In the user's folder of caches, where the source may not be written to."""


# In place of numba's of the same names; notebooks and archives have theirs.
config.CACHE_LOCATOR_CLASSES = ",".join(
    [f"{__name__}.{place.__name__}" for place in (UserProvided, InTree, UserWide)]
    + ["IPythonCacheLocator", "ZipCacheLocator"]
)


def _digest(file: str, names: dict) -> str:
    """Of a file, of the constants among its names, and of the modules whose compiled functions are."""
    parts, modules = [_contents(file)], set()
    for name, value in sorted(names.items()):
        if isinstance(value, Dispatcher):
            modules.add(value.py_func.__module__)
        elif isinstance(value, ModuleType):
            modules.add(value.__name__)
        elif isinstance(value, np.ndarray):
            parts.append(f"{name} {hashlib.sha256(value.tobytes()).hexdigest()}")
        elif isinstance(value, CONSTANTS) and not name.startswith("__"):
            parts.append(f"{name} {value!r}")
    parts += [_of_module(module) for module in sorted(modules - {names["__name__"]})]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@cache
def _of_module(name: str) -> str:
    """The digest of a module; empty for one that has no compiled function."""
    names = vars(sys.modules[name])
    return _digest(names["__file__"], names) if any(isinstance(v, Dispatcher) for v in names.values()) else ""


@cache
def _contents(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
