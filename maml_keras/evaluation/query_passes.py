"""How queries are predicted in an evaluation: together, or each one alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from maml_keras.learner import masks
from maml_keras.learner.learner import Learner
from maml_keras.learner.weights import SUPPORT, weighed

Answers = Callable[..., Any]
"""Query inputs `[examples, ...]`, `weight=None` -> predictions `[examples, ...]`."""


def answers(
    learner: Learner, weights: Any, state: Any, task: Any, *, step: int
) -> Answers:
    """A function that predicts query inputs after adaptation to a support set.

    Args:
        learner: the learner.
        weights: a tensor for each of `learner.variables`, adapted.
        state: a tensor for each of `learner.state_variables`.
        task: one task, of which the support inputs and their weights count.
        step: int, inner steps taken.
    """
    support_x, support_weight = task["support_x"], task.get(SUPPORT)
    how: dict[str, Any] = {"training": False, "step": step}
    settled = learner.settled(weights, state, support_x, weight=support_weight, **how)

    def answer(x: Any, weight: Any = None) -> Any:
        return learner.answer(weights, settled, x, weight=weight, **how).predictions

    return answer


def together(answer: Answers, x: Any, weight: Any) -> Any:
    """The predictions of one pass over all queries of a task."""
    return answer(x, weight)


def alone(answer: Answers, x: Any, weight: Any) -> Any:
    """The predictions of one pass for each query, as for a client that sends one."""

    def rows(x: Any) -> Any:
        output = answer(x)
        return output, masks.taken(output)

    # The first query tells the structure and the types.
    like = rows(tf.nest.map_structure(lambda a: a[:1], x))
    spec = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), like)
    found = tf.map_fn(
        lambda row: rows(tf.nest.map_structure(lambda a: a[None], row)),
        x,
        fn_output_signature=spec,
    )
    # Each pass had one row.
    predictions = masks.put_back(
        *tf.nest.map_structure(lambda t: tf.squeeze(t, axis=1), found)
    )
    return weighed(predictions, weight)


PASSES: dict[str, Callable[[Answers, Any, Any], Any]] = {
    "together": together,
    "alone": alone,
}


def get(name: str) -> Callable[[Answers, Any, Any], Any]:
    """The function with the given name.

    Args:
        name: `"together"` or `"alone"`.

    Raises:
        ValueError: if no function has that name.
    """
    if name not in PASSES:
        raise ValueError(
            f"`queries` must be one of {list(PASSES)}. Received: queries={name!r}."
        )
    return PASSES[name]
