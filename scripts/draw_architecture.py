"""Draws docs/pictures/architecture.svg, the wings and their imports, and lists files.

    python scripts/draw_architecture.py

Both show the code: sentences are docstrings, numbers count files, and arrows are
imports. The order of the wings is the one that tests/test_architecture.py holds. The
list of files is docs/files.md.
"""

import ast
import pathlib
import textwrap
from typing import NamedTuple
from xml.sax.saxutils import escape

ROOT = pathlib.Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"
LIST = ROOT / "docs" / "files.md"
PROGRAM = "maml_keras_cli"
HEAD = """# Every file, by wing

Look up here what each file is for, from the roof of the house to the ground. Each
folder of `maml_keras/` is one idea; [Architecture](architecture.md) shows how they fit
together.

<!-- Written by scripts/draw_architecture.py from the docstrings of the files. -->
"""

# Pixels.
FLOOR, GAP, TEXT, COLUMN, MARGIN = 58, 8, 630, 25, 16
COLOURS = ["#0b6e99", "#b3541e", "#4b7f2c", "#7a3e9d", "#a3283f", "#5c6670"]


class Wing(NamedTuple):
    """A floor of the house."""

    name: str
    sentence: str
    files: list[pathlib.Path]
    imports: set[str]


def wings() -> list[Wing]:
    """The wings from the ground up, and the command line on top of them."""
    source = (ROOT / "tests/test_architecture.py").read_text("utf-8")
    [order] = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WINGS"
    ]
    library = ROOT / "maml_keras"
    return [
        *(_wing(name, library / name) for name in order),
        _wing(PROGRAM, ROOT / PROGRAM),
    ]


def _wing(name: str, folder: pathlib.Path) -> Wing:
    if folder.is_dir():
        files, first = sorted(folder.rglob("*.py")), folder / "__init__.py"
    else:
        files = [folder.with_suffix(".py")]
        first = files[0]
    imports = set().union(*map(imported, files)) - {name}
    return Wing(name, first_sentence(first), files, imports)


def first_sentence(path: pathlib.Path) -> str:
    """The first sentence of a file's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def imported(path: pathlib.Path) -> set[str]:
    """The wings that a file imports, also inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        package, _, rest = (node.module or "").partition(".")
        if package == "maml_keras" and rest:
            found.add(rest.split(".")[0])
        elif package == "maml_keras":
            found |= {alias.name for alias in node.names}
    return found


def picture(house: list[Wing]) -> str:
    """The house as SVG, its ground at the bottom."""
    number = len(house)
    names = [wing.name for wing in house]
    width = 2 * MARGIN + TEXT + COLUMN * number
    height = 2 * MARGIN + number * (FLOOR + GAP) - GAP
    middle = {
        name: MARGIN + (number - 1 - i) * (FLOOR + GAP) + FLOOR / 2
        for i, name in enumerate(names)
    }
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" role="img">',
        "<title>The wings of maml_keras, from the ground up, and their imports</title>",
        f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>',
    ]
    for wing in house:
        lines += _floor(wing, middle[wing.name], width)
    # The lowest wing imports nothing, so the first column is that of the second.
    for i, wing in enumerate(house[1:]):
        x = MARGIN + TEXT + COLUMN * (number - 1 - i) - COLUMN / 2
        below = [middle[name] for name in names if name in wing.imports]
        lines += _column(x, middle[wing.name], below, COLOURS[i % len(COLOURS)])
    return "\n".join([*lines, "</svg>"]) + "\n"


def _floor(wing: Wing, y: float, width: int) -> list[str]:
    files = f"{len(wing.files)} file" + ("s" if len(wing.files) > 1 else "")
    top = y - FLOOR / 2
    lines = [
        f'<rect x="{MARGIN}" y="{top:g}" width="{width - 2 * MARGIN}" '
        f'height="{FLOOR}" rx="6" fill="#f2f4f6"/>',
        f'<text x="{MARGIN + 12}" y="{y - 4:g}" font-size="16" font-weight="600" '
        f'fill="#1b1f23">{wing.name}</text>',
        f'<text x="{MARGIN + 12}" y="{y + 15:g}" font-size="12.5" '
        f'fill="#5c6670">{files}</text>',
    ]
    sentence = textwrap.wrap(wing.sentence.replace("`", ""), 62)
    for i, line in enumerate(sentence):
        at = y + 4.5 + 17 * (i - (len(sentence) - 1) / 2)
        lines.append(
            f'<text x="{MARGIN + 165}" y="{at:g}" font-size="13.5" '
            f'fill="#1b1f23">{escape(line)}</text>'
        )
    return lines


def _column(x: float, start: float, below: list[float], colour: str) -> list[str]:
    """A line from a wing down, with an arrowhead at every imported wing."""
    lines = [
        f'<path d="M{x:g} {start:g}V{max(below):g}" stroke="{colour}" '
        'stroke-width="2" fill="none"/>',
        f'<circle cx="{x:g}" cy="{start:g}" r="6" fill="#ffffff" '
        f'stroke="{colour}" stroke-width="2.5"/>',
    ]
    lines += [
        f'<path d="M{x - 7:g} {y - 7:g}H{x + 7:g}L{x:g} {y + 6:g}Z" fill="{colour}"/>'
        for y in sorted(below)
    ]
    return lines


def listing(house: list[Wing]) -> str:
    """The page with the purpose of each file, the command line first."""
    lines = [HEAD]
    for wing in reversed(house):
        lines += [f"## {wing.name}", "", wing.sentence, ""]
        lines += ["| file | what it is for |", "|---|---|"]
        for path in wing.files:
            if path.name == "__init__.py" and path.parent.name == wing.name:
                continue
            lines.append(f"| `{path.relative_to(ROOT)}` | {first_sentence(path)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    house = wings()
    LIST.write_text(listing(house), encoding="utf-8")
    PICTURE.write_text(picture(house), encoding="utf-8")
