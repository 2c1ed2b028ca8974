"""Finds the bad tasks of a batch, and the first bad number of each."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.backend.finite import all_finite, norm_is_finite
from maml_keras.execution.task_maps import parallel
from maml_keras.learner import episode_checks
from maml_keras.outer.bad_task_policies import KEPT, BadTask, BadTaskError
from maml_keras.outer.finite_weights import first_not_finite
from maml_keras.outer.meta_step import differentiated, problem_of, seeds_of

DATA = "Clean the data."
INNER = (
    "Lower the inner rate, or keep gradients short with `ClipByNorm(rule, 10.0)`; "
    "inputs and targets should be of size one."
)
LOSS = f"{INNER} Or the loss takes a logarithm of zero, or half precision overflows."
GRADIENT = (
    "The loss is finite but has no finite derivative at this point, such as a square "
    "root at zero, or no finite second derivative. `FirstOrder()` needs no second one."
)
STATE = "Look at the layer: its statistics leave the range of its float type."


def bad_tasks(maml: Any, data: Any) -> list[BadTask]:
    """The bad tasks of a batch on which a meta-step was not taken.

    Each task runs again by itself, in a program that is traced at the first need.

    Args:
        maml: the model, as before the step.
        data: `(task, query_y)` or `(task, query_y, sample_weight)`.

    Returns:
        List of `BadTask`; empty if each task by itself is finite.

    Raises:
        BadTaskError: if the weights were not finite before the step.
    """
    _check_weights(maml)
    task, query_y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    elements = episode_checks.elements(task, query_y, sample_weight)
    known = _known(maml, elements)
    seen = tf.nest.map_structure(lambda t: t.numpy(), _search(maml)(elements))
    seen_before = int(maml.episodes_seen.numpy())
    found = []
    for position in range(len(seen["loss"])):
        one = {name: values[position] for name, values in seen.items()}
        what = _in_data(known, position) or _in_numbers(maml, one)
        if what is not None:
            found.append(BadTask(position, seen_before + position, *what))
    return found


def _check_weights(maml: Any) -> None:
    bad = first_not_finite(maml)
    if bad is not None:
        raise BadTaskError(
            "A meta-step needs finite numbers. Received: values of "
            f"'{bad.path}' that were NaN or infinite before the step. {KEPT} Go on "
            "from the last backup, with a lower outer rate or `clipnorm`."
        )


def _search(maml: Any) -> Any:
    """`elements -> numbers` of each task, traced once."""
    if "_bad_task_search" not in maml.__dict__:
        maml.__dict__["_bad_task_search"] = tf.function(
            lambda elements: differentiated(maml, lambda: _numbers(maml, elements)),
            autograph=False,
            reduce_retracing=True,
        )
    return maml.__dict__["_bad_task_search"]


def _numbers(maml: Any, elements: dict[str, Any]) -> dict[str, Any]:
    """Each task's loss, and whether its weights, gradients and state are finite."""
    weights = maml.learner.weights()
    iteration = tf.convert_to_tensor(maml.meta_steps.value)

    def one(element: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        problem = problem_of(maml, element, weights, iteration, tf.ones([]))
        estimate = maml.meta_gradient(problem)
        moved = maml.learner.moved(problem.state, estimate.state)
        inner = problem.first_order()
        chosen = [
            maml.inner.selected(maml.learner, point.weights)
            for point in inner.trajectory()[1:]
        ]
        return (), {
            "loss": estimate.loss,
            "steps": _flags([_flags(point) for point in chosen]),
            "gradients": _flags(estimate.gradients),
            "norm": norm_is_finite(estimate.gradients),
            "state": all_finite(list(moved.values())),
        }

    elements = {**elements, **seeds_of(maml, elements["task"], None)}
    found: dict[str, Any] = parallel()(one, elements)[1]
    return found


def _flags(tensors: list[Any]) -> Any:
    """Whether each tensor is finite. Tensors of flags are stacked unchanged."""
    if not tensors:
        return tf.ones([0], tf.bool)
    if tensors[0].dtype == tf.bool:
        return tf.stack(tensors)
    return tf.stack([all_finite([t]) for t in tensors])


def _known(maml: Any, elements: dict[str, Any]) -> dict[str, Any]:
    """The same batch without the missing targets that its losses leave out."""
    task = elements["task"]
    support_y = maml.inner.loss.counted(task["support_y"])
    query_y = maml._outer_loss.counted(elements["query_y"])
    return {**elements, "task": {**task, "support_y": support_y}, "query_y": query_y}


def _in_data(elements: dict[str, Any], position: int) -> tuple[str, str] | None:
    entries = {**elements["task"]}
    entries.update({k: v for k, v in elements.items() if k != "task"})
    for name, value in entries.items():
        for leaf in tf.nest.flatten(value):
            array = np.asarray(leaf[position])
            bad = 0
            if leaf.dtype.is_floating:
                bad = int((~np.isfinite(array.astype("float64"))).sum())
            if bad:
                return f"{bad} of {array.size} values of `{name}` are not finite", DATA
    return None


def _in_numbers(maml: Any, one: dict[str, Any]) -> tuple[str, str] | None:
    adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    for step, flags in enumerate(one["steps"], start=1):
        if not flags.all():
            path = adapted[int(np.argmin(flags))].path
            return f"after inner step {step} '{path}' is not finite", INNER
    if not np.isfinite(one["loss"]):
        return f"the query loss is {one['loss']:g}", LOSS
    if not one["gradients"].all():
        path = maml.trainable_variables[int(np.argmin(one["gradients"]))].path
        return (
            f"the query loss is {one['loss']:.4g}, but the meta-gradient of '{path}' "
            "is not finite"
        ), GRADIENT
    if not one["norm"]:
        return (
            f"the query loss is {one['loss']:.4g}, and the norm of the meta-gradient "
            "is not finite"
        ), INNER
    if not one["state"]:
        return "a moving statistic is not finite", STATE
    return None
