"""The curve of a card."""

import xml.etree.ElementTree

import pytest

from maml_keras.export.card_curve import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, curve_svg

pytestmark = [pytest.mark.journey, pytest.mark.usefixtures("tasks_in_a_loop")]


def test_the_curve_of_an_accuracy_is_drawn_at_the_right_places():
    drawn = xml.etree.ElementTree.fromstring(
        curve_svg([0, 1, 2], [0.0, 0.5, 1.0], [0.0, 0.1, 0.0], metric="accuracy")
    )
    places = [(float(c.get("cx")), float(c.get("cy"))) for c in drawn.iter("circle")]
    bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    across = (LEFT, (LEFT + WIDTH - 14) / 2, WIDTH - 14)
    assert places == [(across[0], bottom), (across[1], middle), (across[2], TOP)]
    # The interval of the middle step reaches a tenth of the axis up and down.
    bar = [e for e in drawn.iter("line") if e.get("class") == "bar"][1]
    tenth = (HEIGHT - TOP - BOTTOM) / 10
    assert float(bar.get("y1")) == pytest.approx(middle + tenth, abs=0.1)
    assert float(bar.get("y2")) == pytest.approx(middle - tenth, abs=0.1)


def test_curve_of_a_loss_that_falls_far_is_logarithmic():
    picture = curve_svg([0, 1], [10.0, 0.1], [0.0, 0.0], metric="loss")
    assert "logarithmic" in picture
    drawn = xml.etree.ElementTree.fromstring(picture)
    ends = [float(c.get("cy")) for c in drawn.iter("circle")]
    assert ends == [TOP, HEIGHT - BOTTOM]
    assert "logarithmic" not in curve_svg([0, 1], [2.0, 1.0], [0, 0], metric="loss")


@pytest.mark.parametrize(
    "means",
    [[1.0, None, 0.5], [None, 2.0, 1.0], [0.0, 0.0, 0.0], [1e-15, 1e-13, 1e-9]],
)
def test_a_curve_with_gaps_or_without_a_span_is_drawn(means):
    drawn = xml.etree.ElementTree.fromstring(
        curve_svg([0, 1, 2], means, [None, 0.0, 0.0], metric="loss")
    )
    kept = [m for m in means if m is not None]
    assert len(list(drawn.iter("circle"))) == len(kept)
    # A gap splits the line in two.
    lines = 2 if means[1] is None else 1
    assert len(list(drawn.iter("polyline"))) == lines
    assert "nan" not in "".join(c.get("cy") for c in drawn.iter("circle"))


def test_without_figures_the_curve_is_empty():
    assert curve_svg([0, 1], [None, None], [None, None], metric="loss") == ""
