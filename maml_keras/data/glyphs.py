"""`glyphs`: characters of many scripts, drawn from fonts that are on the machine."""

from __future__ import annotations

import collections
import difflib
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from maml_keras.backend.progress import Bar
from maml_keras.data.fonts import Face, by_script, find_faces
from maml_keras.data.glyph_drawing import load_font, plain_shape, varied
from maml_keras.data.pool import Pool
from maml_keras.data.pool_cache import cached

# Increase the number when the drawings change, so that old caches are not read.
FORMAT = 1
# A class has drawings from at least this number of faces.
LEAST_FACES = 2
# A script with fewer classes is left out.
LEAST_CLASSES = 10
# Two shapes look the same if their squared distance is at most this share of the
# fainter shape's square, on pictures of `COARSE` pixels a side.
ALIKE, COARSE = 0.08, 14


def glyphs(
    *,
    fonts: str | os.PathLike[str] | None = None,
    scripts: Sequence[str] | None = None,
    drawings: int = 20,
    size: int = 28,
    seed: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    verbose: str | int = "auto",
) -> Pool:
    """A pool of the characters of many scripts, drawn from fonts; nothing is loaded.

    A class is a Unicode character; a drawing takes one of the faces that have the
    character, and turns, shears, scales, moves, bends and thickens it at random. Left
    out are characters with accents, punctuation, characters that fewer than two faces
    have, and scripts of fewer than ten classes. Of characters that look the same in
    one face, such as the Latin, Greek and Cyrillic A, only the first is a class.

    The pool is a function of the fonts, the arguments and the versions of Pillow,
    FreeType and Unicode.

    Args:
        fonts: a folder of .ttf and .otf files. Defaults to DejaVu and STIX, which come
            with matplotlib: 16 faces, some 2,700 classes in 34 scripts.
        scripts: names of scripts such as "Greek", or None for all. Characters are
            compared within these scripts only.
        drawings: int, drawings of each class.
        size: int, height and width.
        seed: int, draws the variation.
        cache_dir: the directory for the prepared arrays. Defaults to the environment
            variable MAML_KERAS_CACHE, then to ~/.cache/maml_keras.
        verbose: 0 for silence, else a progress bar if drawing takes more than two
            seconds.

    Returns:
        A `Pool` of uint8 `[n, size, size, 1]`, ink 255 on background 0. Classes have
        names such as "Greek/GREEK CAPITAL LETTER GAMMA"; the groups are the scripts.

    Raises:
        ImportError: if Pillow, fontTools or, without `fonts`, matplotlib is missing.
        FileNotFoundError: if `fonts` holds no font.
        ValueError: if a number is out of range, a script is unknown, a font cannot be
            read, or no class is left.

    >>> greek = glyphs(scripts=["Greek"], drawings=2, verbose=0)
    >>> greek.examples.shape[1:]
    (28, 28, 1)
    """
    for name, value, least in (("drawings", drawings, 2), ("size", size, 8)):
        _check_whole(name, value, least)
    _check_whole("seed", seed, 0)
    faces = find_faces(fonts)
    known = by_script(faces, least=LEAST_FACES)
    if scripts is not None:
        wanted = _checked(scripts, known.values())
        known = {point: script for point, script in known.items() if script in wanted}
    key = {
        "format": FORMAT,
        "faces": [face.digest for face in faces],
        "scripts": sorted(set(known.values())),
        "drawings": drawings,
        "size": size,
        "seed": seed,
        "versions": _versions(),
    }

    def prepare() -> Pool:
        return _drawn(faces, known, drawings, size, seed, verbose)

    return cached("glyphs", key, prepare, cache_dir)


def _drawn(
    faces: Sequence[Face],
    known: Mapping[int, str],
    drawings: int,
    size: int,
    seed: int,
    verbose: str | int,
) -> Pool:
    bar = Bar(2 * len(known), unit="character", verbose=verbose)
    opened = [(face, load_font(face.path, size)) for face in faces]
    shapes: dict[int, dict[str, Any]] = {}
    for done, point in enumerate(known, start=1):
        found = {
            face.digest: plain_shape(font, chr(point), size)
            for face, font in opened
            if point in face.characters
        }
        shapes[point] = {name: s for name, s in found.items() if s is not None}
        bar.update(done)
    shapes = {p: found for p, found in shapes.items() if len(found) >= LEAST_FACES}
    kept = _different(shapes)
    sizes = collections.Counter(known[point] for point in kept)
    classes = [point for point in kept if sizes[known[point]] >= LEAST_CLASSES]
    if not classes:
        raise ValueError(
            f"`fonts` must have a script of at least {LEAST_CLASSES} characters that "
            f"{LEAST_FACES} faces can draw. Received: {len(faces)} faces, which share "
            f"{len(kept)} characters that look different. Add other faces of the same "
            "fonts, such as bold and italic."
        )
    examples = np.empty([len(classes), drawings, size, size, 1], np.uint8)
    for done, (point, rows) in enumerate(zip(classes, examples), start=1):
        own = list(shapes[point].values())
        rows[..., 0] = list(varied(own, seed=[seed, point], count=drawings, size=size))
        bar.update(len(known) + done)
    bar.finish(2 * len(known))
    return Pool(
        examples.reshape(-1, size, size, 1),
        counts=[drawings] * len(classes),
        class_names=[f"{known[p]}/{unicodedata.name(chr(p))}" for p in classes],
        groups=[known[p] for p in classes],
    )


def _different(shapes: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """The characters that look like no earlier one that is kept, in any face."""
    alike: dict[int, set[int]] = collections.defaultdict(set)
    for face in sorted({name for found in shapes.values() for name in found}):
        points = [point for point, found in shapes.items() if face in found]
        for first, second in _pairs([shapes[point][face] for point in points]):
            alike[points[second]].add(points[first])
    kept: dict[int, None] = {}
    for point in shapes:
        if not alike[point] & kept.keys():
            kept[point] = None
    return list(kept)


def _pairs(shapes: Sequence[Any]) -> Iterable[tuple[int, int]]:
    """Pairs of places in a list, the earlier first, whose shapes look the same."""
    from PIL import Image

    box = Image.Resampling.BOX
    rows = [np.asarray(s.resize((COARSE, COARSE), box)).ravel() for s in shapes]
    # Whole numbers below 2**53, so that the sums are exact on every machine.
    x = np.array(rows, np.float64)
    squares = (x**2).sum(axis=1)
    # In blocks, because all pairs of a large font do not fit in memory.
    for start in range(0, len(x), 1024):
        block = slice(start, start + 1024)
        distances = squares[block, None] + squares - 2 * x[block] @ x.T
        close = distances <= ALIKE * np.minimum(squares[block, None], squares)
        for second, first in zip(*np.nonzero(close)):
            if first < second + start:
                yield int(first), int(second) + start


def _checked(scripts: Sequence[str], known: Iterable[str]) -> set[str]:
    names = sorted(set(known))
    for script in scripts:
        if script not in names:
            near = difflib.get_close_matches(str(script), names, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {names}."
            raise ValueError(
                "`scripts` must list scripts that the fonts can draw. Received: "
                f"{script!r}. {hint}"
            )
    return set(scripts)


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: {value!r}. "
            f"Pass e.g. {name}={max(20, least)}."
        )


def _versions() -> dict[str, str]:
    """What draws the shapes and names the scripts."""
    import fontTools
    import PIL
    from PIL import features

    return {
        "pillow": PIL.__version__,
        "freetype": str(features.version("freetype2")),
        "fonttools": fontTools.version,
        "unicode": unicodedata.unidata_version,
    }
