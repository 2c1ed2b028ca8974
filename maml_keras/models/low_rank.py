"""A frozen dense layer whose kernel is changed by two thin matrices (LoRA)."""

from __future__ import annotations

import numbers
from typing import Any

import keras

ADAPTABLE = keras.layers.Dense, keras.layers.EinsumDense


def is_adaptable(layer: Any) -> bool:
    """True for a dense layer with Keras's own `call`; a subclass may compute more."""
    return isinstance(layer, ADAPTABLE) and type(layer).call in {
        kind.call for kind in ADAPTABLE
    }


def check_rank(rank: Any) -> None:
    """Refuses a rank that is not a positive integer."""
    whole = isinstance(rank, numbers.Integral) and not isinstance(rank, bool)
    if not whole or rank < 1:
        raise ValueError(
            f"`rank` must be a positive integer, such as 4. Received: rank={rank!r}."
        )


@keras.saving.register_keras_serializable(package="maml_keras")
class LowRank(keras.layers.Layer):
    """A frozen layer whose kernel is changed by a product of two thin matrices.

    The kernel is `kernel + alpha / rank * A @ B`, with A random and B zero at first, so
    that the layer computes the same as before. If possible, inputs pass through A and
    then through B, and the product is never formed. So memory and time grow with the
    rank only.

    Args:
        layer: a `Dense` or `EinsumDense`; the constructor of `LowRank` freezes it.
        rank: int, positive.
        alpha: float, the change is scaled by `alpha / rank`; None for a scale of one.

    Raises:
        TypeError: if the layer is of another kind.
        ValueError: if `rank` is not a positive integer.

    Reference: Hu et al., 2021, https://arxiv.org/abs/2106.09685

    >>> layer = LowRank(keras.layers.Dense(6), rank=2)
    >>> layer.build([None, 8])
    >>> [tuple(v.shape) for v in layer.trainable_variables]
    [(8, 2), (2, 6)]
    """

    # All operations are matrix products, which accept a task axis.
    vectorizes = True

    def __init__(
        self,
        layer: keras.layers.Layer,
        rank: int = 4,
        *,
        alpha: float | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("name", f"{layer.name}_low_rank")
        # The precision of the layer; with another, the adapter would cast the inputs.
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(**kwargs)
        if not is_adaptable(layer):
            raise TypeError(
                "`layer` must be a Dense or an EinsumDense with Keras's `call`. "
                f"Received: {type(layer).__name__} '{layer.name}'."
            )
        check_rank(rank)
        self.layer = layer
        self.rank = int(rank)
        self.alpha = float(rank if alpha is None else alpha)
        self.supports_masking = layer.supports_masking
        self.activity_regularizer = layer.activity_regularizer
        layer.trainable = False

    def build(self, input_shape: Any) -> None:
        """Creates the two thin matrices."""
        if not self.layer.built:
            self.layer.build(input_shape)
        *before, last = self.layer.kernel.shape
        self.low_rank_a = self.add_weight(
            shape=[*before, self.rank], initializer="he_uniform", name="low_rank_a"
        )
        self.low_rank_b = self.add_weight(
            shape=[self.rank, last], initializer="zeros", name="low_rank_b"
        )

    def call(self, x: Any) -> Any:
        """The output of the layer with the changed kernel."""
        layer, scale = self.layer, self.alpha / self.rank
        if isinstance(layer, keras.layers.Dense):
            narrow = keras.ops.matmul(x, self.low_rank_a)
            y = keras.ops.matmul(x, layer.kernel)
            y += scale * keras.ops.matmul(narrow, self.low_rank_b)
        else:
            y = keras.ops.einsum(layer.equation, x, layer.kernel)
            y += scale * self._einsum(x)
        if layer.bias is not None:
            y += keras.ops.cast(layer.bias, y.dtype)
        return y if layer.activation is None else layer.activation(y)

    def _einsum(self, x: Any) -> Any:
        equation = self.layer.equation.replace(" ", "").replace("...", "")
        inputs, out = equation.split("->")
        data, kernel = inputs.split(",")
        last = kernel[-1]
        if "..." in self.layer.equation or last in data or last not in out:
            # The einsum sums over the last axis of the kernel, so the product must be
            # formed.
            change = keras.ops.matmul(self.low_rank_a, self.low_rank_b)
            return keras.ops.einsum(self.layer.equation, x, change)
        rank = next(letter for letter in "zyxwvutsr" if letter not in equation)
        narrow = out.replace(last, rank)
        through_a = f"{data},{kernel[:-1]}{rank}->{narrow}"
        narrowed = keras.ops.einsum(through_a, x, self.low_rank_a)
        return keras.ops.einsum(
            f"{narrow},{rank}{last}->{out}", narrowed, self.low_rank_b
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The output shape of the layer."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        layer = keras.saving.serialize_keras_object(self.layer)
        own = {"layer": layer, "rank": self.rank, "alpha": self.alpha}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LowRank:
        """The layer that `get_config` described."""
        layer = keras.saving.deserialize_keras_object(config["layer"])
        # The constructor freezes the layer, but users may have unfrozen it, for
        # instance a head.
        trainable = layer.trainable
        made = cls(**{**config, "layer": layer})
        layer.trainable = trainable
        return made
