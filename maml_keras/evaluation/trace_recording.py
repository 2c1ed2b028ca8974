"""Runs the inner loop step by step and records each layer's gradients and updates."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from maml_keras.inner.loop import InnerLoop, Point
from maml_keras.inner.rules import UpdateRule
from maml_keras.learner.learner import Learner
from maml_keras.learner.weights import support_of
from maml_keras.outer.maml import MAML


class Norms(NamedTuple):
    """Norms of one inner step, by layer.

    Attributes:
        gradient: float32 `[layers]`, Euclidean norm of the gradient, before clipping.
        update: float32 `[layers]`, Euclidean norm of the change of the weights.
    """

    gradient: Any
    update: Any


class Recording(UpdateRule):
    """Steps as another rule does, and keeps the norms of the last step in its state.

    The inner loop passes a rule's state from step to step, so a trajectory with this
    rule also holds the norms of each step. Nothing else of the trajectory changes.

    Args:
        rule: the `UpdateRule` that takes the steps.
        paths: list of the adapted weights' paths, such as `"dense/kernel"`.

    Attributes:
        layers: paths of the layers that own these weights, in the weights' order.

    >>> from maml_keras import SGD
    >>> rule, w = Recording(SGD(0.5), ["dense/kernel"]), [tf.zeros([2])]
    >>> w, state = rule.update(w, [tf.constant([3.0, 4.0])], rule.start(w), step=0)
    >>> state[1].gradient.numpy(), state[1].update.numpy()
    (array([5.], dtype=float32), array([2.5], dtype=float32))
    """

    def __init__(self, rule: UpdateRule, paths: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rule = rule
        self.layers = owners(paths)
        self._members = [
            [i for i, path in enumerate(paths) if owners([path]) == (layer,)]
            for layer in self.layers
        ]
        self.built = True

    def start(self, weights: list[Any]) -> Any:
        nothing = tf.zeros([len(self.layers)])
        return self.rule.start(weights), Norms(nothing, nothing)

    def update(
        self,
        weights: list[Any],
        gradients: list[Any],
        state: Any,
        *,
        step: Any,
        learning_rate: Any = None,
    ) -> tuple[list[Any], Any]:
        moved, inner_state = self.rule.update(
            weights, gradients, state[0], step=step, learning_rate=learning_rate
        )
        changes = [after - before for before, after in zip(weights, moved)]
        return moved, (
            inner_state,
            Norms(self._by_layer(gradients), self._by_layer(changes)),
        )

    def _by_layer(self, values: list[Any]) -> Any:
        squares = [tf.reduce_sum(tf.square(tf.cast(v, tf.float32))) for v in values]
        sums = [tf.add_n([squares[i] for i in members]) for members in self._members]
        return tf.sqrt(tf.stack(sums))


def owners(paths: list[str]) -> tuple[str, ...]:
    """The layers that own weights, each once, in the order of the weights.

    >>> owners(["conv/kernel", "conv/bias", "head/kernel"])
    ('conv', 'head')
    """
    return tuple(dict.fromkeys(path.rpartition("/")[0] or path for path in paths))


def recorded(maml: MAML) -> InnerLoop:
    """A copy of the model's inner loop that records norms and is not differentiated."""
    loop = copy.copy(maml.inner)
    loop.second_order = False
    loop.rematerialize = False
    adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    loop.rule = Recording(maml.inner.rule, [v.path for v in adapted])
    return loop


def along(
    loop: InnerLoop,
    learner: Learner,
    task: Any,
    steps: int,
    look: Callable[[Point, Any], Any],
) -> tuple[Any, Norms]:
    """The results of `look` at each point of a trajectory, and the norms of its steps.

    The steps are a loop in the graph, because nothing is differentiated through them:
    ten steps trace as fast as one.

    Args:
        loop: the result of `recorded`.
        learner: the model as a pure function.
        task: a dict of one task with `support_x` and `support_y`.
        steps: int, K.
        look: `look(point, k)` returns a nest of tensors with the same shapes at every
            step k.

    Returns:
        The nest with tensors `[K + 1, ...]`, and `Norms` of tensors `[K, layers]`.
    """
    support = support_of(task)
    point = loop.start(
        learner, learner.weights(), learner.state(), *support, training=False
    )
    seen = tf.nest.map_structure(lambda t: tf.stack([t] * (steps + 1)), look(point, 0))
    norms = tf.nest.map_structure(
        lambda t: tf.zeros([steps, *t.shape]), point.rule_state[1]
    )
    if not steps:
        return seen, norms

    def body(k: Any, point: Point, seen: Any, norms: Any) -> tuple[Any, ...]:
        point = loop.step(learner, point, *support, step=k, training=False)
        seen = _with_row(seen, k + 1, look(point, k + 1))
        return k + 1, point, seen, _with_row(norms, k, point.rule_state[1])

    first = tf.constant(0), point, seen, norms
    _, _, seen, norms = tf.while_loop(lambda k, *_: k < steps, body, first)
    return seen, norms


def _with_row(tables: Any, k: Any, rows: Any) -> Any:
    """Tensors `[rows, ...]` with row k replaced."""

    def replaced(table: Any, row: Any) -> Any:
        chosen = tf.equal(tf.range(table.shape[0]), k)
        return tf.where(tf.reshape(chosen, [-1] + [1] * row.shape.rank), row, table)

    return tf.nest.map_structure(replaced, tables, rows)
