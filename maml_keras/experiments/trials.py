"""One trial of a search: trained with changed settings, judged on validation tasks."""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from maml_keras.backend import documents
from maml_keras.evaluation.result import DIVERGED_RATIO, Evaluation
from maml_keras.experiments import fixed_tasks, runs
from maml_keras.experiments.preset import Families, Preset
from maml_keras.monitoring.epoch_log import EpochLog
from maml_keras.outer.backup import WholeBackup
from maml_keras.outer.bad_task_policies import BadTaskError
from maml_keras.outer.maml import MAML

logger = logging.getLogger(__name__)

FINISHED, STOPPED, DIVERGED = "finished", "stopped", "diverged"
OUTCOME = "outcome.json"
# A trial is stopped from this share of its epochs on, and only if so many earlier
# trials tell what is usual.
FROM_SHARE, EARLIER = 0.5, 4


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one trial ended.

    Attributes:
        changes: the tried settings by name.
        end: `"finished"`, `"stopped"` because other trials were better at the same
            point, or `"diverged"`.
        epochs: int, trained epochs.
        score: float, the mean over all validation tasks, in which a diverged task has
            the least bad value that a diverged task can have: an accuracy of 0, or a
            loss of 100 times the mean before adaptation.
        mean: float, the mean over the tasks that did not diverge.
        half_width: float, of the mean's 95% interval over tasks.
        diverged_tasks: int, diverged validation tasks.

    >>> Outcome({"steps": 3}, "finished", 20, 0.5, 0.5, 0.1, 0).row()["steps"]
    3
    """

    changes: dict[str, Any]
    end: str
    epochs: int
    score: float
    mean: float
    half_width: float
    diverged_tasks: int

    def row(self) -> dict[str, Any]:
        """The outcome as plain data; what is not finite is None."""
        figures = dataclasses.asdict(self)
        row = {**figures.pop("changes"), **figures}
        return {
            k: None if isinstance(v, float) and not np.isfinite(v) else v
            for k, v in row.items()
        }


@dataclasses.dataclass(frozen=True)
class Training:
    """What all trials of a search share.

    Attributes:
        preset: the preset.
        algorithm: str, the name of a recipe.
        families: training and validation tasks; the test tasks are not used.
        iterations: int, meta-steps of a whole training, for the outer schedule.
        epoch: int, meta-steps between two looks at validation tasks.
        seed: int, draws weights and training episodes, the same in all trials.
        num_tasks: int, validation tasks.
    """

    preset: Preset
    algorithm: str
    families: Families
    iterations: int
    epoch: int
    seed: int
    num_tasks: int

    @property
    def epochs(self) -> int:
        """Epochs of a whole training."""
        return self.iterations // self.epoch

    def untrained(self) -> Evaluation:
        """The untrained network before adaptation, which learnt nothing."""
        return self._evaluated(self._built({}), 0)

    def run(
        self,
        changes: dict[str, Any],
        folder: pathlib.Path,
        *,
        epochs: int,
        is_bad: Callable[[int, float], bool],
        higher_is_better: bool,
    ) -> Outcome:
        """Trains one trial, or continues it where it was interrupted.

        Args:
            changes: the settings to try.
            folder: the trial's folder, which gets a backup and the log of its epochs.
            epochs: int, after how many epochs the trial ends.
            is_bad: `f(epochs, score)` tells whether to stop.
            higher_is_better: bool, whether higher scores are better.
        """
        maml = self._built(changes)
        look = _Look(self._evaluated, is_bad, higher_is_better)
        log = EpochLog(folder / runs.HISTORY)
        backup = WholeBackup(folder / runs.BACKUP, delete_checkpoint=False)
        end = FINISHED
        try:
            maml.fit(
                self.preset.episodes(self.algorithm, self.families, self.seed),
                steps_per_epoch=self.epoch,
                epochs=epochs,
                verbose=0,
                callbacks=[look, log, backup],
            )
            end = look.end
        except BadTaskError as error:
            logger.info("A trial diverged in training: %s", documents.reason(error))
            end = DIVERGED
        done = runs.history(folder)
        last = done[-1] if done else {}
        worst = -np.inf if higher_is_better else np.inf
        outcome = Outcome(
            changes,
            end,
            len(done),
            worst if end == DIVERGED else last["score"],
            last.get("mean", float("nan")),
            last.get("half_width", float("nan")),
            int(last.get("diverged_tasks", 0)),
        )
        write(folder, outcome)
        return outcome

    def _built(self, changes: Mapping[str, Any]) -> MAML:
        keras.utils.set_random_seed(self.seed)
        preset = self.preset.with_changes(self.algorithm, **changes)
        return preset.build(self.algorithm, self.iterations)

    def _evaluated(self, maml: MAML, steps: int | None = None) -> Evaluation:
        return fixed_tasks.evaluate_on(
            maml,
            self.families,
            on="validation",
            steps=self.preset.evaluation_steps if steps is None else steps,
            num_tasks=self.num_tasks,
            verbose=0,
        )


class _Look(keras.callbacks.Callback):
    """Judges a trial after each epoch, and stops one that is bad or diverged.

    Args:
        evaluated: `f(maml)` evaluates on validation tasks.
        is_bad: `f(epochs, score)` tells whether to stop.
        higher_is_better: bool, whether higher scores are better.
    """

    def __init__(
        self,
        evaluated: Callable[[MAML], Evaluation],
        is_bad: Callable[[int, float], bool],
        higher_is_better: bool,
    ) -> None:
        super().__init__()
        self.evaluated = evaluated
        self.is_bad = is_bad
        self.higher_is_better = higher_is_better
        self.end = FINISHED

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds `score`, `mean`, `half_width` and `diverged_tasks` to the logs."""
        result = self.evaluated(self.model)
        found = score(result)
        figures = {
            "score": found,
            "mean": result.mean,
            "half_width": result.half_width,
            "diverged_tasks": int(result.diverged[-1]),
        }
        if logs is not None:
            logs.update(figures)
        if 2 * result.diverged[-1] >= result.num_tasks:
            self.end = DIVERGED
        elif self.is_bad(epoch + 1, found):
            self.end = STOPPED
        self.model.stop_training = self.model.stop_training or self.end != FINISHED


def score(result: Evaluation) -> float:
    """The mean of all tasks; a diverged one has the best value that it could have.

    An accuracy is at least 0. A diverged task has a loss that is not finite, or above
    100 times the mean before adaptation.

    >>> diverged = np.array([[False, False], [False, True]])
    >>> values = np.array([[2.0, 1.0], [2.0, np.inf]])
    >>> score(Evaluation("loss", values, diverged, "layer", 5, False))  # (1 + 200) / 2
    100.5
    """
    lost, values = result.diverged_tasks[:, -1], result.per_episode[:, -1]
    if not lost.any():
        return float(values.mean())
    start = result.per_episode[:, 0]
    start = start[np.isfinite(start)].mean() if np.isfinite(start).any() else np.inf
    limit = DIVERGED_RATIO * start if start > 0.0 else np.inf
    worst = 0.0 if result.higher_is_better else limit
    return float(np.where(lost, worst, values).mean())


def is_worse_than_half(
    score: float, earlier: Sequence[Sequence[float]], epochs: int, *, higher: bool
) -> bool:
    """Whether a score is worse than the median of earlier trials at the same point.

    The rule of Google Vizier, with the last known score of a trial that ended before.

    Args:
        score: float, of this trial.
        earlier: the scores of each earlier trial after each epoch.
        epochs: int, trained epochs of this trial.
        higher: bool, whether higher scores are better.

    Reference: Golovin et al., 2017, https://doi.org/10.1145/3097983.3098043

    >>> curves = [[3.0, 1.0], [3.0, 2.0], [3.0, 3.0], [9.0]]
    >>> is_worse_than_half(2.0, curves, 2, higher=False)
    False
    >>> is_worse_than_half(2.6, curves, 2, higher=False)
    True
    """
    known = [curve[:epochs][-1] for curve in earlier if len(curve)]
    if len(known) < EARLIER:
        return False
    usual = float(np.median(known))
    return score < usual if higher else score > usual


def scores(folder: pathlib.Path, outcome: Outcome, *, higher: bool) -> list[float]:
    """The scores of an ended trial after each epoch; at last, that it diverged."""
    found = [row["score"] for row in runs.history(folder)]
    worst = -np.inf if higher else np.inf
    return [*found, worst] if outcome.end == DIVERGED else found


def forget(folder: pathlib.Path) -> None:
    """Removes the backup of a trial that nothing continues."""
    WholeBackup(folder / runs.BACKUP).remove()


def continue_from(folder: pathlib.Path, before: pathlib.Path) -> None:
    """Copies what an earlier trial trained, so that another one continues it."""
    for name in (runs.BACKUP, runs.HISTORY):
        source, target = before / name, folder / name
        if target.exists() or not source.exists():
            continue
        # Renamed at the end: an interruption leaves no half of a copy in its place.
        half = folder / f"{name}.half"
        if source.is_dir():
            shutil.rmtree(half, ignore_errors=True)
            shutil.copytree(source, half)
        else:
            shutil.copy(source, half)
        half.rename(target)


def write(folder: pathlib.Path, outcome: Outcome) -> None:
    """Writes how a trial ended into its folder, in one piece."""
    new = folder / f"{OUTCOME}.new"
    new.write_text(json.dumps(dataclasses.asdict(outcome)) + "\n", encoding="utf-8")
    new.replace(folder / OUTCOME)


def read(folder: pathlib.Path) -> Outcome | None:
    """How the trial in a folder ended; None if it has not ended.

    Raises:
        ValueError: if the file is damaged.
    """
    path = folder / OUTCOME
    if not path.exists():
        return None
    found = documents.read_json(path)
    names = {field.name for field in dataclasses.fields(Outcome)}
    if not isinstance(found, dict) or set(found) != names:
        raise ValueError(
            f"{path} must hold {', '.join(sorted(names))}. Received: {found!r:.80}. "
            "Remove the file, and the search runs the trial again."
        )
    return Outcome(**found)
