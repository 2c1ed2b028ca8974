"""Checks every batch in Python, before any operation sees the batch.

XLA does not notice class numbers or words out of range, and an empty set fails in some
operation. These checks raise the same error, whatever compiles the step.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.learner import episode_checks, input_checks, weights
from maml_keras.learner.learner import Learner
from maml_keras.learner.losses import PureLoss
from maml_keras.learner.vocabularies import vocabularies


class BatchChecks:
    """Refuses batches by their shapes, class numbers and words.

    A check takes some microseconds a batch: it looks at new shapes, and at the smallest
    and the largest number.

    Args:
        learner: the model as a pure function.
        inner: the inner loss, of the support targets.
        outer: the outer loss, of the query targets.
        targets: bool, whether batches need query targets.
    """

    def __init__(
        self,
        learner: Learner,
        inner: PureLoss,
        outer: PureLoss,
        *,
        targets: bool = True,
    ) -> None:
        self._needs_targets = targets
        self._learner = learner
        self._losses = {"support_y": inner, "query_y": outer}
        self._vocabularies = vocabularies(learner.model)
        self._outputs: Any = None
        self._shapes: set[Any] = set()

    def __call__(self, batch: Any) -> None:
        """Refuses one batch.

        Args:
            batch: `(task, query_y, ..)`, or `(task,)`.

        Raises:
            ValueError: naming the entry, what was expected and what came.
        """
        task, query_y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if self._needs_targets:
            episode_checks.check_targets(query_y)
        shapes = tuple(tuple(np.shape(t)) for t in tf.nest.flatten((task, query_y)))
        if shapes not in self._shapes:
            specs = [
                None if part is None else tf.nest.map_structure(_spec, part)
                for part in (task, query_y)
            ]
            episode_checks.check_batch(*specs)
            self._shapes.add(shapes)
        weights.check_values(task)
        for name, numbers, largest, refuse in self._ranges(task, query_y):
            if not _fit(numbers, largest):
                refuse(name, numbers)

    def values_fit(self, batch: Any) -> bool:
        """False if a number of a batch, or of a stack of batches, is out of range."""
        task, query_y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        ranges = self._ranges(task, query_y)
        return weights.fault(task) is None and all(
            _fit(numbers, largest) for _, numbers, largest, _ in ranges
        )

    def _ranges(self, task: Any, query_y: Any) -> list[tuple[str, Any, int, Any]]:
        """A list of `(name, numbers, largest allowed number, refusing function)`."""
        found = []
        for name, y in (("support_y", task["support_y"]), ("query_y", query_y)):
            loss = self._losses[name]
            if y is None or not _has_classes(loss):
                continue
            for labels, width, ignored in loss.class_numbers(y, self._predicted(task)):
                labels = np.asarray(labels)
                if ignored is not None:
                    labels = labels[labels != ignored]
                found.append((name, labels, width - 1, _class_refusal(width)))
        for name in ("support_x", "query_x") if self._vocabularies else ():
            for own, leaf in input_checks.paired(self._learner.model, task[name]):
                layer = self._vocabularies.get(id(own))
                if layer is not None:
                    words = np.asarray(leaf)
                    found.append(
                        (name, words, layer.input_dim - 1, _word_refusal(layer))
                    )
        return found

    def _predicted(self, task: Any) -> Any:
        """The model's outputs, or what tells their shapes."""
        if self._outputs is None:
            model = self._learner.model
            self._outputs = getattr(model, "_outputs_struct", None)
            functional = getattr(model, "_functional", None)  # A Sequential's own.
            if self._outputs is None and functional is not None:
                self._outputs = functional._outputs_struct
            if self._outputs is None:
                learner = self._learner
                example = tf.nest.map_structure(
                    lambda a: tf.convert_to_tensor(a)[0, :1], task["support_x"]
                )
                self._outputs = learner(
                    learner.weights(), learner.state(), example, training=False
                ).predictions
        return self._outputs


def _spec(array: Any) -> tf.TensorSpec:
    return tf.TensorSpec(np.shape(array))


def _has_classes(loss: PureLoss) -> bool:
    if loss.parts is None:
        return loss.is_sparse_categorical
    parts = loss.parts.values() if isinstance(loss.parts, dict) else loss.parts
    return any(map(_has_classes, parts))


def _fit(numbers: Any, largest: int) -> bool:
    return not numbers.size or (numbers.min() >= 0 and numbers.max() <= largest)


def _class_refusal(width: int) -> Any:
    def refuse(name: str, labels: Any) -> None:
        episode_checks.check_label_range(name, labels, width)

    return refuse


def _word_refusal(layer: keras.layers.Embedding) -> Any:
    def refuse(name: str, words: Any) -> None:
        raise ValueError(
            f"`{name}` must hold numbers 0..{layer.input_dim - 1}, the vocabulary of "
            f"layer '{layer.name}'. Received: numbers {words.min():g}.."
            f"{words.max():g}. Give the layer a larger `input_dim`, or unknown words a "
            "number of their own."
        )

    return refuse
