"""Frozen multi-head attention whose projections thin matrices move (LoRA)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from maml_keras.models.low_rank import LowRank

# What Keras calls the projections, by the attribute that holds each.
PROJECTIONS = {
    "_query_dense": "query",
    "_key_dense": "key",
    "_value_dense": "value",
    "_gate_dense": "gate",
    "_output_dense": "attention_output",
}


@keras.saving.register_keras_serializable(package="maml_keras")
class LowRankAttention(keras.layers.MultiHeadAttention):
    """Multi-head attention, frozen but for low-rank adapters of its projections.

    Each chosen projection is a `LowRank` around the layer that Keras makes.

    Args:
        rank: int, positive.
        alpha: float, scale of the change; None for the rank, a scale of one.
        adapted: names of the projections that get an adapter, out of `"query"`,
            `"key"`, `"value"`, `"attention_output"` and, with a gate, `"gate"`.
        unfrozen: names of the projections that stay trainable themselves. A
            configuration has those that somebody made so.
        **kwargs: those of `keras.layers.MultiHeadAttention`.

    Raises:
        ValueError: if there is no such projection.

    Reference: Hu et al., 2021, https://arxiv.org/abs/2106.09685
    """

    # As Keras's own does, and its projections.
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
                f"`adapted` must be some of {sorted(known)}. Received: {adapted!r}."
            )
        if "gate" in adapted and not kwargs.get("use_gate"):
            raise ValueError(
                "`adapted` may name 'gate' for attention with one, `use_gate=True`. "
                f"Received: {adapted!r} and no gate."
            )
        if int(rank) < 1:
            raise ValueError(f"`rank` must be positive. Received: rank={rank}.")
        self.rank = rank
        self.alpha = alpha
        self.adapted = list(adapted)

    def build(self, query_shape: Any, value_shape: Any, key_shape: Any = None) -> None:
        """Makes the projections, freezes them, and puts adapters around the chosen."""
        super().build(query_shape, value_shape, key_shape)
        for attribute, dense in list(projections(self)):
            dense.trainable = False
            if dense.name in self.adapted:
                adapter = LowRank(dense, self.rank, alpha=self.alpha)
                # The projection is built: its kernel says the shapes.
                adapter.build(None)
                self._layers.remove(dense)  # It is the adapter's now.
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
    """The attributes that hold a built layer's projections, and these, plain ones."""
    for attribute in PROJECTIONS:
        dense = getattr(attention, attribute, None)
        if dense is not None:
            plain = dense.layer if isinstance(dense, LowRank) else dense
            yield attribute, plain
