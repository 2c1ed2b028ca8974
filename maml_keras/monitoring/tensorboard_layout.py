"""The layout of TensorBoard's page "Custom Scalars"."""

from __future__ import annotations

from typing import Any, final

import tensorflow as tf

from maml_keras.monitoring.look import Look
from maml_keras.monitoring.views import Board, View, main_steps
from maml_keras.outer.maml import MAML


@final
class Layout(View):
    """Lays out the page Custom Scalars: does it adapt, and what do the steps do?

    The charts select scalars by tag, so they show all runs in TensorBoard's folder. The
    layout is written once.

    >>> import maml_keras as mk
    >>> watch = mk.Watch("logs", [], views=[Layout(), mk.views.Curves()])
    """

    def __init__(self) -> None:
        self._written = False

    def write(self, look: Look, board: Board, maml: MAML) -> None:
        if self._written:
            return
        self._written = True
        first = next(iter(look.traces.values()))
        with board.part():
            sections = _layout(first.metric, first.steps, look.rates is not None)
            bands = _bands(first.metric, first.steps)
            tf.summary.experimental.write_raw_pb(_summary(sections, bands))


# By the chart's title: a regular expression for the chart's tags.
Charts = dict[str, str]


def _bands(metric: str, steps: int) -> dict[str, str]:
    """By the chart's title: the tags of a mean and its interval, without the last part.

    >>> _bands("loss", 1)["query loss after 1 step; 95% interval over tasks"]
    'interval/loss/step_1'
    """
    when = {k: f"after {k} step" + "s" * (k > 1) for k in main_steps(steps)}
    when[0] = "before adaptation"
    return {
        f"query {metric} {said}; 95% interval over tasks": f"interval/{metric}/step_{k}"
        for k, said in when.items()
    }


def _layout(metric: str, steps: int, learns_rates: bool) -> dict[str, Charts]:
    """The charts of each section of the page."""
    story = f"query {metric} before adaptation, after the first and the last inner step"
    charts: Charts = {
        f"query {metric} at every inner step": f"adaptation/{metric}/step_",
        "gap after adaptation: query minus support": "gap/",
        "tasks that diverged": "adaptation/diverged",
    }
    if metric != "loss":
        charts["query loss at every inner step"] = "adaptation/loss/step_"
    sections: dict[str, Charts] = {
        "Does it learn to adapt?": {story: rf"interval/{metric}/step_\d+/mean"},
        "How do all steps do?": charts,
    }
    if steps:
        sections["What do the inner steps do?"] = {
            "norm of the inner gradient, by layer": "inner_gradient/",
            "norm of the inner update, by layer": "inner_update/",
            "support loss at every inner step": "support/loss/step_",
        }
    if learns_rates:
        sections["Which inner rates are learned?"] = {
            "learned inner rate, by layer": "inner_rate/"
        }
    return sections


def _summary(sections: dict[str, Charts], bands: dict[str, str]) -> Any:
    """The summary of a page: charts by section, then the bands of the first section."""
    # Imported here, because the import takes a second.
    from tensorboard.plugins.custom_scalar import layout_pb2, summary

    layout = layout_pb2.Layout()
    for title, charts in sections.items():
        category = layout.category.add(title=title)
        for name, tags in charts.items():
            category.chart.add(title=name).multiline.tag.append(tags)
    # TensorBoard shows the bands of a section in reverse order.
    # A chart has one band only. For several bands in a chart TensorBoard says "Missing
    # Tags" of every run without them, such as that of `keras.callbacks.TensorBoard`.
    for name, tag in reversed(bands.items()):
        layout.category[0].chart.add(title=name).margin.series.add(
            value=f"{tag}/mean", lower=f"{tag}/lower", upper=f"{tag}/upper"
        )
    return summary.pb(layout).SerializeToString()
