"""The reliability diagram has a bar for each bin at its accuracy."""

import numpy as np
import pytest

from maml_keras.evaluation import reliability_plot
from maml_keras.evaluation.calibration import BINS, Calibration


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved."""
    figures = []
    saved = reliability_plot.saved

    def kept(figure, path):
        figures.append(figure)
        return saved(figure, path)

    monkeypatch.setattr(reliability_plot, "saved", kept)
    return figures


def test_a_bar_for_each_bin_that_has_queries(tmp_path, drawn):
    statistics = np.zeros([1, 1, 3 * BINS + 3])
    # Bin 5 has 4 queries, bin 14 has 40.
    statistics[0, 0, [5, 14]] = 4, 40
    statistics[0, 0, [BINS + 5, BINS + 14]] = 4 * 0.37, 40 * 0.97
    statistics[0, 0, [2 * BINS + 5, 2 * BINS + 14]] = 3, 20
    found = Calibration(statistics, np.zeros([1, 1], bool))
    path = tmp_path / "reliability.png"
    both = {"maml": found, "anil": found}
    assert reliability_plot.plot_reliability(both, path) == path
    assert path.stat().st_size > 10_000
    above = drawn[0].axes[0]
    assert [bar.get_height() for bar in above.patches] == [0.75, 0.5]
    assert above.get_title().startswith("maml\nECE")
    assert len(drawn[0].axes) == 4


@pytest.mark.parametrize("models", [1, 2, 3])
def test_the_legend_lies_within_the_picture(models, tmp_path, drawn):
    statistics = np.ones([1, 1, 3 * BINS + 3])
    found = Calibration(statistics, np.zeros([1, 1], bool))
    of_each = {f"model {i}": found for i in range(models)}
    reliability_plot.plot_reliability(of_each, tmp_path / "reliability.png")
    legend = drawn[0].legends[0].get_window_extent()
    assert legend.x0 >= 0
    assert legend.x1 <= drawn[0].bbox.width
