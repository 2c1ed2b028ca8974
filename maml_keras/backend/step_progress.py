"""A progress bar for an inner loop that runs inside a graph."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.progress import Bar

# Seconds between two reads of the progress.
LOOK = 0.2


class StepReport:
    """A variable to which a graph writes its progress, and a bar that reads it.

    Args:
        place: None, or the variable to which a graph writes already.

    >>> report = StepReport()
    >>> with report.shown(3):
    ...     report.write(3, loss=0.5).numpy().tolist()
    [3.0, 0.5]
    """

    def __init__(self, place: tf.Variable | None = None) -> None:
        # The number of steps taken, and the support loss before the last step.
        self.place = (
            tf.Variable([0.0, 0.0], name="progress", trainable=False)
            if place is None
            else place
        )

    def write(self, steps: Any, loss: Any) -> Any:
        """Writes the progress; the graph runs this operation after each step.

        Args:
            steps: int tensor, the number of steps taken.
            loss: scalar, the support loss before the last step.

        Returns:
            A tensor that is ready once the progress is written.
        """
        numbers = [tf.cast(steps, tf.float32), tf.cast(loss, tf.float32)]
        return tf.identity(self.place.assign(numbers))

    @contextlib.contextmanager
    def shown(self, total: int, *, verbose: str | int = "auto") -> Iterator[None]:
        """Shows a bar during one call that takes all steps.

        The call occupies its thread, so another thread reads the progress.

        Args:
            total: int, steps of the call.
            verbose: 0 for silence, else a bar once two seconds have passed.
        """
        if total < 1 or not verbose:
            yield
            return
        self.place.assign([0.0, 0.0])
        bar = Bar(total, unit="step", verbose=verbose)
        ended = threading.Event()
        interactive = keras.config.is_interactive_logging_enabled()
        last = 0

        def look() -> int:
            nonlocal last
            taken, loss = (float(number) for number in self.place.numpy())
            # Showing the same count twice would restart the clock of the bar.
            if taken != last or not bar.shown:
                # Before the first step there is no loss to show.
                bar.update(int(taken), {"loss": loss} if taken else {})
            last = int(taken)
            return last

        def keep_looking() -> None:
            if not interactive:  # Keras keeps this setting for each thread.
                keras.config.disable_interactive_logging()
            while not ended.wait(LOOK):
                look()

        watcher = threading.Thread(target=keep_looking, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            # A call that failed or was interrupted ends before the total.
            bar.finish(look())
