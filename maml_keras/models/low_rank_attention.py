"""Frozen multi-head attention with low-rank adapters of its projections (LoRA)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from maml_keras.models.low_rank import LowRank

# The attributes of Keras that hold the projections, and the names of the projections.
PROJECTIONS = {
    "_query_dense": "query",
    "_key_dense": "key",
    "_value_dense": "value",
    "_gate_dense": "gate",
    "_output_dense": "attention_output",
}


@keras.saving.register_keras_serializable(package="maml_keras")
class LowRankAttention(keras.layers.MultiHeadAttention):
    """Frozen multi-head attention with low-rank adapters of its projections.

    Each chosen projection is a `LowRank` around the layer that Keras creates.

    Args:
        rank: int, positive.
        alpha: float, the change is scaled by `alpha / rank`; None for a scale of one.
        adapted: names of the projections that get an adapter, out of `"query"`,
            `"key"`, `"value"`, `"attention_output"` and, with a gate, `"gate"`.
        unfrozen: names of the projections that stay trainable themselves.
            `get_config` lists the projections that a user has unfrozen.
        **kwargs: the arguments of `keras.layers.MultiHeadAttention`.

    Raises:
        ValueError: if a name in `adapted` is unknown, or `rank` is not positive.

    Reference: Hu et al., 2021, https://arxiv.org/abs/2106.09685

    >>> layer = LowRankAttention(num_heads=2, key_dim=4, rank=1, adapted=["query"])
    >>> layer.build([None, 3, 8], [None, 3, 8])
    >>> len(layer.trainable_variables), len(layer.non_trainable_variables)
    (2, 8)
    """

    # Keras's attention and the adapters of its projections accept a task axis.
    vectorizes = True

    def __init__(
        self,
        *,
        rank: int = 4,
        alpha: float | None = None,
        adapted: Sequence[str] = ("query", "value"),
        unfrozen: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.unfrozen = list(unfrozen)
        known = set(PROJECTIONS.values())
        if not adapted or not set(adapted) <= known:
            raise ValueError(
                f"`adapted` must hold names out of {sorted(known)}. Received: "
                f"{adapted!r}."
            )
        if "gate" in adapted and not kwargs.get("use_gate"):
            raise ValueError(
                "`adapted` may hold 'gate' only for attention with a gate. Received: "
                f"{adapted!r} without a gate. Pass `use_gate=True`, or remove 'gate'."
            )
        if int(rank) < 1:
            raise ValueError(f"`rank` must be positive. Received: rank={rank}.")
        self.rank = rank
        self.alpha = alpha
        self.adapted = list(adapted)

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        """Builds and freezes the projections, and wraps the chosen ones in adapters."""
        super().build(query_shape, value_shape, key_shape)
        for attribute, dense in list(projections(self)):
            dense.trainable = False
            if dense.name in self.adapted:
                adapter = LowRank(dense, self.rank, alpha=self.alpha)
                # The adapter takes its shapes from the kernel of the built projection.
                adapter.build(None)
                self._layers.remove(dense)  # Now the adapter owns the projection.
                setattr(self, attribute, adapter)
            dense.trainable = dense.name in self.unfrozen

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        unfrozen = self.unfrozen
        if self.built:
            unfrozen = [dense.name for _, dense in projections(self) if dense.trainable]
        own = {
            "rank": self.rank,
            "alpha": self.alpha,
            "adapted": self.adapted,
            "unfrozen": unfrozen,
        }
        return {**super().get_config(), **own}


def projections(
    attention: keras.layers.MultiHeadAttention,
) -> Iterator[tuple[str, keras.layers.Layer]]:
    """The attributes of a built layer's projections, with the plain projections."""
    for attribute in PROJECTIONS:
        dense = getattr(attention, attribute, None)
        if dense is not None:
            plain = dense.layer if isinstance(dense, LowRank) else dense
            yield attribute, plain
