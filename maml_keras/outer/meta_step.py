"""The numbers of a meta-step of a batch, before anything is applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from maml_keras.backend.finite import zero_if_finite
from maml_keras.execution.place import Place
from maml_keras.execution.task_maps import TaskMap, parallel
from maml_keras.learner import episode_checks, input_checks, masks, target_specs
from maml_keras.learner.learner import Output
from maml_keras.learner.weights import passes_of, support_of
from maml_keras.outer import task_weights
from maml_keras.outer.derivative_checks import with_every_derivative
from maml_keras.outer.objectives import TaskProblem


class MetaStep(NamedTuple):
    """What a meta-step found, before anything is applied.

    Attributes:
        loss: scalar, the mean query loss, in which tasks count by `maml.task_weights`.
        gradients: list of tensors, for each of `trainable_variables` the mean of the
            meta-gradients, of the same weights, times the scale of the loss.
        predictions: of the query inputs `[tasks, examples, ...]`.
        adapted: list of tensors, finite if the adapted weights of all tasks are finite:
            the means of these weights, or a mean of zeros and NaN.
        state: dict, the new values of some of the learner's `state_variables`, by
            their index.
        episodes: int tensor, tasks of the whole batch.
    """

    loss: Any
    gradients: list[Any]
    predictions: Any
    adapted: list[Any]
    state: dict[int, Any]
    episodes: Any


def meta_step(
    maml: Any,
    task: Any,
    query_y: Any,
    sample_weight: Any,
    *,
    seed: Any,
    scale: Any,
    tasks: Any = None,
    task_map: TaskMap | None = None,
) -> MetaStep:
    """The means over the tasks of a batch.

    In one of several replicas, the means are over the tasks of all replicas, while
    `predictions` are those of the own tasks.

    Args:
        maml: the model.
        task: dict of `support_x`, `support_y` and `query_x`.
        query_y: query targets `[tasks, examples, ...]`.
        sample_weight: None, or weights of the queries.
        seed: int tensor `[2]` for dropout; None for the next meta-step's seed.
        scale: scalar tensor that multiplies the loss, for half precision.
        tasks: int tensor, positions of the tasks that count; None for all tasks.
        task_map: the map in place of the model's own; None for the model's own.
    """
    batch = episode_checks.elements(task, query_y, sample_weight)
    task = batch["task"]
    episode_checks.check_batch(task, batch["query_y"])
    input_checks.check_scale(maml.model, task, hint=input_checks.TRAINING)
    maml._trained_on = target_specs.described(task["support_y"])
    learner, weights = maml.learner, maml.learner.weights()
    count = tf.shape(tf.nest.flatten(task)[0])[0]
    place = Place(count if tasks is None else tf.size(tasks))
    # The seeds are drawn for the whole batch, so that a task's seeds depend neither on
    # the other tasks that count nor on the replica that has the task.
    if tasks is None:
        elements = {**batch, **seeds_of(maml, task, seed, place)}
    else:
        elements = tasks_at(tasks, {**batch, **seeds_of(maml, task, seed)})
    iteration = tf.convert_to_tensor(maml.meta_steps.value)

    def one(element: dict[str, Any]) -> tuple[Any, Any]:
        problem = problem_of(maml, element, weights, iteration, scale)
        estimate = maml.meta_gradient(problem)
        gradients = estimate.gradients
        if not maml.meta_gradient.scales_with_loss:
            rest = maml.meta_gradient.remaining_scale(scale, iteration=iteration)
            gradients = [g * tf.cast(rest, g.dtype) for g in gradients]
        moved = learner.moved(problem.state, estimate.state)
        averaged = {i: v for i, v in moved.items() if v.dtype.is_floating}
        others = {i: v for i, v in moved.items() if not v.dtype.is_floating}
        # A loop over tasks would add up all adapted weights, so it gets one number for
        # each task. For tasks with an axis the mean is quick, in particular under XLA.
        adapted = list(estimate.adapted)
        if not mapped.in_step:
            adapted = [zero_if_finite(adapted)]
        counts = maml.task_weights(element["task"])
        weighed = task_weights.times((estimate.loss, gradients, averaged), counts)
        return (
            (weighed, [] if counts is None else [counts], adapted),
            (estimate.predictions, masks.taken(estimate.predictions), others),
        )

    # A step on some tasks of a batch is rare, so its map is the one that is quick to
    # trace and fits any number of tasks.
    chosen = task_map or (parallel() if tasks is not None else maml.task_map)
    mapped = chosen.fitted(learner, task)

    def share(elements: Any) -> Any:
        return differentiated(maml, lambda: mapped(one, elements))

    if place.is_shared and maml.jit_compile and tasks is None:
        # XLA has no form of messages between processors, so it compiles what lies
        # between them.
        share = tf.function(share, jit_compile=True, autograph=False)
    means, (predictions, known, others) = share(place.at_least_one(elements))
    (weighed, counts, adapted), total = place.mean(means)
    loss, gradients, averaged = task_weights.over(weighed, *counts or [None])
    predictions, known = place.as_many((predictions, known), elements)
    # Integers, such as a counter, cannot be averaged: take the first task's.
    firsts = place.of_first({i: v[0] for i, v in others.items()})
    return MetaStep(
        loss=loss / tf.cast(scale, loss.dtype),
        gradients=gradients,
        predictions=masks.put_back(predictions, known),
        adapted=adapted,
        state={**averaged, **firsts},
        episodes=total if tasks is None else count,
    )


def mean_loss(maml: Any, task: Any, query_y: Any, *, seed: Any) -> Any:
    """The `loss` of `meta_step`, without its gradients.

    Args:
        maml: the model.
        task: dict of `support_x`, `support_y` and `query_x`.
        query_y: query targets `[tasks, examples, ...]`.
        seed: int tensor `[2]` for dropout.
    """
    batch = episode_checks.elements(task, query_y, None)
    learner, weights = maml.learner, maml.learner.weights()
    elements = {**batch, **seeds_of(maml, batch["task"], seed)}
    iteration = tf.convert_to_tensor(maml.meta_steps.value)

    def one(element: dict[str, Any]) -> tuple[Any, Any]:
        problem = problem_of(maml, element, weights, iteration, tf.ones([]))
        return maml.meta_gradient.loss(problem), ()

    mapped = maml.task_map.fitted(learner, batch["task"])
    return differentiated(maml, lambda: mapped(one, elements)[0])


def answers(maml: Any, batch: dict[str, Any], *, training: bool) -> tuple[Any, Any]:
    """The mean query loss, if there are targets, and the predictions of each task.

    The weights adapt as in training, and nothing is differentiated for the outer loop.
    """
    task = batch["task"]
    episode_checks.check_batch(task, batch.get("query_y"))
    input_checks.check_scale(maml.model, task)
    weights = maml.learner.weights()

    def one(element: dict[str, Any]) -> tuple[Any, Any]:
        state = maml.learner.state(element.get("seeds"))
        task = element["task"]
        last = maml.inner.trajectory(
            maml.learner, weights, state, *support_of(task), training=training
        )[-1]
        output = maml.learner.query(
            last.weights,
            last.state,
            task["support_x"],
            task["query_x"],
            training=training,
            step=maml.inner.steps,
            **passes_of(task),
        )
        loss = query_loss(maml, element, output) if "query_y" in element else ()
        known = masks.taken(output.predictions)
        return loss, (output.predictions, known)

    place = Place(tf.shape(tf.nest.flatten(task)[0])[0])
    seeds = seeds_of(maml, task, None, place) if training else {}
    elements = {**batch, **seeds}
    mapped = maml.task_map.fitted(maml.learner, task)
    loss, found = mapped(one, place.at_least_one(elements))
    if "query_y" in batch:
        loss, _ = place.mean(loss)
    return loss, masks.put_back(*place.as_many(found, elements))


def query_loss(maml: Any, element: dict[str, Any], output: Output) -> Any:
    """The outer loss of one task plus the losses that its layers add."""
    loss = maml._outer_loss(
        element["query_y"], output.predictions, element.get("sample_weight")
    )
    return loss + tf.cast(output.penalty, loss.dtype)


def differentiated(maml: Any, run: Callable[[], Any]) -> Any:
    """The result of `run()`, which computes meta-gradients."""
    return with_every_derivative(
        run,
        maml.model,
        losses=dict.fromkeys([maml.inner.loss.name, maml._outer_loss.name]),
        second_order=maml.meta_gradient.is_derivative(maml.inner),
    )


def problem_of(
    maml: Any, element: dict[str, Any], weights: list[Any], iteration: Any, scale: Any
) -> TaskProblem:
    """One task of a batch, with the query loss times a scale."""

    def scaled_loss(output: Output) -> Any:
        loss = query_loss(maml, element, output)
        return loss * tf.cast(scale, loss.dtype)

    return TaskProblem(
        learner=maml.learner,
        inner=maml.inner,
        weights=weights,
        state=maml.learner.state(element.get("seeds")),
        task=element["task"],
        query_loss=scaled_loss,
        iteration=iteration,
    )


def seeds_of(
    maml: Any, task: Any, seed: Any, place: Place | None = None
) -> dict[str, Any]:
    """The seeds of each task's generators, by `"seeds"`; empty without generators.

    Args:
        maml: the model.
        task: dict of arrays `[tasks, ...]`.
        seed: int tensor `[2]`; None for the next meta-step's seed.
        place: of these tasks in the batch of all replicas; None if they are the batch.
    """
    if not maml.learner.num_seeds:
        return {}
    if seed is None:
        # The seed depends on the position in training only, so that a resumed run
        # draws the same masks.
        base = tf.constant([maml.seed, 0], tf.int64)
        seed = tf.random.fold_in(base, maml.episodes_seen.value)
    tasks = tf.shape(tf.nest.flatten(task)[0])[0] if place is None else place.total
    # Each generator of each task gets a different seed.
    seeds = tf.random.stateless_uniform(
        [tasks, maml.learner.num_seeds, 2],
        tf.cast(seed, tf.int64),
        minval=0,
        maxval=tf.int32.max,
        dtype=tf.int32,
    )
    return {"seeds": seeds if place is None else place.rows(seeds)}


def tasks_at(positions: Any, nest: Any) -> Any:
    """The tasks at those positions of each array; None for all of them."""
    if positions is None:
        return nest
    return tf.nest.map_structure(
        lambda t: None if t is None else tf.gather(t, positions), nest
    )
