"""Update rules with variables that are meta-learned with the initialisation."""

from __future__ import annotations

import abc
from typing import Any

import keras
import tensorflow as tf

from maml_keras.inner.rules import UpdateRule, checked_rate, rate_of

LARGEST_AXIS = 1024


class LearnedRule(UpdateRule, abc.ABC):
    """A rule with learned variables, whose shapes follow the weights that adapt.

    Args:
        learning_rate: float, not negative, the initial value of the learned rates.
        constraint: None, or a `keras.constraints` identifier for the learned
            variables; `"non_neg"` keeps rates from turning negative.
    """

    built: bool

    def __init__(
        self, learning_rate: float = 0.01, *, constraint: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.learning_rate = checked_rate(learning_rate)
        self.constraint = keras.constraints.get(constraint)
        self._shapes: tuple[tuple[int, ...], ...] = ()

    def prepare(self, variables: list[Any], steps: int) -> None:
        shapes = tuple(tuple(v.shape) for v in variables)
        if not self.built:
            self._create(variables, steps)
            self._shapes = shapes
            self.built = True
        elif shapes != self._shapes:
            raise ValueError(
                f"{type(self).__name__} '{self.name}' has learned rates for weights of "
                f"shapes {list(self._shapes)}. Received: weights of shapes "
                f"{list(shapes)}. Make a new rule, and a new MAML, for another model, "
                "or after freezing or unfreezing layers."
            )

    @abc.abstractmethod
    def _create(self, variables: list[Any], steps: int) -> None:
        """Creates the learned variables."""

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "learning_rate": self.learning_rate,
            "constraint": keras.constraints.serialize(self.constraint),
        }


@keras.saving.register_keras_serializable(package="maml_keras")
class MetaSGD(LearnedRule):
    """Gradient descent with a learned rate for each weight (Meta-SGD).

    `phi_{k+1} = phi_k - alpha * g_k`, element by element; `alpha` has the shape of the
    weights and is meta-learned with them.

    Args:
        learning_rate: float, the initial value of each rate.
        constraint: None, or a `keras.constraints` identifier, such as `"non_neg"`. In
            the paper, rates may change sign.

    Reference: Li et al., 2017, https://arxiv.org/abs/1707.09835

    >>> import maml_keras as mk
    >>> inner = mk.InnerLoop("mse", mk.MetaSGD(0.01), steps=1)
    >>> maml = mk.MAML(mk.models.mlp(), inner)
    >>> len(maml.model.weights), len(maml.rule.trainable_variables)
    (6, 6)
    """

    def _create(self, variables: list[Any], steps: int) -> None:
        self.rates = [
            self.add_weight(
                shape=v.shape,
                dtype=v.dtype,
                initializer=keras.initializers.Constant(self.learning_rate),
                constraint=self.constraint,
                name=f"rate_{i}",
            )
            for i, v in enumerate(variables)
        ]

    def learned_rates(self) -> list[Any]:
        return [tf.convert_to_tensor(rate.value)[None] for rate in self.rates]

    def update(
        self,
        weights: list[Any],
        gradients: list[Any],
        state: Any,
        *,
        step: Any,
        learning_rate: Any = None,
    ) -> tuple[list[Any], Any]:
        updated = [
            w - rate_of(rate.value, learning_rate, w) * tf.cast(g, w.dtype)
            for w, g, rate in zip(weights, gradients, self.rates, strict=True)
        ]
        return updated, state


@keras.saving.register_keras_serializable(package="maml_keras")
class PerStepSGD(LearnedRule):
    """Gradient descent with a learned rate for each layer and inner step (MAML++).

    `phi_{k+1} = phi_k - alpha[min(k, K - 1), layer] * g_k`: steps beyond the K steps of
    training use the last rate.

    Args:
        learning_rate: float, the initial value of each rate.
        constraint: None, or a `keras.constraints` identifier, such as `"non_neg"`.

    Attributes:
        layers: paths of the layers, one for each column of `rates`.
        rates: variable `[steps, layers]`.

    Reference: Antoniou et al., 2019, https://arxiv.org/abs/1810.09502

    >>> import maml_keras as mk
    >>> inner = mk.InnerLoop("mse", mk.PerStepSGD(0.01), steps=3)
    >>> maml = mk.MAML(mk.models.mlp(), inner)
    >>> len(maml.model.weights), len(maml.rule.trainable_variables)
    (6, 1)
    """

    def _create(self, variables: list[Any], steps: int) -> None:
        owners = _owners([v.path for v in variables])
        self.layers = tuple(dict.fromkeys(owners))
        self._columns = tuple(self.layers.index(owner) for owner in owners)
        self.rates = self.add_weight(
            shape=[max(1, steps), len(self.layers)],
            dtype=variables[0].dtype,
            initializer=keras.initializers.Constant(self.learning_rate),
            constraint=self.constraint,
            name="rates",
        )

    def learned_rates(self) -> list[Any]:
        rates = tf.convert_to_tensor(self.rates.value)
        return [rates[:, column] for column in self._columns]

    def update(
        self,
        weights: list[Any],
        gradients: list[Any],
        state: Any,
        *,
        step: Any,
        learning_rate: Any = None,
    ) -> tuple[list[Any], Any]:
        last = self.rates.shape[0] - 1
        # Convert first: a gather from a variable has no form with a task axis.
        rates = tf.convert_to_tensor(self.rates.value)
        row = tf.gather(rates, tf.minimum(tf.cast(step, tf.int32), last))
        updated = [
            w - rate_of(row[column], learning_rate, w) * tf.cast(g, w.dtype)
            for w, g, column in zip(weights, gradients, self._columns, strict=True)
        ]
        return updated, state


@keras.saving.register_keras_serializable(package="maml_keras")
class MetaCurvature(LearnedRule):
    """Gradient descent with learned matrices along each axis of the gradients.

    `phi_{k+1} = phi_k - learning_rate * (g x_1 M_1 x_2 M_2 ...)`: for a kernel, one
    matrix mixes the outputs and one the inputs; a convolution has a third matrix for
    the positions of the filter. All matrices start as identities, which is plain
    gradient descent.

    Two kinds of axes get no matrix: axes of length 1, and axes longer than 1,024, such
    as a vocabulary, whose matrix could be larger than the model.

    Args:
        learning_rate: float, the fixed rate that multiplies the transformed gradient.
        constraint: None, or a `keras.constraints` identifier for the matrices.

    Reference: Park and Oliva, 2019, https://arxiv.org/abs/1902.03356

    >>> import maml_keras as mk
    >>> inner = mk.InnerLoop("mse", mk.MetaCurvature(0.01), steps=1)
    >>> maml = mk.MAML(mk.models.mlp(), inner)
    >>> len(maml.model.weights), len(maml.rule.trainable_variables)
    (6, 6)
    """

    def _create(self, variables: list[Any], steps: int) -> None:
        self.matrices = [
            [
                self.add_weight(
                    shape=[size, size],
                    dtype=v.dtype,
                    initializer="identity",
                    constraint=self.constraint,
                    name=f"matrix_{i}_{axis}",
                )
                if 1 < size <= LARGEST_AXIS
                else None
                for axis, size in enumerate(_folded(v.shape))
            ]
            for i, v in enumerate(variables)
        ]

    def learned_rates(self) -> list[Any]:
        """For each weight: the rate times the root mean square gain of its matrices.

        The gain is the factor by which the matrices scale a gradient with independent
        entries: `|M|_F / sqrt(n)` along an axis of length n.
        """
        gains = []
        for matrices in self.matrices:
            gain = tf.constant(self.learning_rate)
            for matrix in (m for m in matrices if m is not None):
                values = tf.cast(matrix.value, tf.float32)
                gain *= tf.norm(values) / values.shape[0] ** 0.5
            gains.append(gain[None])
        return gains

    def update(
        self,
        weights: list[Any],
        gradients: list[Any],
        state: Any,
        *,
        step: Any,
        learning_rate: Any = None,
    ) -> tuple[list[Any], Any]:
        updated = []
        for w, g, matrices in zip(weights, gradients, self.matrices, strict=True):
            mixed = tf.reshape(tf.cast(g, w.dtype), _folded(w.shape))
            for axis, matrix in enumerate(matrices):
                if matrix is not None:
                    mixed = _along(mixed, axis, tf.cast(matrix.value, w.dtype))
            rate = rate_of(self.learning_rate, learning_rate, w)
            updated.append(w - rate * tf.reshape(mixed, w.shape))
        return updated, state


def _folded(shape: Any) -> list[int]:
    """The shape `[positions, inputs, outputs]`: leading axes are joined."""
    sizes = [int(n) for n in shape]
    if len(sizes) < 3:
        return sizes
    positions = 1
    for n in sizes[:-2]:
        positions *= n
    return [positions, *sizes[-2:]]


def _along(x: Any, axis: int, matrix: Any) -> Any:
    """`y[.., i, ..] = sum_j matrix[i, j] x[.., j, ..]`."""
    rank = x.shape.rank
    if rank == 1:
        return tf.linalg.matvec(matrix, x)
    letters = "abc"[:rank]
    out = letters.replace(letters[axis], "z")
    return tf.einsum(f"z{letters[axis]},{letters}->{out}", matrix, x)


def _owners(paths: list[str]) -> list[str]:
    """The layer of each weight; layers with the same name get a number.

    >>> _owners(["head/kernel", "head/kernel", "head/bias"])
    ['head', 'head-2', 'head-2']
    """
    count: dict[str, int] = {}
    seen: dict[str, set[str]] = {}
    owners = []
    for path in paths:
        owner = path.rpartition("/")[0]
        if path in seen.setdefault(owner, set()):
            # A repeated path begins the next layer with this name.
            count[owner], seen[owner] = count.get(owner, 1) + 1, set()
        seen[owner].add(path)
        number = count.get(owner, 1)
        owners.append(owner if number == 1 else f"{owner}-{number}")
    return owners
