"""Plain shapes and their variations, measured in pixels."""

import itertools
import pathlib

import numpy as np
import pytest

from maml_keras.data import glyph_drawing
from maml_keras.data.glyph_drawing import SCALE, load_font, plain_shape, varied

matplotlib = pytest.importorskip("matplotlib")
FOLDER = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SIZE = 28
# The places in a row of random numbers, each in [-1, 1].
TURN, SHEAR, WIDE, HIGH, RIGHT, DOWN, THICK = range(7)


@pytest.fixture(scope="module")
def shape():
    """The letter H: upright strokes, with ink on the border of its box."""
    return plain_shape(load_font(FOLDER / "DejaVuSans.ttf", SIZE), "H", SIZE)


def drawn(shape, changes=()):
    row = np.zeros(7 + 2 * (glyph_drawing.CELLS + 1) ** 2)
    for place, value in changes:
        row[place] = value
    return glyph_drawing._drawing(shape, row, SIZE).astype(float)


def box(image):
    """Left, top, right and bottom of the ink, in pixels."""
    columns, rows = (np.flatnonzero(image.max(axis=a) > 100) for a in (0, 1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def centre(image):
    return np.array(
        [
            (image.sum(axis=a) * np.arange(SIZE)).sum() / image.sum() + 0.5
            for a in (0, 1)
        ]
    )


def test_a_plain_shape_fills_its_share_and_lies_in_the_middle(shape):
    left, top, right, bottom = shape.getbbox()
    side = SCALE * SIZE
    assert shape.size == (side, side)
    assert bottom - top == round(glyph_drawing.FILLED * side)
    assert abs(left - (side - right)) <= 1
    assert abs(top - (side - bottom)) <= 1
    assert shape.getextrema() == (0, 255)


def test_a_character_without_ink_has_no_shape():
    font = load_font(FOLDER / "DejaVuSans.ttf", SIZE)
    assert plain_shape(font, "\N{BRAILLE PATTERN BLANK}", SIZE) is None


def test_without_changes_the_plain_shape_is_drawn(shape):
    plain = np.asarray(shape.resize((SIZE, SIZE))).astype(float)
    image = drawn(shape)
    assert np.corrcoef(plain.ravel(), image.ravel())[0, 1] > 0.95
    np.testing.assert_allclose(centre(image), centre(plain), atol=0.1)


@pytest.mark.parametrize(("place", "axis"), [(RIGHT, 0), (DOWN, 1)])
def test_a_move_is_the_stated_share_of_the_picture(shape, place, axis):
    on, back = (centre(drawn(shape, [(place, v)])) for v in (1.0, -1.0))
    # The picture shows the shape from a point that lies further on.
    expected = np.zeros(2)
    expected[axis] = -2 * glyph_drawing.SHIFT * SIZE
    # Half a pixel of the large picture, because edges are sharpened.
    np.testing.assert_allclose(on - back, expected, atol=0.5)


@pytest.mark.parametrize(("place", "ends"), [(WIDE, (0, 2)), (HIGH, (1, 3))])
def test_a_change_of_size_is_the_stated_share(shape, place, ends):
    small, large = (box(drawn(shape, [(place, v)])) for v in (1.0, -1.0))
    low, high = ends
    ratio = (large[high] - large[low]) / (small[high] - small[low])
    wanted = (1 + glyph_drawing.SIZE) / (1 - glyph_drawing.SIZE)
    assert ratio == pytest.approx(wanted, rel=0.1)  # A pixel of 20.


def test_turns_keep_the_ink_and_the_middle(shape):
    image, turned = drawn(shape), drawn(shape, [(TURN, 1.0)])
    assert turned.sum() == pytest.approx(image.sum(), rel=0.06)
    np.testing.assert_allclose(centre(turned), centre(image), atol=0.2)
    assert np.abs(turned - image).mean() > 10


def test_strokes_become_thicker(shape):
    thin, plain, thick = (drawn(shape, [(THICK, v)]).sum() for v in (1.0, 0.0, -1.0))
    assert thin < plain < thick


def test_a_drawing_depends_on_seed_and_number_alone(shape):
    few, many = (
        list(varied([shape], seed=[3, 72], count=n, size=SIZE)) for n in (2, 5)
    )
    np.testing.assert_array_equal(few, many[:2])
    other = list(varied([shape], seed=[4, 72], count=2, size=SIZE))
    for one, two in itertools.combinations([*many, *other], 2):
        assert not np.array_equal(one, two)


def test_faces_are_taken_in_turn():
    blank, full = (plain_shape_of(value) for value in (0, 255))
    images = list(varied([blank, full], seed=[0], count=6, size=SIZE))
    assert sorted(image.max() for image in images) == [0, 0, 0, 255, 255, 255]


def plain_shape_of(value):
    image = pytest.importorskip("PIL.Image")
    return image.new("L", (SCALE * SIZE, SCALE * SIZE), value)
