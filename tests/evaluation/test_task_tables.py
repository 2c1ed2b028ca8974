"""A task as text: dots where an image is bright, points where a curve runs, rows."""

import numpy as np
import pytest

from maml_keras.evaluation import task_text


def task(x, y, query_x):
    return {"support_x": x, "support_y": y, "query_x": query_x}


def dots(signs):
    """The braille signs of a line as an array of dots, four rows of two for each."""
    bits = np.array([[ord(s) - 0x2800 >> k & 1 for k in range(8)] for s in signs])
    # The numbers of the dots, from upper left to lower right.
    return bits[:, [[0, 3], [1, 4], [2, 5], [6, 7]]].transpose(1, 0, 2).reshape(4, -1)


def test_an_image_of_28_pixels_is_drawn_dot_by_dot():
    ink = np.random.default_rng(0).random([28, 28]) < 0.4
    x = ink[None, :, :, None].astype("float32")
    lines = task_text(task(x, [0], x[:0]), np.zeros(0, int)).splitlines()
    assert lines[:2] == ["support        query", "class 0"]
    drawn = np.concatenate([dots(line) for line in lines[2:]])
    np.testing.assert_array_equal(drawn, ink)


def test_shades_become_as_many_dots():
    for shade in (0.25, 0.5, 0.75):
        x = np.full([1, 84, 84, 3], shade)
        lines = task_text(task(x, [0], x[:0]), np.zeros(0, int)).splitlines()
        share = np.mean([dots(line) for line in lines[2:]])
        assert share == pytest.approx(shade, abs=0.02)


def test_each_class_has_its_support_and_its_queries():
    x = np.stack([np.full([28, 28, 1], v) for v in (0.0, 1.0, 1.0, 0.0)])
    text = task_text(task(x[:2], [1, 0], x), np.array([1, 0, 0, 1]))
    lines = text.splitlines()
    zero, one = lines.index("class 0"), lines.index("class 1")
    full, empty = "\u28ff" * 14, "\u2800" * 14
    assert lines[zero + 1] == " ".join([full] * 3)
    assert lines[one + 1] == " ".join([empty] * 3)


@pytest.mark.parametrize("width", [40, 120])
def test_lines_fit_into_the_terminal(width):
    generator = np.random.default_rng(0)
    y, many = np.arange(5) % 2, np.arange(40) % 2
    for x in ([28, 28, 1], [1], [60], [6, 20]):
        support, query = (generator.random([n, *x]) for n in (5, 40))
        text = task_text(task(support, y, query), many, width=width)
        assert max(map(len, text.splitlines())) <= width
    # A wider terminal shows more queries of a class.
    images = task_text(
        task(np.ones([2, 8, 8, 1]), [0, 1], np.ones([40, 8, 8, 1])), many, width=width
    )
    assert len(images.splitlines()[2].split()) == width // 15


def test_points_stand_where_they_belong():
    x, y = np.array([[0.0], [1.0]]), np.array([[-2.0], [2.0]])
    lines = task_text(task(x, y, x), -y, width=40).splitlines()
    assert lines[0].split("│") == ["        2 ", "o" + " " * 26 + "#"]
    assert lines[12].split("│") == ["       -2 ", "#" + " " * 26 + "o"]
    same = task_text(task(x, y, x), y, width=40).splitlines()
    assert (same[0][-1], same[12][11]) == ("@", "@")


def test_examples_that_are_not_finite_have_no_place():
    x = np.array([[0.0], [np.nan]])
    text = task_text(task(x, x, x), x, width=40)
    assert sum(line.count("@") for line in text.splitlines()[:-1]) == 1
    assert "nan" in task_text(task(x[1:], x[1:], x[1:]), x[1:], width=40)


def test_dicts_and_words_are_rows():
    x = {"town": np.array(["Ulm", "Bern"]), "age": np.array([3.0, 4.5])}
    text = task_text(task(x, {"a": [1, 2], "b": [3, 4]}, x), {"a": [5, 6], "b": [7, 8]})
    assert text.splitlines() == [
        "support: 2 examples",
        "  town=Ulm age=3 -> a=1 b=3",
        "  town=Bern age=4.5 -> a=2 b=4",
        "query: 2 examples",
        "  town=Ulm age=3 -> a=5 b=7",
        "  town=Bern age=4.5 -> a=6 b=8",
    ]
