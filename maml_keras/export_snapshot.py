"""The initialisation as an export keeps it for `reset`, once on disk."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class Snapshot(tf.saved_model.experimental.TrackableResource):
    """The initialisation, kept for `reset` without a second copy on disk.

    The copies are empty in the file. TensorFlow runs `_initialize` of a resource when
    it has loaded a SavedModel and restored its variables: there they are filled.

    Args:
        variables: list of `tf.Variable`.
    """

    def __init__(self, variables: list[Any]) -> None:
        super().__init__(device="")
        self.variables = variables
        self.copies = [
            tf.Variable(
                tf.zeros([0], v.dtype), shape=tf.TensorShape(None), trainable=False
            )
            for v in variables
        ]
        self._resource_handle = self._create_resource()

    def _create_resource(self) -> Any:
        return tf.raw_ops.VarHandleOp(
            dtype=tf.bool, shape=[], shared_name="maml_keras_initialisation"
        )

    def _initialize(self) -> Any:
        for variable, copy in zip(self.variables, self.copies):
            copy.assign(variable)
        return tf.constant(True)

    def restore(self) -> Any:
        """Sets the variables back to the values that were loaded; True."""
        for variable, copy in zip(self.variables, self.copies):
            variable.assign(tf.ensure_shape(copy.read_value(), variable.shape))
        return tf.constant(True)
