"""Views: small objects that each write one aspect of a look to TensorBoard."""

from __future__ import annotations

import abc
import contextlib
import pathlib
from typing import Any, final

import numpy as np
import tensorflow as tf

from maml_keras.monitoring.adaptation_curves import curve_scalars
from maml_keras.monitoring.look import Look
from maml_keras.outer.maml import MAML

__all__ = ["Board", "Curves", "Norms", "Rates", "SupportGap", "View"]


class Board:
    """The TensorBoard runs that views write to: the model's, and one a dataset.

    Args:
        folder: TensorBoard's folder.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     board = Board(folder)
    ...     with board.part("validation"):
    ...         written = tf.summary.scalar("temperature", 20.0)
    ...     board.close()
    ...     os.listdir(folder)
    ['validation']
    """

    def __init__(self, folder: str | pathlib.Path) -> None:
        self.folder = pathlib.Path(folder)
        self.step = 0
        self._writers: dict[str, Any] = {}

    def part(self, name: str = "") -> contextlib.AbstractContextManager[Any]:
        """A context in which `tf.summary` writes to a dataset's run.

        The name `""` stands for the model's run.

        >>> import tempfile
        >>> board = Board(tempfile.mkdtemp())
        >>> with board.part("validation"):
        ...     written = tf.summary.scalar("gap/loss", 0.5)
        >>> board.close()
        >>> [path.name for path in board.folder.iterdir()]
        ['validation']
        """
        if name not in self._writers:
            path = self.folder / name
            self._writers[name] = tf.summary.create_file_writer(str(path))
        return self._writers[name].as_default(step=self.step)  # type: ignore[no-any-return]

    def flush(self) -> None:
        """Writes everything to the disk."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Closes the files; a later write opens new ones."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}


def main_steps(steps: int) -> list[int]:
    """The most important numbers of inner steps: 0, 1 and the last.

    >>> main_steps(10), main_steps(1), main_steps(0)
    ([0, 1, 10], [0, 1], [0])
    """
    return sorted({0, min(1, steps), steps})


class View(abc.ABC):
    """Writes one aspect of a look.

    >>> class Progress(View):
    ...     def write(self, look, board, maml):
    ...         with board.part():
    ...             tf.summary.scalar("progress", look.progress)
    >>> from maml_keras import Watch
    >>> watch = Watch("logs", [], views=[Progress(), Curves()])
    """

    @abc.abstractmethod
    def write(self, look: Look, board: Board, maml: MAML) -> None:
        """Writes summaries, if there is something to show.

        Args:
            look: the numbers to show.
            board: the place to write to, `with board.part("validation"): ...`.
            maml: the model in training, which a view must not change.
        """


@final
class Curves(View):
    """Query metric and loss before adaptation and after each inner step.

    Writes `bad_tasks`, the number of training tasks that were left out since the last
    look, if there were any. Writes `adaptation/<metric>/step_0`, `step_1`, ... and
    `adaptation/diverged`, the number of tasks that diverged by the last step.
    `interval/<metric>/step_0/lower` and `upper` bound the 95% confidence interval of
    the mean over tasks, and `mean` is this mean again. Intervals are written before
    adaptation, after the first step and after the last step.

    >>> from maml_keras import Watch
    >>> watch = Watch("logs", [], views=[Curves()])
    """

    def write(self, look: Look, board: Board, maml: MAML) -> None:
        if look.bad_tasks:
            with board.part():
                tf.summary.scalar("bad_tasks", look.bad_tasks)
        for part, trace in look.traces.items():
            with board.part(part):
                for metric in dict.fromkeys([trace.metric, "loss"]):
                    curve_scalars(trace.query(metric))
                result = trace.query()
                for k in main_steps(trace.steps):
                    tag = f"interval/{trace.metric}/step_{k}"
                    mean, half = result.curve[k], result.half_widths[k]
                    bounds = {"lower": mean - half, "mean": mean, "upper": mean + half}
                    for bound, value in bounds.items():
                        tf.summary.scalar(
                            f"{tag}/{bound}", value, description=result.caption
                        )
                diverged = trace.diverged[:, -1].sum()
                tf.summary.scalar(
                    "adaptation/diverged", diverged, description=result.caption
                )


@final
class SupportGap(View):
    """Support metric and loss at each inner step, and the gap to the query set.

    Writes `support/<metric>/step_0`, ... and `gap/<metric>`, which is query minus
    support after the last step. A growing gap means that the steps overfit the support
    set.

    >>> from maml_keras import Watch
    >>> watch = Watch("logs", [], views=[SupportGap()])
    """

    def write(self, look: Look, board: Board, maml: MAML) -> None:
        for part, trace in look.traces.items():
            with board.part(part):
                for metric in dict.fromkeys([trace.metric, "loss"]):
                    query, support = trace.query(metric), trace.support(metric)
                    curve_scalars(support, "support")
                    gap = query.mean - support.mean
                    tf.summary.scalar(f"gap/{metric}", gap, description=query.caption)


@final
class Norms(View):
    """Norms of each layer's inner gradients and updates, averaged over tasks and steps.

    Writes `inner_gradient/<layer>` and `inner_update/<layer>`. Diverged tasks are left
    out.

    >>> from maml_keras import Watch
    >>> watch = Watch("logs", [], views=[Norms()])
    """

    def write(self, look: Look, board: Board, maml: MAML) -> None:
        for part, trace in look.traces.items():
            kept = ~trace.diverged.any(axis=1)
            if not kept.any() or not trace.steps:
                continue
            with board.part(part):
                for name, norms in (
                    ("inner_gradient", trace.gradient_norms),
                    ("inner_update", trace.update_norms),
                ):
                    means = norms[kept].mean(axis=(0, 1))
                    for layer, value in zip(trace.layers, means):
                        tf.summary.scalar(f"{name}/{layer}", value)


@final
class Rates(View):
    """The learned inner rates, if the rule learns any.

    Writes the mean of a layer's rates as `inner_rate/<layer>`; if each step has its own
    rates, as `inner_rate/<layer>/step_1`, ... instead. If each weight has its own rate,
    `inner_rates/<layer>` is their histogram.

    >>> from maml_keras import Watch
    >>> watch = Watch("logs", [], views=[Rates()])
    """

    def write(self, look: Look, board: Board, maml: MAML) -> None:
        if look.rates is None:
            return
        rows = len(look.rates.table)
        with board.part():
            for layer, column in zip(look.rates.layers, look.rates.table.T):
                for k, value in enumerate(column):
                    step = f"/step_{k + 1}" if rows > 1 else ""
                    tf.summary.scalar(f"inner_rate/{layer}{step}", value)
                values = look.rates.values[layer]
                if rows == 1 and values.size > 1 and np.isfinite(values).all():
                    tf.summary.histogram(f"inner_rates/{layer}", values)
