"""`Watch`, a callback that shows in TensorBoard and in the log how a model adapts."""

from __future__ import annotations

import collections
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from maml_keras.evaluation.batches import check_repeatable
from maml_keras.evaluation.trace import InnerTrace, trace_inner_loop
from maml_keras.inner.starts import Initialisation
from maml_keras.monitoring import figures
from maml_keras.monitoring.diagnoses import Diagnosis, Finding, all_diagnoses
from maml_keras.monitoring.look import Look, learned_rates, main_of
from maml_keras.monitoring.pictures import Episodes, Fits, NormMap, RateMap
from maml_keras.monitoring.references import Weights, traces_of, untrained_weights
from maml_keras.monitoring.tensorboard_layout import Layout
from maml_keras.monitoring.time_budget import Pace
from maml_keras.monitoring.views import Board, Curves, Norms, Rates, SupportGap, View

logger = logging.getLogger(__name__)

# Looks that a diagnosis may read.
REMEMBERED = 5
# About how often `Watch` looks in a run, beside the first and the last look.
LOOKS = 20
# Looks from one with pictures to the next: drawing takes three times as long as the
# rest of a look.
PICTURES_EVERY = 5


class Watch(keras.callbacks.Callback):
    """Shows how a model learns to adapt, next to `keras.callbacks.TensorBoard`.

    After an epoch `Watch` looks at the model: the model adapts to fixed tasks, and
    TensorBoard gets the numbers of each inner step. These are query loss and metric,
    norms of gradients and updates by layer, learned rates, diverged tasks, the gap
    between support and query set, and pictures of tasks. If the numbers show a problem,
    a sentence about it appears once in the log and on TensorBoard's page Text. Looks do
    not change the training.

    `Watch` looks after the first epoch and the last, and about 20 times between them if
    the looks take no more than `share` of the training time. With `every` it looks
    regularly, at any cost. A look adds the mean after the last step to the logs of its
    epoch as `adapted_<metric>`, with `adapted_<metric>_half_width`.

    Args:
        log_dir: str or path, TensorBoard's folder; everything goes to its subfolder
            `adaptation`.
        episodes: a finite dataset of batches `(task, query_y)`, which is called
            `"validation"`; or several by name, `{"train": .., "validation": ..}`. The
            logs get the mean of `"validation"`, or else of the last dataset.
        steps: int, adaptation steps; None for the number in training.
        num_tasks: int, tasks of each dataset in one look.
        every: int, epochs between two looks; None for as many looks as `share` allows.
        share: float, the share of the training time that looks may take. The first
            look, which compiles, and the last are not counted.
        metric: as in `evaluate_episodes`.
        views: a list of `View`; None for all of them.
        pictures: a list of `View` that draw, used in the first look, in every fifth
            look after it and in the last; None for all of them. Without matplotlib
            they are skipped.
        diagnoses: a list of `Diagnosis`; None for all of them.
        verbose: 0 for silence, 1 for a bar if a look takes more than two seconds;
            "auto" for a bar if `fit` has one.

    Raises:
        TypeError: if `log_dir` is not a path.
        ValueError: if there are no episodes, they can be drawn only once, `every` is
            not positive, or `share` is negative.

    >>> import maml_keras as mk
    >>> tasks = mk.data.Sinusoid()
    >>> episodes = mk.data.episodes(tasks, batch_size=4, seed=0, num_episodes=8)
    >>> callbacks = [Watch("logs", episodes, num_tasks=8)]  # For `maml.fit`.
    """

    def __init__(
        self,
        log_dir: str | pathlib.Path,
        episodes: Any,
        *,
        steps: int | None = None,
        num_tasks: int = 100,
        every: int | None = None,
        share: float = 0.1,
        metric: Any = None,
        views: Sequence[View] | None = None,
        pictures: Sequence[View] | None = None,
        diagnoses: Sequence[Diagnosis] | None = None,
        verbose: str | int = "auto",
    ) -> None:
        super().__init__()
        if not isinstance(log_dir, (str, os.PathLike)):
            raise TypeError(
                "`log_dir` must be the path of a folder, and `episodes` the second "
                f"argument. Received: log_dir of type {type(log_dir).__name__}."
            )
        if not isinstance(episodes, Mapping):
            episodes = {"validation": episodes}
        if not episodes:
            raise ValueError("`episodes` must name at least one dataset. Received: {}.")
        for part in episodes.values():
            check_repeatable(part)
        if every is not None and every < 1:
            raise ValueError(f"`every` must be positive. Received: every={every}.")
        if not share >= 0.0:
            raise ValueError(
                f"`share` must be 0 or more, such as 0.1. Received: share={share}."
            )
        self.episodes = dict(episodes)
        self.steps = steps
        self.num_tasks = num_tasks
        self.every = every
        self.metric = metric
        self.verbose = verbose
        self.views = (
            [Curves(), SupportGap(), Norms(), Rates(), Layout()]
            if views is None
            else list(views)
        )
        self.pictures = (
            [Fits(), Episodes(), NormMap(), RateMap()]
            if pictures is None
            else list(pictures)
        )
        self.diagnoses = all_diagnoses() if diagnoses is None else list(diagnoses)
        self.findings: dict[str, tuple[int, Finding]] = {}
        self._board = Board(pathlib.Path(log_dir) / "adaptation")
        self._looks: collections.deque[Look] = collections.deque(maxlen=REMEMBERED)
        self._count = 0
        self._left_out = 0
        self._untrained: Mapping[str, Weights] = {}
        self._references: dict[str, InnerTrace] = {}
        self._resumed = False
        self._unreported: list[Finding] = []
        self._pace = Pace(share)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Records the initial values of learned rates and of the network."""
        rates = learned_rates(self.model)
        self._start = None if rates is None else rates.table
        # Only the first look needs these weights.
        self._untrained = {} if self._count else untrained_weights(self.model)
        if self.pictures and not figures.can_draw():
            logger.warning(
                "No pictures in TensorBoard: they need matplotlib (`pip install "
                "'maml_keras[plot]'`). Everything else is written."
            )
            self.pictures = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reports the findings of the last look: `fit`'s bar has ended its line now."""
        if not self._count:
            self._resumed = epoch > 0
        self._report()
        self._pace.start()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks, judges and writes, if a look is due."""
        self._pace.stop()
        self._left_out += int((logs or {}).get("bad_tasks", 0))
        epochs = self.params.get("epochs") or 1
        # Another callback may have ended training before the last epoch.
        last = epoch + 1 == epochs or self.model.stop_training
        if not (last or self._is_due(epoch, epochs)):
            return
        with self._pace.spending("looks"):
            look = self._look(1.0 if last else (epoch + 1) / epochs)
            self._left_out = 0
            self._looks.append(look)
            self._board.step = look.iteration
            self._write(look, self.views)
            self._judge(look)
        if last or self._draws():
            with self._pace.spending("pictures"):
                self._write(look, self.pictures)
        self._board.flush()
        self._count += 1
        if logs is not None:
            main = look.traces[look.main]
            query = main.query()
            logs[f"adapted_{main.metric}"] = query.mean
            logs[f"adapted_{main.metric}_half_width"] = query.half_width

    def _is_due(self, epoch: int, epochs: int) -> bool:
        if self.every is not None:
            return (epoch + 1) % self.every == 0
        regular = (epoch + 1) % max(1, epochs // LOOKS) == 0
        return not self._count or (regular and self._pace.affords("looks"))

    def _draws(self) -> bool:
        at_any_cost = self._count == 0 or self.every is not None
        regular = self._count % PICTURES_EVERY == 0
        return regular and (at_any_cost or self._pace.affords("pictures"))

    def _write(self, look: Look, views: Sequence[View]) -> None:
        for view in views:
            view.write(look, self._board, self.model)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Reports the remaining findings and closes the files."""
        self._report()
        self._board.close()

    def _look(self, progress: float) -> Look:
        maml, verbose = self.model, self.verbose
        if verbose == "auto":
            verbose = int(self.params.get("verbose") in (1, "auto"))

        def trace(episodes: Any, verbose: Any = verbose) -> InnerTrace:
            return trace_inner_loop(
                maml,
                episodes,
                steps=self.steps,
                num_tasks=self.num_tasks,
                metric=self.metric,
                verbose=verbose,
            )

        traces = {part: trace(episodes) for part, episodes in self.episodes.items()}
        if self._untrained:
            main = self.episodes[main_of(traces)]
            untrained, self._untrained = self._untrained, {}
            self._references = traces_of(maml, untrained, lambda: trace(main, 0))
        return Look(
            iteration=int(maml.optimizer.iterations.numpy()),
            traces=traces,
            rates=learned_rates(maml, self._start),
            trained_steps=maml.inner.steps,
            blank_start=isinstance(maml.inner.start_from, Initialisation),
            bad_tasks=self._left_out,
            references=self._references,
            progress=progress,
        )

    def _judge(self, look: Look) -> None:
        news = []
        for diagnosis in self.diagnoses:
            finding = diagnosis(list(self._looks))
            if finding is not None and finding.title not in self.findings:
                self.findings[finding.title] = look.iteration, finding
                news.append(finding)
        self._unreported += news
        # A resumed run has a page already, whose findings must stay.
        first = self._count == 0 and not self._resumed
        if news or first:
            with self._board.part():
                tf.summary.text("diagnoses", _page(self.findings))

    def _report(self) -> None:
        for finding in self._unreported:
            logger.warning("%s", finding)
        self._unreported = []


def _page(findings: Mapping[str, tuple[int, Finding]]) -> str:
    """The findings in Markdown."""
    if not findings:
        return "Nothing to report so far."
    rows = [
        f"| {iteration:,} | **{f.title}**. {f.text} | {f.remedy} |"
        for iteration, f in findings.values()
    ]
    head = ["| after meta-steps | what the numbers say | what to do |", "|---|---|---|"]
    return "\n".join([*head, *rows])
