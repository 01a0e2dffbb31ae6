"""The page docs/methods.md: every method that a configuration can name, with its options, as the files declare them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from diaflow.run import config, methods

PAGE = Path(__file__).with_suffix(".md")
INTRODUCTION = """\
# Methods and their options

Written by `python docs/methods.py` from what the files of the methods declare. A method is one file beside its
siblings: its name is that of the file, the first line of its docstring says what it is, and a literal `OPTIONS = {...}`
before its first function describes the keys of the configuration that it alone uses, as parts of the
[schema](../diaflow/run/config.schema.yaml). A new file with these is a method that a configuration can name; nothing
else has to change. Two methods of a room may have a key in common when they describe it alike. The keys of a method
that is not chosen are checked, but nothing is made anew when they change.
"""


def page() -> str:
    """The whole page."""
    whole = config.schema()
    tables = [
        table(section, key, room, whole["properties"][section]["properties"][key]["description"])
        for section, (key, room) in config.choices(whole).items()
    ]
    return "\n".join([INTRODUCTION, *tables])


def table(section: str, key: str, room: str, description: str) -> str:
    """Heading and table of one choice: a row for each method, followed by a row for each of its options."""
    lines = [
        f"## {section}.{key}: {description}\n",
        "| name | key | default | unit | what it is |",
        "|---|---|---|---|---|",
    ]
    for name, method in methods.listed(room).items():
        lines.append(f"| `{name}` | | | | {method.summary.removesuffix('.')} |")
        lines += [f"| | {' | '.join(cells)} |" for cells in option_rows(section, method.options)]
    folder = f"diaflow/{room.replace('.', '/')}"
    lines.append(f"\nThe files are in `{folder}`; [its docstring](../{folder}/__init__.py) names their function.\n")
    return "\n".join(lines)


def option_rows(where: str, options: dict[str, dict]) -> Iterator[tuple[str, str, str, str]]:
    """Key, default, unit and description of each option, of those inside of others too."""
    for key, entry in options.items():
        if "properties" in entry:
            yield from option_rows(f"{where}.{key}", entry["properties"])
        else:
            words, unit = re.fullmatch(r"(.*?)(?: \[(.*)\])?", entry["description"]).groups()
            if "enum" in entry:
                words += ": " + ", ".join(f"`{value}`" for value in entry["enum"])
            yield f"`{where}.{key}`", f"`{json.dumps(entry['default'])}`", unit or "", words


if __name__ == "__main__":
    PAGE.write_text(page())
