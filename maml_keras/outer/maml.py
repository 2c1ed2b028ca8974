"""MAML: a Keras model whose training step learns to adapt."""

from __future__ import annotations

import logging
import math
import random
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.autograph import as_written
from maml_keras.backend.finite import all_finite, norm_is_finite
from maml_keras.backend.flag import Flag
from maml_keras.data.preparation import Preparation
from maml_keras.execution import auto_task_map, memory
from maml_keras.execution.memory import MemoryEstimate
from maml_keras.execution.scopes import refuse_own_loop
from maml_keras.execution.task_maps import TaskMap
from maml_keras.inner.loop import InnerLoop, check_steps
from maml_keras.inner.rules import checked_rate
from maml_keras.learner import (
    batch_norm_policies,
    episode_checks,
)
from maml_keras.learner.batch_norm_policy import BatchNormPolicy
from maml_keras.learner.learner import Learner
from maml_keras.learner.model_copies import copy_of
from maml_keras.learner.prepared_model import around
from maml_keras.outer import bad_task_policies, bad_task_search, fit_checks
from maml_keras.outer.adaptation import compiled_adaptation
from maml_keras.outer.bad_task_policies import BadTaskError, BadTaskPolicy
from maml_keras.outer.episodic_model import EpisodicModel, frozen_or_not
from maml_keras.outer.finite_weights import check_writable
from maml_keras.outer.meta_gradients import Backprop, MetaGradient
from maml_keras.outer.meta_step import MetaStep, answers, meta_step, tasks_at
from maml_keras.outer.preparations import prepared
from maml_keras.outer.task_weights import TaskWeights
from maml_keras.outer.task_weights import checked as checked_weights

logger = logging.getLogger(__name__)


@keras.saving.register_keras_serializable(package="maml_keras")
class MAML(EpisodicModel):
    """Learns an initialisation from which a new task needs few examples and steps.

    `theta <- theta - outer(mean_i d L_i(query_i; phi_i(theta)) / d theta)`, where
    `phi_i(theta)` are the weights after the inner loop on the support set of task i.

    A batch is `({"support_x", "support_y", "query_x"}, query_y)`, each array
    `[tasks, examples, ...]`. Calling the model adapts to each task's support set and
    predicts its query set. So `evaluate`, `predict` and metrics show the model after
    adaptation.

    Args:
        model: any built `keras.Model`; its weights are the initialisation theta.
        inner: an `InnerLoop`.
        meta_gradient: a `MetaGradient`; None for `Backprop()`.
        task_map: `"auto"`, `"sequential"`, `"parallel"`, `"vectorized"` or a `TaskMap`.
            All give the same numbers; `str(maml.task_map)` names the chosen map.
        batch_norm: `"transductive"` (each pass uses the statistics of its own batch,
            as in the papers), `"support"` (queries use the statistics of the support
            set), `"inductive"` (trains like `"transductive"`, predicts like
            `"support"`), `"beside"` (each query uses the statistics of the support set
            and itself), `"running"` (moving statistics in evaluation), `"per_step"`
            (transductive, with a separate scale and offset for each inner step, as in
            MAML++), `"per_step_running"` (like `"per_step"`, with separate moving
            statistics for each step in evaluation), `"frozen"` (always the moving
            statistics), or a `BatchNormPolicy`. In training, moving statistics are
            updated once a meta-step, with Keras's momentum, from the statistics of
            each task's query pass, averaged over tasks. Evaluation and adaptation
            never change moving statistics.
        bad_tasks: what becomes of a meta-step in which a task's loss, adapted weights
            or meta-gradient are not finite. `"stop"` raises `BadTaskError`, which names
            the tasks, with weights, optimizer and counters as before the step; `"skip"`
            takes the step on the mean of the other tasks and counts in the logs, as
            `bad_tasks`, what it left out; or a `BadTaskPolicy`.
        task_weights: a `TaskWeights`, how much each task counts in the mean over the
            tasks of a batch; None if all count the same.
        seed: int, for dropout; None draws a seed, which
            `keras.utils.set_random_seed` makes repeatable.
        preparation: a `mk.data.Preparation`; None takes that of the episodes that the
            model is trained on. Files and exports keep it.

    Raises:
        TypeError, ValueError: if an argument does not fit, or `model` is not built.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400

    >>> from maml_keras import SGD
    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    >>> maml = MAML(model, InnerLoop("mse", SGD(0.1)))
    >>> task = {"support_x": np.zeros([4, 5, 1]), "support_y": np.ones([4, 5, 1]),
    ...         "query_x": np.zeros([4, 3, 1])}
    >>> maml.predict(task, verbose=0).shape  # [tasks, query examples, outputs]
    (4, 3, 1)
    """

    def __init__(
        self,
        model: keras.Model,
        inner: InnerLoop,
        *,
        meta_gradient: MetaGradient | None = None,
        task_map: str | TaskMap = "auto",
        batch_norm: str | BatchNormPolicy = "transductive",
        bad_tasks: str | BadTaskPolicy = "stop",
        task_weights: TaskWeights | None = None,
        seed: int | None = None,
        preparation: Preparation | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(inner, InnerLoop):
            raise TypeError(
                "`inner` must be an InnerLoop, such as InnerLoop('mse', SGD(0.01)). "
                f"Received: inner={inner!r} of type {type(inner).__name__}."
            )
        if meta_gradient is not None and not isinstance(meta_gradient, MetaGradient):
            raise TypeError(
                "`meta_gradient` must be a MetaGradient, such as FirstOrder(). "
                f"Received: meta_gradient={meta_gradient!r} of type "
                f"{type(meta_gradient).__name__}."
            )
        learner = Learner(model, batch_norm=batch_norm, steps=inner.steps)
        # The wrapped model casts the inputs itself, once it gets its part of a batch.
        super().__init__(dtype=model.dtype_policy, autocast=False, **kwargs)
        inner.prepare(learner)  # A selector that matches no weight fails here.
        # The order of these four is the order of `trainable_variables` and of
        # meta-gradients.
        self.model = model
        self.batch_norm = learner.batch_norm
        self.rule = inner.rule
        self.start = inner.start_from.learned
        self.inner = inner
        self.learner = learner
        self.meta_gradient = meta_gradient or Backprop()
        self.meta_gradient.check(inner)
        self.task_map = auto_task_map.get(task_map)
        self.bad_tasks = bad_task_policies.get(bad_tasks)
        self.task_weights = checked_weights(task_weights)
        self.preparation = preparation
        self.seed = random.randrange(2**31) if seed is None else int(seed)
        self.episodes_seen = self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            name="episodes_seen",
        )
        self.meta_steps = self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            name="meta_steps",
        )
        # How many tasks the current epoch has left out; see `bad_tasks`.
        self.tasks_left_out = 0
        self._health = Flag()
        self._outer_loss = inner.loss
        # The form of the targets in training, for an export.
        self._trained_on = ""
        self._traced_with = frozen_or_not(model)
        self._adapt_function: Any = None
        self.built = True

    # Keras's training contract -------------------------------------------------

    def build(self, input_shape: Any = None) -> None:
        """Does nothing: the wrapped model is built already."""

    def call(self, task: dict[str, Any], training: bool = False) -> Any:
        """Predictions on each task's query inputs after adaptation to its support set.

        Args:
            task: dict of `support_x`, `support_y`, `query_x`, `[tasks, examples, ...]`.
            training: bool, whether dropout is active.

        Returns:
            Predictions `[tasks, query examples, ...]`.
        """
        return answers(self, {"task": task}, training=training)[1]

    @as_written
    def train_step(self, data: Any) -> dict[str, Any]:
        """One meta-step: adapt to every task, average the meta-gradients, apply.

        If a number of the step is not finite, nothing is applied, assigned or counted,
        and `fit` and `train_on_batch` go on as `bad_tasks` says. A loop of your own
        that runs eagerly does the same; in a graph, this method then returns NaN logs.

        Raises:
            RuntimeError: in one of several replicas. `fit` and `train_on_batch` share a
                step among the replicas of a strategy.
        """
        refuse_own_loop("train_step")
        logs = self._take_step(data)
        if tf.executing_eagerly() and not self._step_taken():
            logs = self._mend(data)
        return logs

    def _find(self, data: Any, tasks: Any = None) -> tuple[MetaStep, Any]:
        """The numbers of a meta-step, and whether all of them are finite.

        Args:
            data: a batch.
            tasks: positions of the tasks that count; None for all tasks.
        """
        task, query_y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        scale = self.optimizer.scale_loss(tf.ones([]))
        step = meta_step(
            self, task, query_y, sample_weight, seed=None, scale=scale, tasks=tasks
        )
        return step, self._is_finite(step, scale)

    def _take(self, data: Any, tasks: Any, step: MetaStep) -> dict[str, Any]:
        """Applies, assigns and counts what a step found; returns the logs."""
        task, query_y, sample_weight = tasks_at(
            tasks, keras.utils.unpack_x_y_sample_weight(data)
        )
        self.optimizer.apply(step.gradients, self.trainable_variables)
        for index, value in step.state.items():
            self.learner.state_variables[index].assign(value)
        self.episodes_seen.assign_add(tf.cast(step.episodes, tf.int64))
        self.meta_steps.assign_add(1)
        self._count_loss(step.loss, query_y)
        logs = self.compute_metrics(task, query_y, step.predictions, sample_weight)
        return dict(tf.nest.map_structure(tf.convert_to_tensor, logs))

    def _take_step(self, data: Any, tasks: Any = None) -> dict[str, Any]:
        """A meta-step on the tasks at some positions of a batch; None for all tasks."""
        step, finite = self._find(data, tasks)
        _, query_y, _ = keras.utils.unpack_x_y_sample_weight(data)
        self._create_variables(tasks_at(tasks, query_y), step.predictions)
        like: dict[str, Any] = {}

        def take() -> dict[str, Any]:
            like.update(self._take(data, tasks, step))
            return dict(like)

        def leave() -> dict[str, Any]:
            return dict(tf.nest.map_structure(_unknown, like))

        return self._only_if(finite, take, leave)

    def _only_if(self, finite: Any, take: Any, leave: Any) -> dict[str, Any]:
        """The logs of `take()` if all numbers are finite, else those of `leave()`."""
        self._health.assign(finite)
        if tf.executing_eagerly():
            return take() if finite else {}
        logs: dict[str, Any] = tf.cond(finite, take, leave)
        return logs

    def _mend(self, data: Any) -> dict[str, Any]:
        """Goes on after a step that was not taken, as `bad_tasks` says.

        Raises:
            BadTaskError: if the step cannot be taken on some of the tasks either.
        """
        if self._replicas is not None:
            data = self._replicas.whole(data)
        found = bad_task_search.bad_tasks(self, data)
        count = int(tf.nest.flatten(data)[0].shape[0])
        good = self.bad_tasks.good(found, count) if found else list(range(count))
        logs, taken = self._rest(data, tf.constant(good))
        if not taken:
            raise BadTaskError.of_mean(found, count)
        if found:
            # One warning for each epoch; the log has the others at level INFO.
            level = logging.INFO if self.tasks_left_out else logging.WARNING
            logger.log(level, "%s", bad_task_policies.left_out(found, count))
        self.tasks_left_out += len(found)
        return logs

    def _rest(self, data: Any, positions: Any) -> tuple[dict[str, Any], bool]:
        """A meta-step on some of the tasks, in a program of its own."""
        if self._replicas is not None:
            # Each replica has the whole batch, and takes its part of the positions.
            positions = self._replicas.cut(positions)
        step = self._step_on_some
        if not self.run_eagerly:
            if "_rest_step" not in self.__dict__:
                self.__dict__["_rest_step"] = tf.function(
                    step, autograph=False, reduce_retracing=True
                )
            step = self.__dict__["_rest_step"]
        logs, taken = step(data, positions)
        return logs, bool(taken)

    def _step_on_some(self, data: Any, positions: Any) -> tuple[dict[str, Any], Any]:
        if self._replicas is not None:
            return self._shared_step(data, positions)
        logs = self._take_step(data, positions)
        return logs, self._health.read()

    def _shared_step(
        self, data: Any, positions: Any = None
    ) -> tuple[dict[str, Any], Any]:
        assert self._replicas is not None
        step = self._replicas.training_step(self, self._find, self._take)
        logs, taken = step(data, positions)
        return logs, taken

    def _is_finite(self, step: MetaStep, scale: Any) -> Any:
        """Whether all numbers that the step writes or depends on are finite.

        Each number is a mean over tasks, and is finite if all tasks are finite. The
        meta-gradient must have a finite norm, too.
        """
        others = all_finite([step.loss, *step.adapted, *step.state.values()])
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            return tf.logical_and(others, norm_is_finite(step.gradients))
        # This optimizer leaves out a step with infinite gradients by itself and lowers
        # the scale until the scale fits. At a scale of one no lower scale helps.
        unscaled = norm_is_finite([g / tf.cast(scale, g.dtype) for g in step.gradients])
        left_out = tf.logical_and(
            tf.logical_not(all_finite(step.gradients)), scale > 1.0
        )
        return tf.logical_and(others, tf.logical_or(unscaled, left_out))

    @as_written
    def test_step(self, data: Any) -> dict[str, Any]:
        """The loss and the metrics of the queries after adaptation, as in `fit`."""
        task, query_y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        batch = episode_checks.elements(task, query_y, sample_weight)
        loss, predictions = answers(self, batch, training=False)
        self._count_loss(loss, query_y)
        return dict(self.compute_metrics(task, query_y, predictions, sample_weight))

    def _count_loss(self, loss: Any, query_y: Any) -> None:
        tasks = tf.shape(tf.nest.flatten(query_y)[0])[0]
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tasks)

    # Meta-gradients ------------------------------------------------------------

    @as_written
    def compute_meta_gradients(
        self, batch: Any, *, seed: Any = None
    ) -> tuple[Any, list[Any]]:
        """The mean query loss and the gradients that `train_step` applies.

        `g = mean_i d L_i(query_i; phi_i(theta)) / d theta`

        Args:
            batch: `(task, query_y)` or `(task, query_y, sample_weight)`.
            seed: int tensor `[2]` for dropout; None for the next meta-step's seed.

        Returns:
            The mean query loss, a scalar, and a list of gradients, one for each of
            `maml.trainable_variables`.
        """
        task, query_y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        step = meta_step(
            self, task, query_y, sample_weight, seed=seed, scale=tf.ones([])
        )
        return step.loss, step.gradients

    def memory_estimate(self, batch: Any) -> MemoryEstimate:
        """The memory that training on batches of this size needs, before it starts.

        The meta-step of one task is traced, which takes seconds, and not run. Its
        tensors that live at the same time are added up, for as many tasks as the task
        map runs at once.

        Args:
            batch: `(task, query_y)`, arrays or `tf.TensorSpec`s such as the
                `element_spec` of a dataset, with known sizes.

        Returns:
            A `MemoryEstimate`. `print` shows its parts, the free memory of the
            machine, and advice if the training will not fit.

        Raises:
            ValueError: if a size is unknown, or the batch has another form.

        >>> from maml_keras import SGD
        >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
        >>> maml = MAML(model, InnerLoop("mse", SGD(0.1)))
        >>> task = {"support_x": np.zeros([4, 5, 1]), "support_y": np.ones([4, 5, 1]),
        ...         "query_x": np.zeros([4, 3, 1])}
        >>> maml.memory_estimate((task, np.ones([4, 3, 1]))).fits
        True
        """
        trained_on = self._trained_on

        def step(one_task: Any) -> Any:
            task, query_y, weights = keras.utils.unpack_x_y_sample_weight(one_task)
            return meta_step(
                self,
                task,
                query_y,
                weights,
                seed=None,
                scale=tf.ones([]),
                task_map=memory.OneTask(),
            )[:4]

        try:
            return memory.estimate(
                step,
                batch,
                learner=self.learner,
                inner=self.inner,
                task_map=self.task_map,
                variables=self.trainable_variables,
                optimizer=getattr(self, "optimizer", None),
            )
        finally:
            self._trained_on = trained_on

    # One task, and out of the library ------------------------------------------

    def adapt(
        self,
        support_x: Any,
        support_y: Any = None,
        *,
        steps: int | None = None,
        learning_rate: float | None = None,
        verbose: str | int = "auto",
    ) -> keras.Model:
        """Returns an ordinary model that is adapted to one task.

        Its weights are `phi_K`: K inner steps from the initialisation on the support
        set. `MAML` itself stays unchanged.

        Args:
            support_x: inputs `[examples, ...]`. With a preparation: raw data, such as
                a DataFrame or a file; arrays are those of episodes, prepared already.
            support_y: targets `[examples, ...]`; None for those in the raw data.
            steps: int, inner steps; None for as many as in training.
            learning_rate: float, overrides the learning rate of the rule.
            verbose: 0 for silence, else a progress bar once two seconds have passed.

        Returns:
            A `keras.Model` of the wrapped model's class. An ordinary model predicts
            with the moving statistics of its batch norm layers. Policies that use
            batch statistics outside training too (all except `running`, `frozen` and
            `per_step_running`) set these moving statistics to the statistics of the
            support set, except in frozen layers. `per_step_running` sets them to the
            moving statistics of the last step.

            With a preparation, the model takes raw inputs, as
            `maml.preparation.raw` returns them, and predicts in the original unit.

        Raises:
            ValueError: if the support set is empty, not finite or does not fit.
        """
        steps = self.inner.steps if steps is None else steps
        check_steps(steps)
        self._renew()
        support_x, support_y = prepared(self, support_x, support_y)
        support_x, support_y = fit_checks.checked_support(
            self.learner, self.inner.loss, support_x, support_y
        )
        if self._adapt_function is None:
            self._adapt_function = compiled_adaptation(self.learner, self.inner)
        rate = (
            None if learning_rate is None else tf.constant(checked_rate(learning_rate))
        )
        values = self._adapt_function(support_x, support_y, steps, rate, verbose)
        network = copy_of(self.model, [value.numpy() for value in values])
        return around(network, self.preparation)

    def export(
        self,
        path: Any,
        *,
        input_signature: Any = None,
        card: dict[str, Any] | None = None,
        verbose: str | int = "auto",
    ) -> Any:
        """Writes the initialisation as a SavedModel that needs only TensorFlow.

        The folder holds the SavedModel (functions `serve`, `adapt`, `predict_with`,
        `adapt_and_predict`, `fine_tune`, `reset`), `learner.keras`, and `card.json`.
        If the model has a preparation, the functions take raw data, for a table a dict
        of columns, and predict in the unit of the raw targets.

        Args:
            path: str or path of a folder, created if it does not exist.
            input_signature: None, or `(x, y)`, nests of `tf.TensorSpec`, for a model
                that does not declare the shape of its inputs.
            card: dict of further entries for the card: data, command, metrics.
            verbose: 0 for silence, else a progress bar once two seconds have passed.

        Returns:
            The folder's `pathlib.Path`.
        """
        from maml_keras.export.saved_model import write

        if not self._writes:
            raise ValueError(
                "Of several workers the first exports. Received: a call in another "
                "one. Ask `strategy.cluster_resolver.task_id == 0` before."
            )
        check_writable(self, f"The export {path}")
        facts: dict[str, Any] = {"meta_gradient": self.meta_gradient.title(self.inner)}
        if meta_steps := int(self.meta_steps.numpy()):
            facts["iterations"] = meta_steps
        return write(
            self.learner,
            self.inner,
            path,
            input_signature=input_signature,
            trained_on=self._trained_on,
            preparation=self.preparation,
            card={**facts, **(card or {})},
            verbose=verbose,
        )

    def with_batch_norm(self, batch_norm: str | BatchNormPolicy) -> MAML:
        """This model under another batch-norm policy, with the same variables.

        Weights that were trained under `"transductive"` predict each query by itself
        under `"inductive"`, without other training.

        Args:
            batch_norm: a policy, as for the constructor.

        Returns:
            A `MAML` that shares its model and its inner loop with this one. It
            evaluates, adapts and exports as it is; to train it, compile it.

        Raises:
            ValueError: if the present policy has learned weights, which would be lost.

        >>> from maml_keras import SGD
        >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
        >>> maml = MAML(model, InnerLoop("mse", SGD(0.1)))
        >>> maml.with_batch_norm("inductive").batch_norm.name
        'inductive'
        """
        if learned := self.batch_norm.learned():
            raise ValueError(
                "`with_batch_norm` needs a policy without learned weights. Received: "
                f"a model under '{self.batch_norm.name}', which has {len(learned)} "
                f"of them. Train under {batch_norm!r} from the start."
            )
        other = type(self)(
            self.model,
            self.inner,
            meta_gradient=self.meta_gradient,
            task_map=self.task_map,
            batch_norm=batch_norm,
            bad_tasks=self.bad_tasks,
            seed=self.seed,
            preparation=self.preparation,
            name=self.name,
        )
        other.episodes_seen.assign(self.episodes_seen)
        other.meta_steps.assign(self.meta_steps)
        other._outer_loss = self._outer_loss
        other._trained_on = self._trained_on
        return other

    # Configuration -------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data, and the form of the targets."""
        return {
            "model": keras.saving.serialize_keras_object(self.model),
            "inner": keras.saving.serialize_keras_object(self.inner),
            "meta_gradient": keras.saving.serialize_keras_object(self.meta_gradient),
            "task_map": keras.saving.serialize_keras_object(self.task_map),
            "batch_norm": batch_norm_policies.described(self.learner.batch_norm),
            "bad_tasks": keras.saving.serialize_keras_object(self.bad_tasks),
            "task_weights": keras.saving.serialize_keras_object(self.task_weights),
            "seed": self.seed,
            "preparation": keras.saving.serialize_keras_object(self.preparation),
            "name": self.name,
            "trained_on": self._trained_on,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> MAML:
        """The model that `get_config` described, with fresh weights."""
        revived: dict[str, Any] = {
            key: keras.saving.deserialize_keras_object(config[key], custom_objects)
            for key in (
                "model",
                "inner",
                "meta_gradient",
                "task_map",
                "bad_tasks",
                "task_weights",
                "preparation",
            )
            if key in config
        }
        arguments = {**config, **revived}
        trained_on = arguments.pop("trained_on", "")
        model = cls(**arguments)
        model._trained_on = trained_on
        return model


def _unknown(like: Any) -> Any:
    """NaN in the type and shape of a number; zero for an integer."""
    return tf.fill(
        like.shape, tf.cast(math.nan if like.dtype.is_floating else 0, like.dtype)
    )
