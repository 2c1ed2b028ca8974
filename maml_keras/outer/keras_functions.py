"""The functions that Keras calls for each batch of `fit` and `evaluate`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.graph_passes import without_idle_passes
from maml_keras.execution import fused_steps, xla_choice
from maml_keras.execution.step_by_step import step_by_step
from maml_keras.learner import masks
from maml_keras.learner.known_targets import KnownTargets


def train_function(model: Any) -> Any:
    """Keras's train function, which takes no step on a batch that does not fit.

    Args:
        model: the compiled model.
    """
    check, step = model._batch_checks(), _compiled(model, model._step_with_health)
    look = looking(model, prepare=True)

    if not (model.run_eagerly or model.jit_compile):
        step = without_idle_passes(step)
    automatic = model._asked["jit_compile"] == "auto"
    if model.jit_compile and automatic:
        step = xla_choice.with_fallback(
            step, lambda: _plain_step(model), model._without_xla
        )
    function = step_by_step(
        step, model.steps_per_execution, look=look, mend=model._mend
    )
    if model._fuses:
        function = fused_steps.fuse(
            model._step_with_health,
            model.steps_per_execution,
            function,
            jit_compile=bool(model.jit_compile),
            check=check,
            mend=model._mend,
            report=model._without_xla if automatic else None,
        )
    return _counting(model, function)


def test_function(model: Any) -> Any:
    """Keras's test function, which looks at each batch before its step.

    Args:
        model: the compiled model.
    """
    one, shared = model.test_step, model._replicas
    step = _compiled(model, one if shared is None else shared.test_step(model, one))
    return seeing_batches(
        model,
        step_by_step(
            lambda batch: (step(batch), True),
            model.steps_per_execution,
            look=looking(model, prepare=shared is not None),
            mend=model._mend,
        ),
    )


def shared_predictions(model: Any) -> Any:
    """A predict function of a model on several replicas.

    Args:
        model: the compiled model.
    """
    step = _compiled(model, model._replicas.predictions(model.predict_step))

    def predict(batches: list[Any]) -> Any:
        found = [step(batch) for batch in batches]
        return tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *found)

    return predict


def looking(model: Any, *, prepare: bool = False, targets: bool = True) -> Any:
    """A function that looks at a batch before its step.

    Args:
        model: the compiled model.
        prepare: bool, whether the first batch creates the variables of metrics.
        targets: bool, whether batches need query targets.
    """
    check, replicas = model._batch_checks(targets=targets), model._replicas

    def look(batch: Any) -> None:
        parts = [batch] if replicas is None else replicas.parts(batch)
        for part in parts:
            # A replica may have no task of the last batch.
            if replicas is None or tf.nest.flatten(part)[0].shape[0]:
                check(part)
        if prepare:
            model._prepare(parts[0])

    return look


def seeing_batches(model: Any, function: Any) -> Any:
    """The same function, which also notes in the model that a batch came."""

    def seeing(batches: Any) -> Any:
        found = function(batches)
        model._saw_batch = True
        return found

    return seeing


def _plain_step(model: Any) -> Any:
    """The training step without XLA."""
    return without_idle_passes(_compiled(model, model._step_with_health))


def _compiled(model: Any, step: Any) -> Any:
    if model.run_eagerly:
        return step
    return tf.function(
        step,
        autograph=False,
        reduce_retracing=True,
        # XLA compiles the part of each replica, see `meta_step`.
        jit_compile=bool(model.jit_compile) and model._replicas is None,
    )


def _counting(model: Any, function: Any) -> Any:
    """The train function, whose logs say how many tasks were left out."""
    if not model.bad_tasks.counts:
        return function

    def counted(iterator: Any) -> dict[str, Any]:
        logs = function(iterator)
        return {**logs, "bad_tasks": float(model.tasks_left_out)}

    return counted


def counting_known(y_pred: Any) -> Any:
    """Predictions whose mask makes Keras's metrics look at the mask of their values.

    Keras reads the mask of a metric's values only if examples have weights, so without
    a mask each example gets the weight 1.

    Args:
        y_pred: predictions `[tasks, examples, targets]`.
    """
    rank = len(y_pred.shape)
    found = masks.taken(y_pred) or {0: tf.ones(tf.shape(y_pred)[:2], tf.bool)}
    wide = {place: masks.expanded(mask, rank) for place, mask in found.items()}
    return masks.put_back(tf.identity(y_pred), wide)


def check_known(model: Any) -> None:
    """Refuses compiled metrics that would count missing targets.

    Raises:
        ValueError: with the name of the metric.
    """
    compiled = model._compile_metrics
    for metric in compiled.metrics if compiled else []:
        if not isinstance(getattr(metric, "_fn", None), KnownTargets):
            raise ValueError(
                "A metric must leave out missing targets, as the loss does. Received: "
                f"the metric '{metric.name}' of class {type(metric).__name__}. Pass "
                "its name, or `mk.KnownTargets(function)`."
            )


def check_means(model: Any) -> None:
    """Refuses compiled metrics that cannot leave out padding.

    Keras's means of a function take the mask of the predictions; other metrics, such
    as `AUC`, would count padding.

    Raises:
        ValueError: with the name of the metric.
    """
    compiled = model._compile_metrics
    for metric in compiled.metrics if compiled else []:
        if not isinstance(metric, keras.metrics.MeanMetricWrapper):
            raise ValueError(
                "Only means of a function of Keras leave out padding, such as "
                "'accuracy' or `keras.metrics.MeanAbsoluteError()`. Received: tasks "
                f"with `query_weight`, and the metric '{metric.name}' of class "
                f"{type(metric).__name__}. Leave this metric out, or draw tasks of one "
                "size."
            )
