"""The methods of a room of the library: listed without being loaded, loaded by name.

A file of the room is a method when it has a literal ``OPTIONS = {...}`` before its first function: the keys of the
configuration that only this method uses, as parts of the schema (an empty dictionary where there are none).  The name
of the method is that of the file, and the first line of the file's docstring says what the method is.
"""

import ast
import functools
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from diaflow.errors import InputError

LIBRARY = Path(__file__).parent.parent
# Python is parsed up to here alone: whole files would take 50 ms of every start of the workflow.
FIRST_DEFINITION = re.compile(r"^(?:@\w|class \w+[:(]|def \w+\()", re.MULTILINE)


@dataclass(frozen=True)
class Method:
    """What a file says of its method.

    Attributes
    ----------
    name, module : str
        ``simple`` and ``diaflow.associate.simple``, for example.
    summary : str
        First line of the docstring.
    options : dict of str to dict
        For each key of the configuration that belongs to the method, the part of the schema that describes it.
    """

    name: str
    module: str
    summary: str
    options: dict[str, dict]


@functools.cache
def listed(room: str) -> dict[str, Method]:
    """The methods of a room by name, in alphabetical order.

    Parameters
    ----------
    room : str
        ``associate`` or ``sky.skymap``, for example.

    Returns
    -------
    dict of str to Method

    Raises
    ------
    InputError
        When the declaration of a file cannot be read; the message names the file.
    """
    folder = LIBRARY.joinpath(*room.split("."))
    found = {}
    for path in sorted(folder.glob("*.py")):
        text = path.read_text()
        if "\nOPTIONS" in text:
            found[path.stem] = Method(path.stem, f"diaflow.{room}.{path.stem}", *_declared(path, text))
    return found


def load(room: str, name: str) -> ModuleType:
    """Import the module of a method.

    Parameters
    ----------
    room, name : str
        ``associate`` and ``simple``, for example.

    Returns
    -------
    module
        With the function that the room asks of its methods.

    Raises
    ------
    InputError
        When the room has no method of this name.
    """
    if name not in listed(room):
        raise InputError(f"{room}: no method {name!r} among {', '.join(listed(room))}")
    return importlib.import_module(listed(room)[name].module)


def _declared(path: Path, text: str) -> tuple[str, dict[str, dict]]:
    """First line of the docstring, and the options."""
    try:
        head = ast.parse(FIRST_DEFINITION.split(text, maxsplit=1)[0])
        assigned = [node for node in head.body if isinstance(node, ast.Assign)]
        options = next(ast.literal_eval(node.value) for node in assigned if ast.unparse(node.targets[0]) == "OPTIONS")
    except (SyntaxError, ValueError, StopIteration) as error:
        raise InputError(f"{path}: OPTIONS is not a literal dictionary before the first function") from error
    return (ast.get_docstring(head) or "").partition("\n")[0], options
