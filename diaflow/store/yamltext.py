"""YAML as it is written: the one reader of every YAML file that diaflow is given.

YAML 1.1, which PyYAML reads, makes other values of what people write: 0012 is 10, 12:30 is 750, 1e3 is text, yes, no,
on and off are truth values, 2024-01-05 is a date, and of two equal keys the first is forgotten.  Here digits are
decimal numbers as in the core schema of YAML 1.2.2 (section 10.3), what is no number, truth value or null is text, keys
are text, and a key that comes twice is refused.
"""

import math
import re

import yaml
from yaml.constructor import SafeConstructor
from yaml.cyaml import CParser
from yaml.resolver import BaseResolver

from diaflow.errors import InputError

_TAG = "tag:yaml.org,2002:"
_PLAIN = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?",
    "merge": r"<<",
}


class _Loader(CParser, SafeConstructor, BaseResolver):
    """A parser of PyYAML that knows only the values above."""

    yaml_implicit_resolvers: dict = {}
    yaml_constructors: dict = {None: SafeConstructor.construct_undefined}

    def __init__(self, text: str | bytes):
        CParser.__init__(self, text)
        SafeConstructor.__init__(self)
        BaseResolver.__init__(self)

    def integer(self, node: yaml.Node) -> int:
        text = self.construct_scalar(node)
        return int(text, 16 if "x" in text else 10)

    def number(self, node: yaml.Node) -> float:
        value = float(self.construct_scalar(node))
        if math.isinf(value):
            raise ValueError(f"{node.value} is too large")
        return value

    def entries(self, node: yaml.Node) -> list:
        # Not in two steps as in PyYAML: a list that holds itself is refused.
        return self.construct_sequence(node, deep=True)

    def mapping(self, node: yaml.MappingNode) -> dict:
        written = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(problem="a key must be text", problem_mark=key.start_mark)
            if key.value in written:
                problem = f"the key '{key.value}' comes twice"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            written.add(key.value)
        self.flatten_mapping(node)
        for key, _ in node.value:
            key.tag = _TAG + "str"
        return self.construct_mapping(node, deep=True)


for _kind, _pattern in _PLAIN.items():
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_pattern})$"), None)
for _kind, _construct in {
    "null": SafeConstructor.construct_yaml_null,
    "bool": SafeConstructor.construct_yaml_bool,
    "str": SafeConstructor.construct_yaml_str,
    "int": _Loader.integer,
    "float": _Loader.number,
    "seq": _Loader.entries,
    "map": _Loader.mapping,
}.items():
    _Loader.add_constructor(_TAG + _kind, _construct)


def load(text: str | bytes) -> object:
    """What a YAML text says.

    Parameters
    ----------
    text : str or bytes
        Bytes are UTF-8, or what their first ones say.

    Returns
    -------
    None, bool, int, float, str, list or dict with keys of text

    Raises
    ------
    InputError
        When it is not YAML, a key comes twice or a value is of another kind; the message has the line.
    """
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(f"line {mark.line + 1}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"not valid YAML ({' '.join(str(error).split())})") from None
    finally:
        if loader:
            loader.dispose()


def plain(text: str) -> object:
    """What a value without quotes says.

    Parameters
    ----------
    text : str

    Returns
    -------
    None, bool, int, float or str
    """
    loader = _Loader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    return loader.construct_object(yaml.ScalarNode(tag, text))
