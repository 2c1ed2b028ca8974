"""Plots are written, with their lines, bands and panels."""

import numpy as np
import pytest

from maml_keras.evaluation import plots
from maml_keras.evaluation.result import Evaluation

pytest.importorskip("matplotlib")


def evaluation(offset):
    values = np.arange(12.0).reshape(4, 3) + offset
    return Evaluation("loss", values, np.zeros([4, 3], bool), "running", 5, False)


def captured(monkeypatch):
    figures = []
    saved = plots.saved
    monkeypatch.setattr(
        plots,
        "saved",
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
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_fits_have_a_panel_for_each_network(tmp_path, monkeypatch):
    figures = captured(monkeypatch)
    x = np.linspace(-1, 1, 7)[:, None]
    fits = {"a": [(0, x), (1, 2 * x)], "b": [(0, -x), (1, x)]}
    plots.plot_fits((x[:2], x[:2]), (x, x**2), fits, tmp_path / "sub" / "f.png")
    assert [axes.get_title() for axes in figures[0].axes] == ["a", "b"]
    legend = [t.get_text() for t in figures[0].legends[0].get_texts()]
    assert legend[-2:] == ["after 0 steps", "after 1 step"]


def test_a_task_of_images_has_a_row_for_each_class(tmp_path, monkeypatch):
    figures = captured(monkeypatch)
    x, y = np.random.default_rng(0).random([6, 8, 8, 1]), np.array([0, 1, 2] * 2)
    task = {"support_x": x[:3], "support_y": y[:3], "query_x": x}
    plots.plot_task(task, y, tmp_path / "t.png")
    drawn = [axes for axes in figures[0].axes if axes.images]
    assert len(drawn) == 3 * (1 + 2)  # A support image and two queries a class.
    np.testing.assert_array_equal(drawn[0].images[0].get_array(), x[0, ..., 0])
    assert drawn[0].get_title(loc="left") == "support"


def test_a_task_of_numbers_has_both_sets_and_others_are_tables(tmp_path, monkeypatch):
    figures = captured(monkeypatch)
    x = np.linspace(-1, 1, 5)[:, None]
    task = {"support_x": x, "support_y": x**2, "query_x": -x}
    plots.plot_task(task, x**3, tmp_path / "t.png")
    support, query = figures[0].axes[0].lines
    np.testing.assert_array_equal(support.get_ydata(), (x**2).ravel())
    np.testing.assert_array_equal(query.get_xdata(), -x.ravel())
    rows = {**task, "support_x": np.full([5, 7], 0.5), "query_x": np.ones([5, 7])}
    plots.plot_task(rows, x, tmp_path / "rows.png")
    (table,) = figures[1].axes[0].texts
    assert "support: 5 examples" in table.get_text()
    assert "  0.5 0.5 0.5 0.5 0.5 0.5 0.5 -> 1\n" in table.get_text()


def test_the_backend_of_the_process_stays(tmp_path, monkeypatch):
    import matplotlib
    from matplotlib import pyplot

    # A notebook has another one, and its figures are pyplot's.
    monkeypatch.setattr(matplotlib, "use", pytest.fail)
    monkeypatch.setattr(pyplot, "close", pytest.fail)
    open_before = pyplot.get_fignums()
    plots.plot_curves({"a": evaluation(0)}, tmp_path / "c.png")
    assert pyplot.get_fignums() == open_before
