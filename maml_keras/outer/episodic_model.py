"""A Keras model that is trained on batches of episodes."""

from __future__ import annotations

import abc
import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.graph_passes import without_idle_passes
from maml_keras.execution import fused_steps
from maml_keras.execution.task_maps import TaskMap
from maml_keras.inner.loop import InnerLoop
from maml_keras.inner.rules import UpdateRule
from maml_keras.learner import input_checks
from maml_keras.learner.learner import Learner
from maml_keras.learner.losses import LossIdentifier, PureLoss
from maml_keras.outer import fit_checks

# Functions that other modules trace for a model, and keep in its `__dict__`.
TRACED = ("_curves", "_inner_traces", "_predictions_along")


class EpisodicModel(keras.Model, abc.ABC):
    """What `MAML` is to `compile` and `fit`: Keras's training, task by task.

    Losses and metrics see the tasks of a batch joined; data is looked at before
    training starts; what `compile` was told to choose is chosen there too.
    """

    # Keras's own, set by `compile`.
    jit_compile: bool
    steps_per_execution: int
    train_function: Any
    test_function: Any
    predict_function: Any

    # Set by the constructor of the model.
    inner: InnerLoop
    model: keras.Model
    learner: Learner
    task_map: TaskMap
    episodes_seen: Any

    _outer_loss: PureLoss
    # What `frozen_or_not` said when what is cached was traced.
    _traced_with: tuple[bool, ...]

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: LossIdentifier | None = None,
        *,
        jit_compile: str | bool = "auto",
        steps_per_execution: str | int = "auto",
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`; the optimizer is the outer one.

        Args:
            optimizer: a Keras optimizer or its identifier.
            loss: the outer loss, on the query sets; None reuses the inner loss.
            jit_compile: bool, whether XLA compiles a training step. `"auto"`: when
                `fit` sees that the tasks are small enough to gain by it.
            steps_per_execution: int, meta-steps of one call; under XLA they are one
                program. Callbacks and the progress bar see the last of them.
                `"auto"`: up to 100, a divisor of an epoch, if XLA compiles, else 1.
            **kwargs: `metrics`, `run_eagerly`, ...

        Raises:
            TypeError: if `optimizer` is a rule of the inner loop.
            ValueError: if `loss_weights` are given, or layers were frozen or released
                that a learned rule has, or lacks, rates for.
        """
        if kwargs.get("loss_weights") is not None:
            raise ValueError(
                "`loss_weights` is not supported. Received: loss_weights="
                f"{kwargs['loss_weights']!r}. Weigh the terms inside the loss."
            )
        if isinstance(optimizer, UpdateRule):
            raise TypeError(
                "`optimizer` must be one of Keras's, such as "
                f"`keras.optimizers.SGD(0.01)`. Received: {optimizer!r}, a rule of "
                "maml_keras, which is for `InnerLoop`."
            )
        # As in Keras, layers frozen since then count from now on.
        self._renew(force=True)
        self._outer_loss = self.inner.loss if loss is None else PureLoss(loss)
        super().compile(
            optimizer=optimizer,
            loss=self._outer_loss.identifier,
            jit_compile=False if jit_compile == "auto" else jit_compile,
            steps_per_execution=(
                1 if steps_per_execution == "auto" else steps_per_execution
            ),
            **kwargs,
        )
        self._asked = {
            "jit_compile": jit_compile,
            "steps_per_execution": steps_per_execution,
        }
        # What was asked for is saved, not what it came to.
        self._compile_config.config.update(self._asked)

    def _renew(self, *, force: bool = False) -> None:
        """Drops what was traced with other layers frozen.

        Raises:
            ValueError: if all are, or a learned rule has rates for other layers.
        """
        trainable = frozen_or_not(self.model)
        if trainable == self._traced_with and not force:
            return
        if not any(v.trainable for v in self.model.variables):
            raise ValueError(
                "The wrapped model must have a trainable weight: what is frozen does "
                "not adapt. Received: all frozen. To keep a meta-trained model as it "
                "is do not call `fit`."
            )
        self.learner.batch_norm.prepare(self.model, self.inner.steps)
        self.inner.prepare(self.learner)
        self._traced_with = trainable
        self._adapt_function = None
        for cache in TRACED:
            self.__dict__.pop(cache, None)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The outer loss of predictions `[tasks, examples, ...]`, a mean over tasks.

        `fit` computes it inside of each task and does not come here: another loss goes
        into `compile(loss=...)`.
        """
        parts = {"y": y, "y_pred": y_pred}
        if sample_weight is not None:
            parts["sample_weight"] = sample_weight

        def of_task(part: dict[str, Any]) -> Any:
            loss = self._outer_loss(
                part["y"], part["y_pred"], part.get("sample_weight")
            )
            return tf.cast(loss, tf.float32)

        losses = tf.map_fn(of_task, parts, fn_output_signature=tf.float32)
        return tf.reduce_mean(losses)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Updates the metrics, which see `[tasks * examples, ...]`."""
        metrics: dict[str, Any] = super().compute_metrics(
            x, _joined(y), _joined(y_pred), _joined(sample_weight)
        )
        return metrics

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """As `keras.Model.fit`, on batches of episodes.

        Wrong data is refused before training starts. An endless dataset of
        `maml_keras.data.episodes` starts at the first episode that this model has not
        seen, so a run that was interrupted and restored goes on where it stopped.
        """
        self._assert_compile_called("fit")
        _refuse_class_weight(kwargs.get("class_weight"))
        if self.distribute_strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "`fit` runs on one device, with tasks side by side on its cores. "
                "Received: a distribution strategy with "
                f"{self.distribute_strategy.num_replicas_in_sync} replicas. Make the "
                "model outside of its scope."
            )
        batch = fit_checks.check_training_data(self.learner, self.inner, x, y)
        self._settle(batch, _steps_of_epoch(x, **kwargs))
        if batch is not None:
            self._create_variables(*batch)
        starting_at = getattr(x, "starting_at", None)
        endless = (
            isinstance(x, tf.data.Dataset)
            and x.cardinality() == tf.data.INFINITE_CARDINALITY
        )
        if starting_at and endless:
            # Read when the iterator is made, after callbacks have restored weights.
            x = starting_at(self.episodes_seen.value)
        if self._fuses and endless and _is_fixed(x.element_spec):
            x = fused_steps.stacked(x, self.steps_per_execution)
        if isinstance(x, (tf.data.Dataset, Iterator)):
            kwargs.setdefault("shuffle", False)  # Keras warns that it cannot.
        return super().fit(x, y, **kwargs)

    def train_on_batch(
        self, *args: Any, class_weight: Any = None, **kwargs: Any
    ) -> Any:
        """As `keras.Model.train_on_batch`: one meta-step."""
        _refuse_class_weight(class_weight)
        return super().train_on_batch(*args, **kwargs)

    def _settle(self, batch: Any, steps_per_epoch: int | None) -> None:
        """Turns what `compile` left to `"auto"` into settings for these tasks.

        Of a generator nothing is known, so its steps are neither joined nor compiled.
        """
        jit_compile, steps = self.jit_compile, self.steps_per_execution
        if self._asked["jit_compile"] == "auto":
            # XLA lacks loops that steps computed again have under a task axis.
            jit_compile = (
                batch is not None
                and not (self.run_eagerly or self.inner.rematerialize)
                and self.task_map.compiles(self.learner, batch[0])
            )
        if self._asked["steps_per_execution"] == "auto":
            joined = jit_compile and batch is not None
            steps = fused_steps.steps_of(steps_per_epoch) if joined else 1
        if (jit_compile, steps) != (self.jit_compile, self.steps_per_execution):
            self.jit_compile, self.steps_per_execution = jit_compile, steps
            self.train_function = self.test_function = self.predict_function = None

    def _create_variables(self, task: Any, query_y: Any) -> None:
        """Those of the optimizer and the metrics: a `tf.function` that has to create
        any is traced twice, which is half of a first step's time."""
        if self.train_function is not None or self.run_eagerly:
            return
        with self.distribute_strategy.scope():
            if not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
            one = tf.nest.map_structure(lambda t: t[:1], query_y)
            self.compute_metrics(task, one, self._some_predictions(task["query_x"]))
            self.reset_metrics()

    def _some_predictions(self, query_x: Any) -> Any:
        """Predictions `[1, query examples, ...]`, of whatever value."""
        own = input_checks.output(self.model)
        if own is not None:
            queries = tf.nest.flatten(query_x)[0].shape[1]
            return tf.zeros([1, queries, *own.shape[1:]], own.dtype)
        output = self.learner(
            self.learner.weights(),
            self.learner.state(),
            tf.nest.map_structure(lambda t: t[0], query_x),
            training=False,
        )
        return tf.nest.map_structure(lambda t: t[None], output.predictions)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`, on batches of episodes."""
        with self._one_batch_a_call():
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.predict`: of each task's queries, after adaptation."""
        with self._one_batch_a_call():
            return super().predict(*args, **kwargs)

    @contextlib.contextmanager
    def _one_batch_a_call(self) -> Iterator[None]:
        """Meta-steps that `"auto"` joined are training's: other data has its length."""
        steps = self.steps_per_execution
        asked = getattr(self, "_asked", {}).get("steps_per_execution")
        if asked == "auto":
            self.steps_per_execution = 1
            # That of `validation_data`, which `fit` made.
            validation = getattr(self, "_eval_epoch_iterator", None)
            if validation is not None:
                validation.steps_per_execution = 1
        try:
            yield
        finally:
            self.steps_per_execution = steps

    @property
    def _fuses(self) -> bool:
        """True if several steps become one program."""
        one_device = self.distribute_strategy.num_replicas_in_sync == 1
        return bool(self.jit_compile) and self.steps_per_execution > 1 and one_device

    def make_train_function(self, force: bool = False) -> Any:
        """As Keras's; several steps of an XLA program are one program."""
        if self.train_function is None or force:
            super().make_train_function(force=True)
            if not (self.run_eagerly or self.jit_compile):
                self.train_function = without_idle_passes(self.train_function)
            if self._fuses:
                self.train_function = fused_steps.fuse(
                    self.train_step, self.steps_per_execution, self.train_function
                )
        return self.train_function

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as the saved model was, with the optimizer's state to be loaded."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)


def frozen_or_not(model: keras.Model) -> tuple[bool, ...]:
    """Of each layer and each weight whether it is trainable."""
    return (
        *(bool(layer.trainable) for layer in model._flatten_layers()),
        *(bool(v.trainable) for v in model.variables),
    )


def _steps_of_epoch(
    x: Any,
    *,
    steps_per_epoch: int | None = None,
    batch_size: int | None = None,
    validation_split: float = 0.0,
    **_: Any,
) -> int | None:
    """Meta-steps of an epoch of `fit`; None if nobody knows."""
    there = None
    if isinstance(x, tf.data.Dataset):
        there = int(x.cardinality())
    elif isinstance(x, keras.utils.PyDataset):
        there = x.num_batches
    elif isinstance(x, dict):
        tasks = int(tf.nest.flatten(x)[0].shape[0] * (1.0 - validation_split))
        there = math.ceil(tasks / (batch_size or 32))
    if there is None or there < 1:
        return steps_per_epoch
    return there if steps_per_epoch is None else min(steps_per_epoch, there)


def _refuse_class_weight(class_weight: Any) -> None:
    if class_weight is not None:
        raise ValueError(
            "`class_weight` is not supported: a class number means another class in "
            f"each task. Received: class_weight={class_weight!r}. Weigh examples by "
            "`sample_weight`."
        )


def _is_fixed(spec: Any) -> bool:
    return all(t.shape.is_fully_defined() for t in tf.nest.flatten(spec))


def _joined(values: Any) -> Any:
    """`[tasks, examples, ...]` as `[tasks * examples, ...]`, for each array."""

    def join(t: Any) -> Any:
        shape = tf.shape(t)
        joined = tf.reshape(t, tf.concat([[shape[0] * shape[1]], shape[2:]], axis=0))
        joined.set_shape([None, *t.shape[2:]])
        return joined

    return None if values is None else tf.nest.map_structure(join, values)
