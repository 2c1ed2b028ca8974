"""Weights of examples: an example of weight zero is padding, and counts nowhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.learner import masks

# Optional entries of a task: float tensors `[tasks, examples]`.
SUPPORT, QUERY = "support_weight", "query_weight"
WEIGHTS = {SUPPORT: "support_x", QUERY: "query_x"}


def support_of(task: dict[str, Any]) -> tuple[Any, ...]:
    """`(x, y)` of a task's support set, or `(x, y, weight)` if it has weights."""
    both = task["support_x"], task["support_y"]
    return (*both, task[SUPPORT]) if SUPPORT in task else both


def passes_of(task: dict[str, Any]) -> dict[str, Any]:
    """A task's weights, as the keyword arguments of `Learner.query`."""
    return {name: task.get(name) for name in WEIGHTS}


def present(weight: Any) -> Any:
    """Which examples are there, `[examples]` bool; None if all are."""
    return None if weight is None else tf.not_equal(weight, 0)


def weighed(predictions: Any, weight: Any) -> Any:
    """Predictions that carry the weights of their examples, as they carry a mask.

    A loss and a metric is then a weighted mean, `sum(w_i l_i) / sum(w_i)`. Keras's own
    masks are booleans, so a mask of floats tells that examples have weights.

    Args:
        predictions: nest of tensors `[examples, ...]`.
        weight: float tensor `[examples]`, or None.

    >>> output = weighed(tf.zeros([2, 3]), tf.constant([1.0, 0.0]))
    >>> masks.taken(output)[0].numpy().tolist()
    [1.0, 0.0]
    """
    if weight is None:
        return predictions
    leaves = tf.nest.flatten(predictions)
    own = masks.taken(predictions)
    # A layer may hand its input through, so give each output a tensor of its own.
    fresh = tf.nest.pack_sequence_as(predictions, [tf.identity(t) for t in leaves])
    return masks.put_back(
        fresh,
        {
            place: masks.together(weight, own[place]) if place in own else weight
            for place in range(len(leaves))
        },
    )


def are_weights(mask: Any) -> bool:
    """True for a mask that holds weights of examples."""
    return bool(tf.as_dtype(mask.dtype).is_floating)


def check_shapes(task: dict[str, Any]) -> None:
    """Refuses weights that do not have one number for each example.

    Raises:
        ValueError: with the entry, what was expected and what was received.
    """
    for name, inputs in WEIGHTS.items():
        if name not in task:
            continue
        expected = tf.nest.flatten(task[inputs])[0].shape[:2]
        shape = tf.TensorShape(task[name].shape)
        if shape.rank is not None and not shape.is_compatible_with(expected):
            raise ValueError(
                f"`{name}` must have shape [tasks, examples], like `{inputs}`: "
                f"{tuple(expected)}. Received: shape={tuple(shape)}."
            )


def check_values(task: dict[str, Any]) -> None:
    """Refuses weights that are negative, not finite, or zero for a whole set.

    Raises:
        ValueError: with the entry and the value.
    """
    found = fault(task)
    if found is not None:
        raise ValueError(found)


def fault(task: dict[str, Any]) -> str | None:
    """What is wrong with the weights of a batch, or of a stack of batches."""
    for name in WEIGHTS.keys() & task.keys():
        values = np.asarray(task[name])
        wrong = values[~np.isfinite(values) | (values < 0)]
        if wrong.size:
            return (
                f"`{name}` must be finite and not negative. Received: {wrong[0]:g}. "
                "Give examples that count 1, and padding 0."
            )
        empty = np.flatnonzero(values.reshape(-1, values.shape[-1]).sum(-1) == 0)
        if len(empty):
            return (
                f"`{name}` must leave each task an example. Received: only zeros for "
                f"task {empty[0]} of the batch. Leave this task out."
            )
    return None


def queries_there(task: dict[str, Any], query_y: Any) -> Any:
    """Which queries are no padding, a bool array `[tasks, examples]`."""
    if QUERY in task:
        return np.asarray(task[QUERY]) != 0
    return np.ones(tf.nest.flatten(query_y)[0].shape[:2], bool)


def refuse(task: dict[str, Any], who: str) -> None:
    """Refuses a task with weights, for what cannot respect them.

    Raises:
        ValueError: naming the entry and `who`.
    """
    found = [name for name in WEIGHTS if name in task]
    if found:
        raise ValueError(
            f"{who} cannot leave out padding. Received: tasks with `{found[0]}`. Pass "
            "tasks of one size, such as `NWayKShot` with whole numbers for `ways`, "
            "`shots` and `queries`."
        )
