"""The faces of a folder of fonts, and the characters that they can draw."""

from __future__ import annotations

import collections
import hashlib
import io
import os
import pathlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

SUFFIXES = (".ttf", ".otf")
# The fonts of matplotlib that name their characters by Unicode. Its other fonts put
# other shapes at the numbers of letters, or one placeholder at every number.
BUNDLED = re.compile(r"(DejaVu(Sans|SansMono|Serif)(-\w+)?|STIXGeneral\w*)\.ttf")
# Letters, numbers and symbols. Modifiers and accents are drawn too small to tell apart.
CATEGORIES, LEFT_OUT = "LNS", ("Lm", "Sk")
# Scripts of signs that many scripts share; their Unicode block is the group.
SHARED = ("Zyyy", "Zinh")


class Face(NamedTuple):
    """A font file, such as the bold face of a family.

    Attributes:
        path: the file.
        digest: str, sha256 of the file.
        characters: the code points that the face can draw.
    """

    path: pathlib.Path
    digest: str
    characters: frozenset[int]


def find_faces(folder: str | os.PathLike[str] | None = None) -> list[Face]:
    """The faces of all fonts in a folder and below it, sorted by content.

    Copies of a file count once. A font without Unicode numbers has no characters.

    Args:
        folder: holds .ttf and .otf files; None for the fonts of matplotlib.

    Raises:
        ImportError: if fontTools, or without a folder matplotlib, is not installed.
        FileNotFoundError: if the folder holds no font.
        ValueError: if a font cannot be read.
    """
    if folder is None:
        return _unique(_bundled())
    root = pathlib.Path(folder)
    files = [p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES]
    if not files:
        what = "holds none" if root.is_dir() else "is not a folder"
        raise FileNotFoundError(
            f"`fonts` must be a folder with fonts ({', '.join(SUFFIXES)}). Received: "
            f"{root}, which {what}. Leave `fonts` out for the fonts of matplotlib."
        )
    return _unique(files)


def _bundled() -> list[pathlib.Path]:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "The default fonts of `glyphs` are those of matplotlib. Install it with "
            "`pip install 'maml_keras[plot]'`, or pass a folder: fonts=..."
        ) from error
    folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [path for path in folder.iterdir() if BUNDLED.fullmatch(path.name)]


def _unique(files: Sequence[pathlib.Path]) -> list[Face]:
    found: dict[str, Face] = {}
    for path in sorted(files):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest not in found:
            found[digest] = Face(path, digest, _characters(path, content))
    # By content, so that the same fonts in another folder give the same glyphs.
    return [found[digest] for digest in sorted(found)]


def _characters(path: pathlib.Path, content: bytes) -> frozenset[int]:
    try:
        from fontTools.ttLib import TTFont, TTLibError
    except ImportError as error:
        raise ImportError(
            "`glyphs` reads fonts with fontTools, which comes with matplotlib. Install "
            "both with `pip install 'maml_keras[plot]'`."
        ) from error
    try:
        with TTFont(io.BytesIO(content), lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except (TTLibError, KeyError, OSError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read as a font. Remove it from the folder. ({error})"
        ) from error


def by_script(faces: Sequence[Face], *, least: int) -> dict[int, str]:
    """The script of each character that several faces can draw.

    A script is Unicode's, such as "Greek". Signs that belong to no script have their
    block instead, such as "Mathematical Operators". Characters that Unicode composes
    from others are left out, such as letters with accents, and so are marks and
    punctuation.

    Args:
        faces: the faces.
        least: int, how many faces must have a character.

    Returns:
        Scripts by code point, in the order of code points.
    """
    counts = collections.Counter(c for face in faces for c in face.characters)
    found: dict[int, str] = {}
    for point in sorted(counts):
        if counts[point] >= least and (script := _script(chr(point))):
            found[point] = script
    return found


def _script(character: str) -> str:
    """The script or block of a character; empty if the character is left out."""
    from fontTools import unicodedata as tables

    category = unicodedata.category(character)
    if category[0] not in CATEGORIES or category in LEFT_OUT:
        return ""
    if unicodedata.decomposition(character):
        return ""
    script = tables.script(character)
    name: Any = tables.block(character)
    return str(name if script in SHARED else tables.script_name(script))
