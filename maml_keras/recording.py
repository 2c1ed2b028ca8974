"""An update rule that notes the size of the gradients and steps of another."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from maml_keras.rules import UpdateRule


class Norms(NamedTuple):
    """What one inner step met in each layer.

    Attributes:
        gradient: float32 `[layers]`, Euclidean norm of the gradient, before clipping.
        update: float32 `[layers]`, Euclidean norm of the change of the weights.
    """

    gradient: Any
    update: Any


class Recording(UpdateRule):
    """Steps as another rule does; its state holds the norms of the last step as well.

    The inner loop carries a rule's state from step to step, so that a trajectory with
    this rule tells what each step did, and nothing else of it changes.

    Args:
        rule: the `UpdateRule` that takes the step.
        paths: list of the adapted weights' paths, such as `"dense/kernel"`.

    Attributes:
        layers: the paths of the layers that own these weights, in their order.

    >>> from maml_keras.rules import SGD
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
