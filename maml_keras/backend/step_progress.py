"""How far an inner loop inside a graph is, shown to whoever waits for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.progress import Bar

# Seconds between two looks at how far it is.
LOOK = 0.2


class StepReport:
    """A place where a graph writes how far it is, and a bar that reads it.

    Args:
        place: None, or the variable that a graph writes to already.

    >>> report = StepReport()
    >>> with report.shown(3):
    ...     report.write(3, loss=0.5).numpy().tolist()
    [3.0, 0.5]
    """

    def __init__(self, place: tf.Variable | None = None) -> None:
        # Steps taken, and the support loss that the last of them began with.
        self.place = (
            tf.Variable([0.0, 0.0], name="progress", trainable=False)
            if place is None
            else place
        )

    def write(self, steps: Any, loss: Any) -> Any:
        """Reports; to be run in the graph after each step.

        Args:
            steps: int tensor, how many have been taken.
            loss: scalar, the support loss that the last one began with.

        Returns:
            A tensor that is there once it is written.
        """
        numbers = [tf.cast(steps, tf.float32), tf.cast(loss, tf.float32)]
        return tf.identity(self.place.assign(numbers))

    @contextlib.contextmanager
    def shown(self, total: int, *, verbose: str | int = "auto") -> Iterator[None]:
        """Shows a bar of the steps, around one call that takes all of them.

        The call keeps its thread busy, so another one looks where it stands.

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
            # To show the same count again would start the clock of the bar anew.
            if taken != last or not bar.shown:
                # Before the first step there is no loss to tell.
                bar.update(int(taken), {"loss": loss} if taken else {})
            last = int(taken)
            return last

        def keep_looking() -> None:
            if not interactive:  # Keras asks each thread for itself.
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
            # A call that was refused, or interrupted, stops short of the total.
            bar.finish(look())
