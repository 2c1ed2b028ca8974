"""Omniglot from the folders that its author's archives unzip to."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import pathlib
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from maml_keras.backend.progress import Bar
from maml_keras.data.arrays import from_arrays
from maml_keras.data.folders import SUFFIXES, read_images
from maml_keras.data.omniglot_alphabets import CHARACTERS, DRAWERS
from maml_keras.data.pool import Pool
from maml_keras.data.tfds import resize

PARTS = ("images_background", "images_evaluation")
CHARACTER = re.compile(r"character(\d\d)")
DRAWING = re.compile(r"(\d{4})_(\d\d)")
LAYOUT = (
    "ALPHABET/characterNN/NNNN_DD.png, alone or below images_background and "
    "images_evaluation"
)


class Drawing(NamedTuple):
    """A drawing's file, and what its path says.

    Attributes:
        file: the image file.
        alphabet: str, such as `"Greek"`.
        character: int, the number of the character in its alphabet, from 1.
        number: int, the number of the character in all of Omniglot.
        drawer: int, who drew, from 1. Other people drew other alphabets.
    """

    file: pathlib.Path
    alphabet: str
    character: int
    number: int
    drawer: int

    @property
    def class_name(self) -> str:
        """The name of the character, such as `"Greek/character03"`."""
        return f"{self.alphabet}/character{self.character:02d}"


def holds_drawings(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder has the layout of Omniglot's archives."""
    root = pathlib.Path(folder)
    return root.is_dir() and any(
        CHARACTER.fullmatch(inner.name)
        for part in _parts(root)
        for alphabet in _folders(part)
        for inner in _folders(alphabet)
    )


def list_drawings(
    folder: str | os.PathLike[str], alphabets: Iterable[str]
) -> list[Drawing]:
    """The drawings of some alphabets, sorted by alphabet, character and drawer.

    Warns of alphabets, characters and drawings that are missing.

    Args:
        folder: the folder with `images_background`, `images_evaluation` or both, or a
            folder of alphabets.
        alphabets: names of alphabets.

    Raises:
        FileNotFoundError: if the folder holds no drawing of these alphabets.
        ValueError: if a name is not one of Omniglot's, or a drawing is there twice.
    """
    root = pathlib.Path(folder)
    wanted = sorted(alphabets)
    if not root.is_dir():
        raise FileNotFoundError(
            f"`path` must be a folder with the drawings of Omniglot, {LAYOUT}. "
            f"Received: {root}, which {'is a file' if root.exists() else 'is missing'}."
        )
    found: dict[tuple[str, int, int], Drawing] = {}
    for drawing in _walk(root):
        if drawing.alphabet in wanted:
            key = drawing.alphabet, drawing.character, drawing.drawer
            if key in found:
                raise _doubled(drawing.class_name, found[key].file, drawing.file)
            found[key] = drawing
    drawings = [found[key] for key in sorted(found)]
    if not drawings:
        raise FileNotFoundError(
            f"`path` must be a folder with the drawings of Omniglot, {LAYOUT}. "
            f"Received: {root}, without a drawing of {', '.join(wanted[:3])}, ... "
            "Unzip the author's archives there."
        )
    _check_numbers(drawings)
    _warn_of_missing(root, wanted, drawings)
    return drawings


def contents(root: str | os.PathLike[str], drawings: Iterable[Drawing]) -> str:
    """A hash of the files' places, sizes and times, which changes with the files."""
    facts = []
    for drawing in drawings:
        state = drawing.file.stat()
        place = drawing.file.relative_to(root).as_posix()
        facts.append([place, state.st_size, state.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def read_drawings(drawings: list[Drawing], size: int, *, verbose: str | int) -> Pool:
    """A pool of drawings, ink 255 on paper 0; example groups say who drew.

    Args:
        drawings: from `list_drawings`.
        size: int, height and width of the examples.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Raises:
        ValueError: if a file is not a square image in black and white, or if some
            images are black on white and others white on black.
    """

    def read(image: Any) -> Any:
        # Ink covers a small part of the paper in every drawing.
        white_paper = tf.reduce_mean(tf.cast(image, tf.float32)) > 127.5
        ink = tf.where(white_paper, 255 - image, image)
        small = resize(ink, (size, size), method="lanczos3")
        return small, white_paper, tf.shape(image)[:2], tf.reduce_max(ink)

    images: list[Any] = []
    papers: list[bool] = []
    bar = Bar(len(drawings), unit="drawing", verbose=verbose)
    columns = read_images([drawing.file for drawing in drawings], read, channels=1)
    for drawing, (small, white_paper, shape, darkest) in zip(drawings, columns):
        if shape[0] != shape[1]:
            raise ValueError(
                f"A drawing must be square. Received: {drawing.file} of "
                f"{shape[0]}x{shape[1]} pixels. Restore the author's file."
            )
        if darkest < 128:
            raise ValueError(
                "A drawing must be black and white. Received: "
                f"{drawing.file}, whose pixels differ by at most {darkest} from the "
                "paper. Restore the author's file."
            )
        images.append(small)
        papers.append(bool(white_paper))
        bar.update(len(images))
    if len(set(papers)) > 1:
        white, black = (drawings[papers.index(paper)].file for paper in (True, False))
        raise ValueError(
            "All drawings must be black on white, or all white on black. Received: "
            f"{white} on white and {black} on black. Invert one kind."
        )
    names = sorted({drawing.class_name for drawing in drawings})
    numbers = {name: number for number, name in enumerate(names)}
    return from_arrays(
        np.stack(images),
        [numbers[drawing.class_name] for drawing in drawings],
        class_names=names,
        groups=[name.split("/")[0] for name in names],
        example_groups=[f"{d.alphabet}/drawer{d.drawer:02d}" for d in drawings],
    )


def _parts(root: pathlib.Path) -> list[pathlib.Path]:
    """The folders of alphabets."""
    return [root / part for part in PARTS if (root / part).is_dir()] or [root]


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _entries(folder: pathlib.Path) -> list[pathlib.Path]:
    # `__MACOSX` and names that begin with a dot are left by programs that unzip.
    with os.scandir(folder) as entries:
        names = (e.name for e in entries if not e.name.startswith((".", "__")))
        return [folder / name for name in sorted(names)]


def _walk(root: pathlib.Path) -> Iterator[Drawing]:
    for part in _parts(root):
        for alphabet in _folders(part):
            if alphabet.name not in CHARACTERS:
                near = difflib.get_close_matches(alphabet.name, CHARACTERS, n=1)
                hint = f"Did you mean {near[0]!r}? Rename" if near else "Remove"
                raise ValueError(
                    "A folder of drawings must be named like an alphabet of Omniglot. "
                    f"Received: {alphabet}. {hint} the folder; for drawings of your "
                    "own use `mk.data.from_folder`."
                )
            for character in _folders(alphabet):
                yield from _of_character(alphabet.name, character)


def _of_character(alphabet: str, folder: pathlib.Path) -> Iterator[Drawing]:
    match = CHARACTER.fullmatch(folder.name)
    known = CHARACTERS[alphabet]
    if match is None or not 1 <= int(match[1]) <= known:
        raise ValueError(
            f"{alphabet} must have the folders character01 to character{known:02d}. "
            f"Received: {folder}. Rename or remove it."
        )
    for file in _entries(folder):
        name = DRAWING.fullmatch(file.stem)
        right = name is not None and file.suffix.lower() in SUFFIXES
        if name is None or not right or not 1 <= int(name[2]) <= DRAWERS:
            raise ValueError(
                "A drawing must be named NNNN_DD.png, where DD from 01 to "
                f"{DRAWERS} says who drew. Received: {file}. Rename or remove it."
            )
        yield Drawing(file, alphabet, int(match[1]), int(name[1]), int(name[2]))


def _check_numbers(drawings: list[Drawing]) -> None:
    """Raises if a character has two numbers, or if two characters share a number."""
    by_class: dict[str, Drawing] = {}
    by_number: dict[int, Drawing] = {}
    for drawing in drawings:
        first = by_class.setdefault(drawing.class_name, drawing)
        other = by_number.setdefault(drawing.number, drawing)
        if first.number != drawing.number:
            raise ValueError(
                "The files of a character must begin with the same number. Received: "
                f"{first.file} and {drawing.file}. Remove what is of another character."
            )
        if other.class_name != drawing.class_name:
            raise _doubled(drawing.class_name, other.file, drawing.file)


def _doubled(class_name: str, *files: pathlib.Path) -> ValueError:
    return ValueError(
        f"A drawing must be there once. Received: {' and '.join(map(str, files))} for "
        f"{class_name}. Remove one of them."
    )


def _warn_of_missing(
    root: pathlib.Path, alphabets: list[str], drawings: list[Drawing]
) -> None:
    there = {(d.alphabet, d.character, d.drawer) for d in drawings}
    characters = {key[:2] for key in there}
    written = {key[0] for key in there}
    missing = [f"the alphabet {name}" for name in alphabets if name not in written]
    for alphabet in sorted(written):
        for character in range(1, CHARACTERS[alphabet] + 1):
            name = f"{alphabet}/character{character:02d}"
            if (alphabet, character) not in characters:
                missing.append(name)
                continue
            missing += [
                f"drawing {drawer:02d} of {name}"
                for drawer in range(1, DRAWERS + 1)
                if (alphabet, character, drawer) not in there
            ]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        warnings.warn(
            f"{root} is not whole. Missing, {len(missing)} in all: {shown}. Unzip the "
            "author's archives again, or ask for the part that is there with `split`.",
            stacklevel=4,
        )
