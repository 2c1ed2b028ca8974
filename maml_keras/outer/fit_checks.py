"""Checks of the data that `fit`, `adapt` and evaluation make before anything runs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.data.audit import of_training
from maml_keras.inner.loop import InnerLoop
from maml_keras.learner import episode_checks, input_checks, weights
from maml_keras.learner.learner import Learner
from maml_keras.learner.losses import PureLoss

NO_BATCH = (
    "The data must hold at least one batch of episodes. Received: an empty dataset. "
    "Look at what makes it: a filter that lets nothing through, or larger batches than "
    "there are tasks with `drop_remainder=True`."
)


def check_training_data(
    learner: Learner,
    inner: InnerLoop,
    x: Any,
    y: Any,
    *,
    outer: PureLoss,
    prepared: bool = False,
) -> Any:
    """Checks the first batch of the data that `fit` received.

    Args:
        learner: the model as a pure function.
        inner: the inner loop; class labels are checked against the model's outputs.
        x: a dataset, or the task dict itself. An iterator is not read.
        y: None, or the query targets.
        outer: the outer loss, of the query targets.
        prepared: bool, whether class numbers come from a preparation, which gives a
            class the same number in each task.

    Returns:
        The first batch, or None if reading the batch would consume it.

    Raises:
        ValueError: with the entry, what was expected and what was received.
    """
    batch = _first_batch(x, y)
    if batch is None:
        return None
    return check_first_batch(learner, inner, batch, outer=outer, prepared=prepared)


def audit(x: Any, validation: Any) -> None:
    """Refuses a leak between training and validation, and warns of other findings.

    Args:
        x: the training data; only datasets of `episodes` tell what they draw from.
        validation: the validation data, or None.

    Raises:
        ValueError: if both parts have classes, or more than 1% of the validation
            examples, in common.
    """
    for found in of_training(x, validation):
        if found.severity == "leak":
            raise ValueError(
                f"{found} If you want figures of known classes, pass "
                "`fit(..., audit=False)`."
            )
        warnings.warn(str(found), stacklevel=3)


class GeneratorChecks(keras.callbacks.Callback):
    """A generator of batches as Keras takes it, with what it raised.

    Keras draws from a generator inside of TensorFlow, which wraps what is raised there
    in a traceback of its own, and refuses a batch of another size before anyone can
    look at it. When a generator ends before the last epoch, Keras would train again on
    the batches that it drew first, to look at; as a callback this ends the training.

    Args:
        learner: the model as a pure function.
        inner: the inner loop.
        look: looks at each batch.
        outer: the outer loss.
    """

    def __init__(
        self,
        learner: Learner,
        inner: InnerLoop,
        look: Callable[[Any], None],
        *,
        outer: PureLoss,
    ) -> None:
        super().__init__()
        self._learner, self._inner, self._look = learner, inner, look
        self._outer = outer
        self._steps_left: int | None = None
        self.raised: Exception | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts anew."""
        self._steps_left = self.params.get("steps")

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Counts the steps of the epoch."""
        steps = self.params.get("steps")
        self._steps_left = None if steps is None else steps - batch - 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Ends the training if the epoch was cut short."""
        if self._steps_left is None or self._steps_left > 0:
            self.model.stop_training = True

    def batches(self, generator: Iterator[Any]) -> Iterator[Any]:
        """The same batches. Each is looked at when it comes, the first in full."""
        first = True
        try:
            for batch in generator:
                if first:
                    check_first_batch(
                        self._learner, self._inner, batch, outer=self._outer
                    )
                self._look(batch)
                first = False
                yield batch
        except Exception as error:
            self.raised = error
            raise

    @contextlib.contextmanager
    def as_raised(self) -> Iterator[None]:
        """Raises what the generator raised in place of TensorFlow's error."""
        try:
            yield
        except tf.errors.OpError as error:
            raise (self.raised or error) from None


def check_first_batch(
    learner: Learner,
    inner: InnerLoop,
    batch: Any,
    *,
    outer: PureLoss,
    prepared: bool = False,
) -> Any:
    """Checks a batch by all that need not be true of every batch.

    Args:
        learner: the model as a pure function.
        inner: the inner loop; class labels are checked against the model's outputs.
        batch: `(task, query_y)` or `(task, query_y, sample_weight)`.
        outer: the outer loss, of the query targets.
        prepared: bool, whether class numbers come from a preparation.

    Returns:
        The task and the query targets, in tensors.

    Raises:
        ValueError: with the entry, what was expected and what was received.
    """
    task, query_y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    episode_checks.check_targets(query_y)
    episode_checks.check_dense(task, query_y)
    task, query_y = tf.nest.map_structure(tf.convert_to_tensor, (task, query_y))
    episode_checks.check_batch(task, query_y)
    for name in ("support_x", "query_x"):  # Weights have a check of their own.
        episode_checks.check_values(name, task[name])
    support_y = inner.loss.counted(task["support_y"])
    episode_checks.check_targets_known("support_y", support_y)
    episode_checks.check_targets_known("query_y", outer.counted(query_y))
    weights.check_values(task)
    input_checks.check_scale(learner.model, task, hint=input_checks.TRAINING)
    input_checks.warn_of_scale(learner.model, task["support_x"])
    input_checks.warn_of_scaling_twice(learner.model, task["support_x"])
    input_checks.check_examples_axis(learner.model, task["support_x"])
    input_checks.check_sizes(learner.model, "support_x", task["support_x"], axes=2)
    if inner.loss.is_elementwise and not tf.nest.is_nested(query_y):
        input_checks.check_targets(learner.model, inner.loss, task["support_y"])
    if inner.loss.is_sparse_categorical and not tf.nest.is_nested(query_y):
        example = tf.nest.map_structure(lambda a: a[0, :1], task["support_x"])
        output = _output_shape(learner, example)
        for name, labels in (("support_y", task["support_y"]), ("query_y", query_y)):
            episode_checks.check_class_numbers(name, labels, output)
        width = output[-1]
        support_y, queries = (
            _counted(inner.loss, labels) for labels in (task["support_y"], query_y)
        )
        # A task need not contain each class if its labels are pixels or words, if the
        # number of classes varies, or if all tasks have the same classes.
        partial = (
            inner.start_from.frees_ways
            or inner.loss.ignored_class is not None
            or weights.SUPPORT in task
            or prepared
        )
        if partial or len(output) > 2:
            episode_checks.check_label_range("support_y", support_y, width)
        else:
            episode_checks.check_labels("support_y", support_y, width)
        episode_checks.check_label_range("query_y", queries, width)
    return task, query_y


def checked_support(
    learner: Learner, loss: PureLoss, x: Any, y: Any
) -> tuple[Any, Any]:
    """One task's support set as tensors.

    Args:
        learner: the model as a pure function.
        loss: the inner loss; class labels are checked against the model's outputs.
        x: inputs `[examples, ...]`.
        y: targets `[examples, ...]`.

    Returns:
        `x` and `y` as tensors.

    Raises:
        ValueError: if the set is empty, not finite or does not fit the model.
    """
    x, y = tf.nest.map_structure(tf.convert_to_tensor, (_whole(x), _whole(y)))
    _check_inputs(learner.model, x)
    one_task = tf.nest.map_structure(lambda a: a[None], {"x": x, "y": y})
    episode_checks.check_batch(
        {
            "support_x": one_task["x"],
            "support_y": one_task["y"],
            "query_x": one_task["x"],
        }
    )
    episode_checks.check_values("support_x", x)
    episode_checks.check_targets_known("support_y", loss.counted(y))
    if loss.is_sparse_categorical and not tf.nest.is_nested(y):
        output = _output_shape(learner, tf.nest.map_structure(lambda a: a[:1], x))
        episode_checks.check_class_numbers("support_y", y[None], output)
        episode_checks.check_label_range("support_y", _counted(loss, y), output[-1])
    return x, y


def check_evaluated(
    learner: Learner,
    inner: PureLoss,
    outer: PureLoss,
    task: dict[str, Any],
    query_y: Any,
) -> None:
    """Refuses an evaluation batch that does not fit the model.

    Args:
        learner: the model as a pure function. Class numbers are checked only if the
            model declares one output; a subclass of `keras.Model` declares none.
        inner: the inner loss, which checks the support targets.
        outer: the outer loss, which checks the query targets.
        task: dict of `support_x`, `support_y` and `query_x`.
        query_y: query targets.

    Raises:
        ValueError: with the entry, what was expected and what was received.
    """
    weights.check_values(task)
    input_checks.check_scale(learner.model, task)
    input_checks.check_sizes(learner.model, "support_x", task["support_x"], axes=2)
    input_checks.warn_of_scale(learner.model, task["support_x"])
    outputs = getattr(learner.model, "outputs", None) or []
    if len(outputs) != 1:
        return
    for loss, name, labels in (
        (inner, "support_y", task["support_y"]),
        (outer, "query_y", query_y),
    ):
        if loss.is_sparse_categorical and not tf.nest.is_nested(labels):
            counted = _counted(loss, labels)
            episode_checks.check_label_range(name, counted, outputs[0].shape[-1])


def _check_inputs(model: keras.Model, x: Any) -> None:
    """Refuses inputs that do not fit the inputs that the model declares."""
    input_checks.check_scale_of(model, "support_x", x)
    for declared, leaf in input_checks.paired(model, x):
        if len(leaf.shape) == len(declared.shape) + 1:
            raise ValueError(
                "`support_x` must hold one task, [examples, ...]: for this model "
                f"{tuple(declared.shape)}. Received: shape={tuple(leaf.shape)}, "
                "which has one axis more. From a batch of tasks, take one: "
                "`support_x[0]`."
            )
    input_checks.check_sizes(model, "support_x", x, axes=1)
    input_checks.warn_of_scale(model, x)


def _counted(loss: PureLoss, labels: Any) -> Any:
    """The class numbers that the loss does not ignore."""
    labels = np.asarray(labels)
    ignored = loss.ignored_class
    return labels if ignored is None else labels[labels != ignored]


def _whole(value: Any) -> Any:
    """Converts a list of numbers to a tensor; keeps a list of arrays (many inputs)."""
    listed = isinstance(value, (list, tuple))
    if listed and all(tf.rank(leaf) == 0 for leaf in tf.nest.flatten(value)):
        return tf.convert_to_tensor(value)
    return value


def _output_shape(learner: Learner, example: Any) -> tuple[int, ...]:
    declared = input_checks.output(learner.model)
    if declared is not None:  # An eager pass would take a tenth of a second.
        return tuple(declared.shape)
    output = learner(learner.weights(), learner.state(), example, training=False)
    return tuple(map(int, output.predictions.shape))


def _first_batch(x: Any, y: Any) -> Any:
    """The first batch of the data, or None if reading the batch would consume it."""
    if isinstance(x, tf.data.Dataset):
        batch = next(iter(x), None)
        if batch is None:
            raise ValueError(NO_BATCH)
        return batch
    if isinstance(x, keras.utils.PyDataset):
        if x.num_batches == 0:
            raise ValueError(NO_BATCH)
        return x[0]
    if isinstance(x, dict):
        return x, y
    return None
