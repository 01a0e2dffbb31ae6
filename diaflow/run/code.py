"""Which code a product depends on: the files that a script loads, each by a digest of what it does.

In comes a script and the methods that the configuration chooses; out go the script, the modules of the library that it
imports, directly or by way of others, the schemas of the tables that these name, and the versions of the numerical
packages.  Nothing is imported: files are parsed, and what was found in a file is kept until the file changes.
Comments, docstrings and formatting are no part of a digest; names, numbers and their order are.
"""

import ast
import functools
import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from diaflow.errors import InputError
from diaflow.store.files import write_text
from diaflow.store.provenance import LENGTH, PACKAGE, digest

REPOSITORY = Path(__file__).parent.parent.parent
SCHEMAS = Path(PACKAGE, "store", "schemas")  # of the tables, in the checkout
# Packages whose results may differ in the last digits, or more, from one minor version to the next.
NUMERICAL = ("astropy", "numba", "numpy", "scipy", "sep")
# What carries a script and touches no number: start, log, atomic files, choice of methods, records.  Their changes make
# nothing stale.
NEUTRAL = frozenset(
    {
        "errors.py",
        "run/code.py",
        "run/config.py",
        "run/job.py",
        "run/methods.py",
        "run/usage.py",
        "store/files.py",
        "store/provenance.py",
    }
)
# Assignments that change no product: lists of names, and parts of the configuration's schema, whose values reach
# scripts as parameters.
LISTS = frozenset({"__all__", "OPTIONS"})


@dataclass(frozen=True)
class Source:
    """What a file of Python is and asks for.

    Attributes
    ----------
    digest : str
        Of its syntax tree without docstrings.
    imports : list of str
        Modules that it may import, in full: ``from a import b`` may be ``a.b``.
    rooms : list of str
        Rooms of which it loads a method by name.
    tables : list of str
        Tables that it names.
    """

    digest: str
    imports: list[str]
    rooms: list[str]
    tables: list[str]


class Code:
    """The code of a checkout as it is now.

    Parameters
    ----------
    methods : dict of str to str
        By room, the method that the configuration chooses.
    cache : path, optional
        File of what was found in files that have not changed since; it is read and renewed.
    root : path
        The checkout.

    Attributes
    ----------
    known : dict of str to dict
        The parts behind each digest that was asked for.
    """

    def __init__(self, methods: Mapping[str, str], cache: Path | None = None, root: Path = REPOSITORY):
        self.methods, self.root, self._path = dict(methods), root, cache
        self._cache: dict[str, list] = _read_json(cache) if cache else {}
        self._fresh = False
        self._sources: dict[Path, Source] = {}
        self._parts: dict[tuple, dict[str, str]] = {}
        self.known: dict[str, dict[str, str]] = {}

    def parts(self, script: str, **chosen: str) -> dict[str, str]:
        """What a script consists of.

        Parameters
        ----------
        script : str
            Name of a file in ``scripts``, without its suffix.
        **chosen : str
            By room, the method of a job where the configuration lists several.

        Returns
        -------
        dict of str to str
            Digests by path in the checkout, in alphabetical order; versions by the name of the package.
        """
        key = (script, *sorted(chosen.items()))
        if key not in self._parts:
            self._parts[key] = dict(sorted(self._found(script, self.methods | chosen)))
            self._keep()
        return self._parts[key]

    def digest(self, script: str, **chosen: str) -> str:
        """One word for all parts of a script.

        Parameters
        ----------
        script, **chosen : str
            As in `parts`.

        Returns
        -------
        str
        """
        parts = self.parts(script, **chosen)
        word = digest(repr(parts))
        self.known[word] = parts
        return word

    def _found(self, script: str, methods: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        path = self.root / "scripts" / f"{script}.py"
        first = self._source(path)
        yield f"scripts/{script}.py", first.digest
        seen: set[str] = set()
        packages: set[str] = set()
        tables = set(first.tables)
        wanted = [*_asked_for(first, methods)]
        while wanted:
            name = wanted.pop()
            if name in seen:
                continue
            seen.add(name)
            module = self._file(name)
            if module is None:
                packages.add(name.partition(".")[0])
                continue
            part = module.relative_to(self.root / PACKAGE).as_posix()
            if part not in NEUTRAL:
                source = self._source(module)
                if source.digest != EMPTY:
                    yield part, source.digest
                tables |= set(source.tables)
                wanted += _asked_for(source, methods)
        for name in tables:
            yield f"store/schemas/{name}.yaml", digest((self.root / SCHEMAS / f"{name}.yaml").read_bytes())
        yield from ((name, versions()[name]) for name in packages & versions().keys())

    def _file(self, name: str) -> Path | None:
        """The file of a module of the library; None of others, and of what is no module but a name in one."""
        if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
            return None
        path = self.root.joinpath(*name.split("."))
        return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file in self._files), None)

    @functools.cached_property
    def _files(self) -> frozenset[Path]:
        return frozenset((self.root / PACKAGE).rglob("*.py"))

    def _source(self, path: Path) -> Source:
        """What a file is and asks for, as it was found before where it has not changed since."""
        if path not in self._sources:
            state = path.stat()
            # A file may name a table that there was not yet.
            key = [state.st_size, state.st_mtime_ns, self._names_of_tables]
            known = self._cache.get(str(path))
            if known is None or known[0] != key:
                known = self._cache[str(path)] = [key, asdict(source_of(path, self._tables))]
                self._fresh = True
            self._sources[path] = Source(**known[1])
        return self._sources[path]

    @functools.cached_property
    def _names_of_tables(self) -> str:
        return digest(repr(self._tables))

    @functools.cached_property
    def _tables(self) -> list[str]:
        return sorted(path.stem for path in (self.root / SCHEMAS).glob("*.yaml"))

    def _keep(self) -> None:
        """Renew the cache; where it cannot be written, everything is found anew next time."""
        if self._path and self._fresh:
            with suppress(InputError):
                write_text(json.dumps(self._cache), self._path)
            self._fresh = False


def _asked_for(source: Source, methods: Mapping[str, str]) -> Iterator[str]:
    """Modules that a file imports, those of chosen methods and the packages on their way included."""
    chosen = (f"{PACKAGE}.{room}.{methods[room]}" for room in source.rooms if room in methods)
    for name in (*source.imports, *chosen):
        yield name
        if name.startswith(f"{PACKAGE}."):
            yield from (name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1))


def source_of(path: Path, tables: Iterable[str]) -> Source:
    """Parse a file of Python.

    Parameters
    ----------
    path : path
    tables : iterable of str
        Names of all tables.

    Returns
    -------
    Source
    """
    tree = _without_docstrings(ast.parse(path.read_text(encoding="utf-8")))
    nodes = list(ast.walk(tree))
    words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    rooms = {room for node in nodes if isinstance(node, ast.Call) and node.args for room in _rooms(node)}
    imports = {name for node in nodes for name in _imported(node)}
    return Source(_digest(tree), sorted(imports), sorted(rooms), sorted(words & set(tables)))


@functools.cache
def versions() -> dict[str, str]:
    """Major and minor version of the numerical packages that are installed.

    Returns
    -------
    dict of str to str
    """
    found = {}
    for name in NUMERICAL:
        with suppress(PackageNotFoundError):
            found[name] = ".".join(version(name).split(".")[:2])
    return found


def record(path: Path, code: Code, config: dict) -> None:
    """Add the environment, the configuration and the code of today to the record of a run.

    Parameters
    ----------
    path : path
        JSON: ``environment`` and ``config`` as they are now, and ``code``, the parts of every digest that the run has
        ever had.
    code : Code
        Whose digests the jobs have.
    config : dict

    Raises
    ------
    InputError
        When it cannot be written.
    """
    known = _read_json(path).get("code", {})
    environment = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    environment |= {name: version(name) for name in (PACKAGE, "snakemake", *versions())}
    content = {"environment": environment, "config": config, "code": known | code.known}
    write_text(json.dumps(content, indent=1, default=str) + "\n", path)


def recorded(path: Path) -> dict[str, dict[str, str]]:
    """The parts of every digest that a run has had.

    Parameters
    ----------
    path : path
        As written by `record`.

    Returns
    -------
    dict of str to dict
        Empty where there is no record.
    """
    return _read_json(path).get("code", {})


def _read_json(path: Path) -> dict:
    with suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return {}


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module.startswith(PACKAGE))


def _rooms(call: ast.Call) -> Iterator[str]:
    """The room of which a call loads a method: of `methods`, or inside the room itself by the name of the file."""
    function, name = ast.unparse(call.func), call.args[0]
    if function in ("methods.load", "load") and isinstance(name, ast.Constant):
        yield name.value
    if function == "import_module" and isinstance(name, ast.JoinedStr):
        yield name.values[0].value.removeprefix(f"{PACKAGE}.").removesuffix(".")


def _digest(tree: ast.AST) -> str:
    """Of the syntax tree, written out so that all versions of Python write it alike."""
    hashed = hashlib.sha256()
    todo: list = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.AST):
            fields = (
                (name, value) for name, value in ast.iter_fields(node) if name != "ctx" and value not in (None, [])
            )
            todo += [")", *(item for name, value in fields for item in (value, name)), f"{type(node).__name__}("]
        elif isinstance(node, list):
            todo += ["]", *reversed(node), "["]
        else:
            hashed.update(repr(node).encode())
    return hashed.hexdigest()[:LENGTH]


def _without_docstrings(tree: ast.AST) -> ast.AST:
    """The tree without texts that are statements, and without lists of names."""
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [statement for statement in node.body if not (_is_text(statement) or _is_list(statement))]
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_list(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and {ast.unparse(target) for target in node.targets} <= LISTS


EMPTY = _digest(ast.Module([], []))  # of a file that says what its room is for
