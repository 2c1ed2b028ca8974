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
    """

    def __init__(self) -> None:
        self._written = False

    def write(self, look: Look, board: Board, maml: MAML) -> None:
        if self._written:
            return
        self._written = True
        first = next(iter(look.traces.values()))
        with board.part():
            layout = _layout(first.metric, first.steps, look.rates is not None)
            tf.summary.experimental.write_raw_pb(_summary(layout))


# By the chart's title: a regular expression for its tags, or a list of tags that are
# drawn with a band.
Charts = dict[str, str | list[str]]


def _layout(metric: str, steps: int, learns_rates: bool) -> dict[str, Charts]:
    """The charts of each section of the page."""
    # TensorBoard shows charts with bands last in their section, so the most important
    # chart has a section of its own.
    story = f"query {metric} before adaptation, after the first and the last inner step"
    tags = [f"{metric}/step_{k}" for k in main_steps(steps)]
    charts: Charts = {
        f"query {metric} at every inner step": f"adaptation/{metric}/step_",
        "gap after adaptation: query minus support": "gap/",
        "tasks that diverged": "adaptation/diverged",
    }
    if metric != "loss":
        charts["query loss at every inner step"] = "adaptation/loss/step_"
    sections: dict[str, Charts] = {
        "Does it learn to adapt?": {f"{story}; 95% interval over tasks": tags},
        "How do all steps do?": charts,
        "What do the inner steps do?": {
            "norm of the inner gradient, by layer": "inner_gradient/",
            "norm of the inner update, by layer": "inner_update/",
            "support loss at every inner step": "support/loss/step_",
        },
    }
    if learns_rates:
        sections["Which inner rates are learned?"] = {
            "learned inner rate, by layer": "inner_rate/"
        }
    return sections


def _summary(sections: dict[str, Charts]) -> Any:
    # Imported here, because the import takes a second.
    from tensorboard.plugins.custom_scalar import layout_pb2, summary

    layout = layout_pb2.Layout()
    for title, charts in sections.items():
        category = layout.category.add(title=title)
        for name, shown in charts.items():
            chart = category.chart.add(title=name)
            if isinstance(shown, str):
                chart.multiline.tag.append(shown)
                continue
            for tag in shown:
                chart.margin.series.add(
                    value=f"adaptation/{tag}",
                    lower=f"interval/{tag}/lower",
                    upper=f"interval/{tag}/upper",
                )
    return summary.pb(layout).SerializeToString()
