"""Writes adaptation curves to TensorBoard while `fit` runs."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import tensorflow as tf

from maml_keras.evaluation.batches import check_repeatable
from maml_keras.evaluation.evaluate import evaluate_episodes
from maml_keras.evaluation.result import Evaluation


class AdaptationCurves(keras.callbacks.Callback):
    """Writes the metric at each adaptation step, on fixed tasks, after every epoch.

    The scalars are `adaptation/<metric>/step_0`, `step_1`, ...; step 0 is before
    adaptation. `adaptation/diverged` is the number of diverged tasks. The mean after
    the last step also goes to the epoch's logs, as `adapted_<metric>`.

    Args:
        episodes: a finite dataset of batches `(task, query_y)` to adapt to.
        log_dir: str or path, TensorBoard's folder; the scalars go to its subfolder
            `adaptation`.
        steps: int, adaptation steps; None for the number in training.
        num_tasks: int, tasks in each measurement.
        every: int, epochs between two measurements.

    Raises:
        ValueError: if `every` is not positive, or the episodes can be drawn only once.

    >>> import maml_keras as mk
    >>> tasks = mk.data.Sinusoid()
    >>> episodes = mk.data.episodes(tasks, batch_size=4, seed=0, num_episodes=8)
    >>> callbacks = [AdaptationCurves(episodes, "logs", every=5)]  # For `maml.fit`.
    """

    def __init__(
        self,
        episodes: Any,
        log_dir: str | pathlib.Path,
        *,
        steps: int | None = None,
        num_tasks: int = 100,
        every: int = 1,
    ) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"`every` must be positive. Received: every={every}.")
        check_repeatable(episodes)
        self.episodes = episodes
        self.log_dir = pathlib.Path(log_dir) / "adaptation"
        self.steps = steps
        self.num_tasks = num_tasks
        self.every = every
        self._writer: Any = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures the curve and writes it."""
        if (epoch + 1) % self.every:
            return
        result = evaluate_episodes(
            self.model,
            self.episodes,
            steps=self.steps,
            num_tasks=self.num_tasks,
            verbose=0,
        )
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.log_dir))
        write_curve(
            self._writer, result, step=int(self.model.optimizer.iterations.numpy())
        )
        if logs is not None:
            logs[f"adapted_{result.metric}"] = result.mean

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def write_curve(writer: Any, result: Evaluation, *, step: int) -> None:
    """Writes one evaluation's curve and its diverged tasks as scalars.

    >>> import os, tempfile
    >>> curve, diverged = np.array([[2.0, 0.5], [1.0, 0.3]]), np.zeros([2, 2], bool)
    >>> result = Evaluation("loss", curve, diverged, "transductive", 5, False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_curve(tf.summary.create_file_writer(folder), result, step=0)
    ...     len(os.listdir(folder))
    1
    """
    with writer.as_default(step=step):
        curve_scalars(result)
        tf.summary.scalar(
            "adaptation/diverged", result.diverged[-1], description=result.caption
        )
    writer.flush()


def curve_scalars(result: Evaluation, prefix: str = "adaptation") -> None:
    """Writes the mean at each adaptation step to the current writer, each as a tag."""
    for k, value in enumerate(result.curve):
        tag = f"{prefix}/{result.metric}/step_{k}"
        tf.summary.scalar(tag, value, description=result.caption)
