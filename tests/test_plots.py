"""Pictures are written, with what they promise on them."""

import numpy as np
import pytest

from maml_keras import plots
from maml_keras.evaluation import Evaluation

pytest.importorskip("matplotlib")


def evaluation(offset):
    values = np.arange(12.0).reshape(4, 3) + offset
    return Evaluation("loss", values, np.zeros([4, 3], bool), "running", 5, False)


def captured(monkeypatch):
    figures = []
    saved = plots._saved
    monkeypatch.setattr(
        plots,
        "_saved",
        lambda figure, path: (figures.append(figure), saved(figure, path))[1],
    )
    return figures


def test_curves_have_a_line_a_band_and_a_median_for_each_network(tmp_path, monkeypatch):
    figures = captured(monkeypatch)
    path = plots.plot_curves(
        {"a": evaluation(0), "b": evaluation(5)}, tmp_path / "c.png"
    )
    assert path.read_bytes().startswith(b"\x89PNG")
    (axes,) = figures[0].axes
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a", "b"]
    assert len(axes.lines) == 4
    assert len(axes.collections) == 2
    np.testing.assert_allclose(axes.lines[0].get_ydata(), evaluation(0).curve)
    assert "4 new tasks" in axes.get_ylabel()


def test_fits_have_a_panel_for_each_network(tmp_path, monkeypatch):
    figures = captured(monkeypatch)
    x = np.linspace(-1, 1, 7)[:, None]
    fits = {"a": [(0, x), (1, 2 * x)], "b": [(0, -x), (1, x)]}
    plots.plot_fits((x[:2], x[:2]), (x, x**2), fits, tmp_path / "sub" / "f.png")
    assert [axes.get_title() for axes in figures[0].axes] == ["a", "b"]
    legend = [t.get_text() for t in figures[0].legends[0].get_texts()]
    assert legend[-2:] == ["after 0 steps", "after 1 step"]
