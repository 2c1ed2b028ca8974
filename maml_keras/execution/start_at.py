"""Where a stream of episodes begins, for an input pipeline on the processor."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import ResourceVariable


class StartAt(keras.callbacks.Callback):
    """Tells a stream to begin at the first episode that the model has not seen.

    The model's own counter is on several devices, where no input pipeline can read it.
    The callback reads the counter when training begins, so it must come behind a
    callback that restores a backup.

    Attributes:
        variable: scalar int64 `tf.Variable` on the CPU.
    """

    def __init__(self) -> None:
        super().__init__()
        # `tf.Variable` would make one for each device under the scope of a strategy.
        with tf.device("CPU:0"):
            self.variable = ResourceVariable(0, dtype=tf.int64, trainable=False)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Reads the model's counter."""
        self.variable.assign(self.model.episodes_seen.numpy())
