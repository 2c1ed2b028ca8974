"""The reliability diagram has a bar for each bin at its accuracy."""

import numpy as np

from maml_keras.evaluation import reliability_plot
from maml_keras.evaluation.calibration import BINS, Calibration


def test_a_bar_for_each_bin_that_has_queries(tmp_path, monkeypatch):
    statistics = np.zeros([1, 1, 3 * BINS + 3])
    # Bin 5 has 4 queries, bin 14 has 40.
    statistics[0, 0, [5, 14]] = 4, 40
    statistics[0, 0, [BINS + 5, BINS + 14]] = 4 * 0.37, 40 * 0.97
    statistics[0, 0, [2 * BINS + 5, 2 * BINS + 14]] = 3, 20
    found = Calibration(statistics, np.zeros([1, 1], bool))
    drawn = []
    saved = reliability_plot.saved

    def kept(figure, path):
        drawn.append(figure)
        return saved(figure, path)

    monkeypatch.setattr(reliability_plot, "saved", kept)
    path = tmp_path / "reliability.png"
    both = {"maml": found, "anil": found}
    assert reliability_plot.plot_reliability(both, path) == path
    assert path.stat().st_size > 10_000
    above = drawn[0].axes[0]
    assert [bar.get_height() for bar in above.patches] == [0.75, 0.5]
    assert above.get_title().startswith("maml\nECE")
    assert len(drawn[0].axes) == 4
