"""A Keras model that is trained on batches of episodes."""

from __future__ import annotations

import abc
import contextlib
import inspect
import logging
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.flag import Flag
from maml_keras.data.plain_errors import plainly
from maml_keras.data.preparation import Preparation
from maml_keras.execution import fused_steps
from maml_keras.execution.replicas import Replicas
from maml_keras.execution.scopes import replicas_of
from maml_keras.execution.start_at import StartAt
from maml_keras.execution.step_by_step import checked
from maml_keras.execution.task_maps import TaskMap
from maml_keras.inner.loop import InnerLoop
from maml_keras.inner.rules import UpdateRule
from maml_keras.learner import input_checks, masks
from maml_keras.learner.batch_checks import BatchChecks
from maml_keras.learner.known_targets import of_known
from maml_keras.learner.learner import Learner
from maml_keras.learner.losses import LossIdentifier, PureLoss
from maml_keras.learner.weights import are_weights
from maml_keras.outer import automatic_settings, fit_checks, keras_functions
from maml_keras.outer.bad_task_policies import BadTaskPolicy
from maml_keras.outer.finite_weights import check_writable
from maml_keras.outer.preparations import adopt, in_unit

logger = logging.getLogger(__name__)

# Entry of the compile configuration: whether the saved optimizer was built.
BUILT = "optimizer_built"

# Functions that other modules trace for a model and keep in the model's `__dict__`.
TRACED = (
    "_bad_task_search",
    "_curves",
    "_inner_traces",
    "_predictions_along",
    "_rest_step",
)


class EpisodicModel(keras.Model, abc.ABC):
    """The base of `MAML` for `compile` and `fit`: Keras's training, task by task.

    Losses are computed in each task, metrics see all tasks of a batch joined. `fit`
    checks the data before training starts, and then settles the options of `compile`
    that were left to `"auto"`.
    """

    # Attributes of Keras, set by `compile`.
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
    seed: int
    preparation: Preparation | None

    bad_tasks: BadTaskPolicy
    tasks_left_out: int

    _outer_loss: PureLoss
    # Whether XLA could not compile the training step, since the last `compile`.
    _xla_refused: bool
    # Written in the graph of a step: whether all of its numbers were finite.
    _health: Flag
    _saw_batch: bool
    # The devices that train together; None for one device without a strategy.
    _replicas: Replicas | None = None
    # The result of `frozen_or_not` when the cached functions were traced.
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
        """Like `keras.Model.compile`; `optimizer` is the outer optimizer.

        Args:
            optimizer: a Keras optimizer or its identifier.
            loss: the outer loss, on the query sets; None reuses the inner loss.
            jit_compile: bool, whether XLA compiles a training step. With `"auto"`,
                `fit` compiles if the tasks are small enough to gain from XLA, and if
                the training is so long that it earns the compilation back: from
                1,000 meta-steps on.
            steps_per_execution: int, meta-steps in one call. The steps are one
                program, a loop in the graph, if the data is a dataset or arrays with
                batches of fixed shape; else Python calls one step after another.
                Callbacks and the progress bar see only the last of these steps.
                `"auto"`: up to 100, a divisor of an epoch, if XLA compiles, else 1.
            **kwargs: `metrics`, `run_eagerly`, ...

        Raises:
            TypeError: if `optimizer` is an update rule of the inner loop.
            ValueError: if `loss_weights` are given, or if layers were frozen or
                unfrozen so that a learned rule no longer has a rate for each
                adapted weight.
        """
        if kwargs.get("loss_weights") is not None:
            raise ValueError(
                "`loss_weights` is not supported. Received: loss_weights="
                f"{kwargs['loss_weights']!r}. Weigh the terms inside the loss."
            )
        if isinstance(optimizer, UpdateRule):
            raise TypeError(
                "`optimizer` must be a Keras optimizer, such as "
                f"`keras.optimizers.SGD(0.01)`. Received: {optimizer!r}, an update "
                "rule of maml_keras. Pass update rules to `InnerLoop`."
            )
        # As in Keras, a layer that was frozen meanwhile counts from this call on.
        self._renew(force=True)
        self.task_map.forget()
        self._xla_refused = False
        self._outer_loss = self.inner.loss if loss is None else PureLoss(loss)
        if self._outer_loss.takes_missing:
            kwargs = {**kwargs, "metrics": of_known(kwargs.get("metrics"))}
        with self._scope():
            super().compile(
                optimizer=optimizer,
                loss=self._outer_loss.identifier,
                jit_compile=False if jit_compile == "auto" else jit_compile,
                steps_per_execution=(
                    1 if steps_per_execution == "auto" else steps_per_execution
                ),
                **kwargs,
            )
        self._replicas = replicas_of(self, self.optimizer)
        self._asked = {
            "jit_compile": jit_compile,
            "steps_per_execution": steps_per_execution,
        }
        # Save the request, such as "auto", and not the setting that `fit` chose. Keras
        # saves all options but `auto_scale_loss`. Without it, a loaded model would
        # have another optimizer than the saved one.
        scaled = {"auto_scale_loss": kwargs.get("auto_scale_loss", True)}
        self._compile_config.config.update({**self._asked, **scaled})

    def _renew(self, *, force: bool = False) -> None:
        """Drops functions that were traced while other layers were frozen.

        Raises:
            ValueError: if all weights are frozen, or a learned rule has rates for
                other layers.
        """
        trainable = frozen_or_not(self.model)
        if trainable == self._traced_with and not force:
            return
        if not any(v.trainable for v in self.model.variables):
            raise ValueError(
                "The wrapped model must have a trainable weight, because frozen "
                "weights do not adapt. Received: all frozen. Set `trainable = True` "
                "on a layer. To keep a meta-trained model as it is, do not call `fit`."
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

        `fit` does not call this method, because it computes the loss inside each task.
        To train with another loss, pass `compile(loss=...)`.
        """
        parts = {"y": y, "y_pred": y_pred, "masks": masks.taken(y_pred)}
        if sample_weight is not None:
            parts["sample_weight"] = sample_weight

        def of_task(part: dict[str, Any]) -> Any:
            loss = self._outer_loss(
                part["y"],
                masks.put_back(part["y_pred"], part["masks"]),
                part.get("sample_weight"),
            )
            return tf.cast(loss, tf.float32)

        losses = tf.map_fn(of_task, parts, fn_output_signature=tf.float32)
        return tf.reduce_mean(losses)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Updates the metrics with arrays of shape `[tasks * examples, ...]`.

        With a preparation, metrics see targets and predictions in the original unit.
        If queries have weights, a metric is `sum(w_i m_i) / sum(w_i)` over all tasks.

        Raises:
            ValueError: if queries have weights, and a metric is no mean over them; or
                if the loss leaves out missing targets, and a metric does not.
        """
        y, y_pred = in_unit(self, y), in_unit(self, y_pred)
        if self._outer_loss.takes_missing:
            y_pred = keras_functions.counting_known(y_pred)
        metrics: dict[str, Any] = super().compute_metrics(
            x, _joined(y), _joined(y_pred), _joined(sample_weight)
        )
        if self._outer_loss.takes_missing:
            keras_functions.check_known(self)
        if any(map(are_weights, masks.taken(y_pred).values())):
            keras_functions.check_means(self)
        return metrics

    def fit(
        self, x: Any = None, y: Any = None, *, audit: bool = True, **kwargs: Any
    ) -> Any:
        """Like `keras.Model.fit`, on batches of episodes.

        `fit` refuses wrong data before training starts. An endless dataset of
        `maml_keras.data.episodes` starts at the first episode that this model has not
        seen, so an interrupted and restored run continues where it stopped.

        Args:
            x: batches of episodes, or the task dict.
            y: None, or the query targets.
            audit: bool. True refuses validation episodes whose examples or classes are
                in the training pool, too, and warns of few different tasks. The whole
                `maml_keras.data.audit` looks for more.
            **kwargs: as in Keras.

        Raises:
            ValueError: if the data do not fit the model, or leak.
        """
        self._assert_compile_called("fit")
        _refuse_class_weight(kwargs.get("class_weight"))
        adopt(self, x, kwargs.get("validation_data"))
        with plainly():
            batch = fit_checks.check_training_data(
                self.learner,
                self.inner,
                x,
                y,
                outer=self._outer_loss,
                prepared=self.preparation is not None,
            )
        steps = automatic_settings.steps_of_epoch(x, **kwargs)
        epochs = kwargs.get("epochs", 1) - kwargs.get("initial_epoch", 0)
        automatic_settings.settle(self, batch, steps, steps and steps * epochs)
        if batch is not None:
            self._prepare(batch)
        if audit:
            fit_checks.audit(x, kwargs.get("validation_data"))
        starting_at = getattr(x, "starting_at", None)
        endless = (
            isinstance(x, tf.data.Dataset)
            and x.cardinality() == tf.data.INFINITE_CARDINALITY
        )
        if self._replicas is not None:
            self._replicas.check_same(
                self.seed,
                "seed of dropout",
                "Call `keras.utils.set_random_seed(0)` first, or pass `MAML(seed=0)`.",
            )
            start = StartAt() if starting_at and endless else None
            x = self._replicas.spread(x, start and start.variable)
            validation = self._replicas.spread(kwargs.get("validation_data"))
            kwargs["validation_data"] = validation
            if start is not None:
                kwargs["callbacks"] = _and(kwargs.get("callbacks"), start)
        elif starting_at and endless:
            # The dataset reads this counter when its iterator is made, and that is
            # after the callbacks have restored the weights.
            x = starting_at(self.episodes_seen.value)
        if self._fuses and endless and _is_fixed(x.element_spec):
            x = fused_steps.stacked(x, self.steps_per_execution)
        if isinstance(x, (tf.data.Dataset, tf.distribute.DistributedDataset, Iterator)):
            kwargs.setdefault("shuffle", False)  # Keras warns that it cannot shuffle.
        if not inspect.isgenerator(x):
            with plainly(), self._noticing_lost_workers():
                return super().fit(x, y, **kwargs)
        checks = fit_checks.GeneratorChecks(
            self.learner, self.inner, self._batch_checks(), outer=self._outer_loss
        )
        callbacks = kwargs.pop("callbacks", None)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = _and(callbacks, checks)
        with checks.as_raised():
            return super().fit(checks.batches(x), y, callbacks=callbacks, **kwargs)

    def train_on_batch(
        self, *args: Any, class_weight: Any = None, **kwargs: Any
    ) -> Any:
        """Like `keras.Model.train_on_batch`: one meta-step."""
        _refuse_class_weight(class_weight)
        return super().train_on_batch(*self._cut(args), **self._cut(kwargs))

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.test_on_batch`."""
        return super().test_on_batch(*self._cut(args), **self._cut(kwargs))

    def predict_on_batch(self, x: Any) -> Any:
        """Like `keras.Model.predict_on_batch`."""
        return super().predict_on_batch(*self._cut((x,)))

    def _cut(self, arguments: Any) -> Any:
        """Arguments of a call for one batch, whose arrays are cut for the replicas."""
        if self._replicas is None:
            return arguments
        cut = self._replicas.cut
        if isinstance(arguments, dict):
            return {
                name: cut(value) if name in ("x", "y", "sample_weight") else value
                for name, value in arguments.items()
            }
        return tuple(map(cut, arguments))

    def predict_step(self, data: Any) -> Any:
        """Predictions of a batch, in the original unit."""
        task, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return in_unit(self, self(task, training=False))

    def forget_functions(self) -> None:
        """Drops all traced functions, which knew another preparation."""
        self._renew(force=True)
        self.train_function = self.test_function = self.predict_function = None

    def _without_xla(self, error: Exception) -> None:
        """Notes that XLA cannot compile the step, so that nothing tries again."""
        logger.info("XLA cannot compile the training step of %s: %s", self.name, error)
        self._xla_refused, self.jit_compile = True, False

    def _prepare(self, batch: Any) -> None:
        """Creates the variables of the optimizer and the metrics before tracing.

        A `tf.function` that has to create variables is traced twice, and the second
        trace takes half of the first step's time.
        """
        metrics = self._compile_metrics
        ready = self.optimizer.built and (metrics is None or metrics.built)
        if not ready and (self._replicas is not None or not self.run_eagerly):
            task, query_y, _ = keras.utils.unpack_x_y_sample_weight(batch)
            predictions = self._some_predictions(task["query_x"])
            self._create_variables(query_y, predictions)

    def _some_predictions(self, query_x: Any) -> Any:
        """Predictions `[1, query examples, ...]`; only shape and type matter."""
        declared = input_checks.output(self.model)
        if declared is not None:
            queries = tf.nest.flatten(query_x)[0].shape[1]
            return tf.zeros([1, queries, *declared.shape[1:]], declared.dtype)
        output = self.learner(
            self.learner.weights(),
            self.learner.state(),
            tf.nest.map_structure(lambda t: tf.convert_to_tensor(t)[0], query_x),
            training=False,
        )
        return tf.nest.map_structure(lambda t: t[None], output.predictions)

    def _create_variables(self, query_y: Any, predictions: Any) -> None:
        """Creates what `_prepare` creates; a branch of a graph could not."""
        with tf.init_scope(), self._scope():
            if not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
            metrics = self._compile_metrics
            if metrics is not None and not metrics.built:
                blank = tf.nest.map_structure(_blank, (query_y, predictions))
                # Replicas count by themselves. Outside of them only a scope in which
                # variables do not change can call a metric.
                one_device = self._replicas is None
                with contextlib.nullcontext() if one_device else keras.StatelessScope():
                    self.compute_metrics(None, *blank)
                self.reset_metrics()

    def _maybe_symbolic_build(self, *_: Any, **__: Any) -> None:
        """Does nothing: the model is built, and `_prepare` does the rest.

        Keras's method takes a mean over the batches of replicas.
        """

    def _noticing_lost_workers(self) -> Any:
        if self._replicas is None:
            return contextlib.nullcontext()
        return self._replicas.noticing_lost_workers()

    @property
    def _writes(self) -> bool:
        """Whether this process writes files; of several workers the first does."""
        return self._replicas is None or self._replicas.writes

    def _scope(self) -> Any:
        """The scope of the strategy under which the model was made, if any."""
        strategy = self._distribute_strategy
        return contextlib.nullcontext() if strategy is None else strategy.scope()

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.evaluate`, on batches of episodes."""
        adopt(self, x)
        if self._replicas is not None:
            x = self._replicas.spread(x)
        with self._one_batch_a_call(), plainly():
            self._saw_batch = False
            with self._noticing_lost_workers():
                found = super().evaluate(x, *args, **kwargs)
        if not self._saw_batch:
            raise ValueError(fit_checks.NO_BATCH)
        return found

    def predict(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.predict`: predicts each task's queries after adaptation.

        With a preparation, predictions are in the original unit.
        """
        adopt(self, x)
        if self._replicas is not None:
            x = self._replicas.spread(x)
        with self._one_batch_a_call(), plainly():
            self._saw_batch = False
            try:
                with self._noticing_lost_workers():
                    return super().predict(x, *args, **kwargs)
            except UnboundLocalError as error:
                # Keras returns the outputs of a last batch, and there was none.
                if self._saw_batch:
                    raise
                raise ValueError(fit_checks.NO_BATCH) from error

    @contextlib.contextmanager
    def _one_batch_a_call(self) -> Iterator[None]:
        """Evaluates one batch per call if `"auto"` joined the meta-steps of training.

        The number of joined steps fits the length of the training data only.
        """
        steps = self.steps_per_execution
        asked = getattr(self, "_asked", {}).get("steps_per_execution")
        if asked == "auto":
            self.steps_per_execution = 1
            # The iterator over `validation_data` that `fit` made.
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
        one_device = self._replicas is None
        return self.steps_per_execution > 1 and one_device and not self.run_eagerly

    def make_train_function(self, force: bool = False) -> Any:
        """Like Keras's method, but no step is taken on a batch that does not fit.

        Each batch is looked at before its step, and handed on to `_mend` if a number in
        the step is not finite. Several steps are joined into one program.
        """
        if self.train_function is None or force:
            self.train_function = keras_functions.train_function(self)
        return self.train_function

    def make_test_function(self, force: bool = False) -> Any:
        """Like Keras's method, but each batch is looked at before its step."""
        if self.test_function is None or force:
            self.test_function = keras_functions.test_function(self)
        return self.test_function

    def make_predict_function(self, force: bool = False) -> Any:
        """Like Keras's method, but each batch is looked at before its step."""
        if self.predict_function is None or force:
            if self._replicas is None:
                super().make_predict_function(force=True)
                look = self._batch_checks(targets=False)
            else:
                self.predict_function = keras_functions.shared_predictions(self)
                look = keras_functions.looking(self, targets=False)
            self.predict_function = keras_functions.seeing_batches(
                self, checked(self.predict_function, look)
            )
        return self.predict_function

    def _step_with_health(self, data: Any) -> tuple[Any, Any]:
        """A training step, and whether it was taken."""
        if self._replicas is not None:
            return self._shared_step(data)
        logs = self.train_step(data)
        return logs, self._health.read()

    def _step_taken(self) -> bool:
        """Whether the last step was taken; else a number in it was not finite."""
        return bool(self._health.read())

    @abc.abstractmethod
    def _shared_step(self, data: Any) -> tuple[Any, Any]:
        """A training step that replicas share, and whether it was taken."""

    @abc.abstractmethod
    def _mend(self, data: Any) -> dict[str, Any]:
        """Goes on after a step that was not taken; returns logs or raises."""

    def _batch_checks(self, *, targets: bool = True) -> BatchChecks:
        losses = self.inner.loss, self._outer_loss
        return BatchChecks(self.learner, *losses, targets=targets)

    def reset_metrics(self) -> None:
        """As Keras's; an epoch counts the tasks that it leaves out anew."""
        self.tasks_left_out = 0
        super().reset_metrics()

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Like `keras.Model.save`, but refuses weights that are NaN or infinite.

        Of several workers the first writes; in the others this method does nothing.

        Raises:
            ValueError: if a weight is not finite. An existing file stays unchanged.
        """
        if not self._writes:
            return
        check_writable(self, f"The file {filepath}")
        super().save(filepath, *args, **kwargs)

    def save_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Like `keras.Model.save_weights`, but refuses NaN and infinite weights.

        Of several workers the first writes; in the others this method does nothing.

        Raises:
            ValueError: if a weight is not finite. An existing file stays unchanged.
        """
        if not self._writes:
            return
        check_writable(self, f"The file {filepath}")
        super().save_weights(filepath, *args, **kwargs)

    def get_compile_config(self) -> Any:
        """Like Keras's method; also says whether the optimizer has its variables."""
        config = super().get_compile_config()
        if not config:
            return config
        if config.get("loss") is not None:
            config["loss"] = self._outer_loss.serialize()
        return {**config, BUILT: self.optimizer.built}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as the saved model was compiled.

        The state of a trained model's optimizer needs a built optimizer to be loaded
        into. An untrained model has no such state, and Keras would warn that it is
        missing.
        """
        arguments = keras.saving.deserialize_keras_object(config)
        # Earlier versions did not write this entry.
        built = arguments.pop(BUILT, True)
        self.compile(**arguments)
        if built:
            self.optimizer.build(self.trainable_variables)


def frozen_or_not(model: keras.Model) -> tuple[bool, ...]:
    """Whether each layer and each weight is trainable."""
    return (
        *(bool(layer.trainable) for layer in model._flatten_layers()),
        *(bool(v.trainable) for v in model.variables),
    )


def _refuse_class_weight(class_weight: Any) -> None:
    if class_weight is not None:
        raise ValueError(
            "`class_weight` is not supported, because a class number stands for "
            "another class in each task. Received: "
            f"class_weight={class_weight!r}. Weigh examples with `sample_weight`."
        )


def _and(callbacks: Any, other: Any) -> Any:
    """Callbacks of `fit`, and another one behind them."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(other)
        return callbacks
    return [*tf.nest.flatten(callbacks or []), other]


def _blank(like: Any) -> Any:
    """Zeros `[1, ...]` of a tensor's type; an axis of any length has one entry."""
    like = tf.convert_to_tensor(like)
    return tf.zeros([1, *(size or 1 for size in like.shape[1:])], like.dtype)


def _is_fixed(spec: Any) -> bool:
    return all(t.shape.is_fully_defined() for t in tf.nest.flatten(spec))


def _joined(values: Any) -> Any:
    """Reshapes arrays from `[tasks, examples, ...]` to `[tasks * examples, ...]`."""

    def join(t: Any) -> Any:
        shape = tf.shape(t)
        joined = tf.reshape(t, tf.concat([[shape[0] * shape[1]], shape[2:]], axis=0))
        joined.set_shape([None, *t.shape[2:]])
        return masks.put_back(joined, {k: join(m) for k, m in masks.taken(t).items()})

    return None if values is None else tf.nest.map_structure(join, values)
