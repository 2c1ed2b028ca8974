"""Draws characters: the plain shape of a face, and varied drawings from a seed."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# Drawings are made twice as large as wanted, and reduced at the end.
SCALE = 2
# The longer side of a plain shape, as a share of the picture.
FILLED = 0.76
# Cells along a side of the net that bends a drawing.
CELLS = 2
# The corners of the cells `[row, column, (x, y)]`, as shares of the picture.
CORNERS = np.stack(np.meshgrid(*2 * [np.linspace(-0.5, 0.5, CELLS + 1)]), axis=-1)
# Largest changes of a drawing, in each direction: turn in radians, shear, and as shares
# of the picture the size, the position and the bend of the net.
TURN, SHEAR, SIZE, SHIFT, BEND = 0.2, 0.2, 0.15, 0.06, 0.03
# Where a blurred edge becomes ink, as a share of full ink: for thin and thick strokes.
THIN, THICK = 0.4, 0.2


def load_font(path: pathlib.Path, size: int) -> Any:
    """A font for pictures of `size` pixels; the layout is Pillow's own on all machines.

    Raises:
        ValueError: if FreeType cannot read the file.
    """
    from PIL import ImageFont

    try:
        layout = ImageFont.Layout.BASIC
        return ImageFont.truetype(path, size * SCALE, layout_engine=layout)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read as a font. Remove it from the folder. ({error})"
        ) from error


def plain_shape(font: Any, character: str, size: int) -> Any:
    """A character in the middle of a picture, as large as fits; None without ink.

    Args:
        font: a font of `load_font`.
        character: str of one character.
        size: int, side of the final drawings in pixels.

    Returns:
        A grey Pillow image of `SCALE * size` pixels a side, ink 255.
    """
    from PIL import Image, ImageDraw

    left, top, right, bottom = font.getbbox(character)
    if right <= left or bottom <= top:
        return None
    ink = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(ink).text((1 - left, 1 - top), character, fill=255, font=font)
    box = ink.getbbox()
    if box is None:
        return None
    side = SCALE * size
    share = FILLED * side / max(box[2] - box[0], box[3] - box[1])
    width, height = (
        max(1, round(share * length)) for length in (box[2] - box[0], box[3] - box[1])
    )
    scaled = ink.resize((width, height), Image.Resampling.LANCZOS, box=box)
    picture = Image.new("L", (side, side))
    picture.paste(scaled, ((side - width) // 2, (side - height) // 2))
    return picture


def varied(
    shapes: Sequence[Any], *, seed: Sequence[int], count: int, size: int
) -> Iterator[npt.NDArray[Any]]:
    """Drawings of one character, as if by many hands.

    Drawing i takes the shapes in turn, in random order. The shape is turned, sheared,
    scaled, moved and bent, and its strokes are thickened. All of this is a function of
    `seed` and i alone.

    Args:
        shapes: the plain shape of the character in each face.
        seed: ints.
        count: int, how many drawings.
        size: int, side of a drawing in pixels.

    Yields:
        uint8 `[size, size]`, ink 255.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(shapes))
    # A row of random numbers for each drawing: a longer series begins with the shorter.
    draws = generator.uniform(-1.0, 1.0, [count, 7 + 2 * (CELLS + 1) ** 2])
    for i, row in enumerate(draws):
        yield _drawing(shapes[order[i % len(order)]], row, size)


def _drawing(shape: Any, row: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    from PIL import Image, ImageFilter

    side = SCALE * size
    cells = _net(row[:6], row[7:], side)
    bent = shape.transform(
        (side, side), Image.Transform.MESH, cells, Image.Resampling.BILINEAR
    )
    edge = 255 * (THIN + THICK) / 2 + 255 * (THIN - THICK) / 2 * row[6]
    # A steep ramp around the edge: blurred ink becomes strokes of another width.
    ramp = np.clip((np.arange(256) - edge) / 64 + 0.5, 0.0, 1.0)
    blurred = bent.filter(ImageFilter.GaussianBlur(SCALE * size / 84))
    inked = blurred.point(np.round(255 * ramp).astype(int).tolist())
    return np.asarray(inked.resize((size, size), Image.Resampling.BOX))


def _net(plane: Any, bends: Any, side: int) -> list[Any]:
    """Cells of the drawing, and the four corners in the shape that each one shows."""
    cosine, sine = np.cos(TURN * plane[0]), np.sin(TURN * plane[0])
    wide, high = 1 + SIZE * plane[2], 1 + SIZE * plane[3]
    stretched = CORNERS * [wide, high]
    x, y = stretched[..., 0] + SHEAR * plane[1] * stretched[..., 1], stretched[..., 1]
    turned = np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)
    shares = turned + 0.5 + SHIFT * plane[4:6] + BEND * bends.reshape(turned.shape)
    source = (side * shares).tolist()
    marks = [side * i // CELLS for i in range(CELLS + 1)]
    return [
        (
            (marks[c], marks[r], marks[c + 1], marks[r + 1]),
            # Upper left, lower left, lower right, upper right.
            (
                *source[r][c],
                *source[r + 1][c],
                *source[r + 1][c + 1],
                *source[r][c + 1],
            ),
        )
        for r in range(CELLS)
        for c in range(CELLS)
    ]
