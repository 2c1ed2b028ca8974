"""The form of a batch-norm policy, and how a policy reaches Keras's layers."""

from __future__ import annotations

import abc
import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import keras

from maml_keras.backend import batch_norm
from maml_keras.backend.overrides import ScopedOverride

LayerCall = Callable[[Any, Any, Any], Any]


class BatchNormPolicy(abc.ABC):
    """Decides by what each pass of a learner normalises.

    Attributes:
        name: str, what `MAML(batch_norm=...)` and every reported figure call it.
        query_sees_support: bool, whether the query pass normalises by the support
            set's statistics at the same weights.
    """

    name: str
    query_sees_support = False

    @abc.abstractmethod
    def uses_batch_statistics(self, *, training: bool) -> bool:
        """True if the pass normalises by the mean and variance of its own batch."""

    def prepare(  # noqa: B027 - most policies keep nothing.
        self, model: keras.Model, steps: int
    ) -> None:
        """Creates what the policy keeps for each layer; `MAML` calls it."""

    def fresh(self) -> BatchNormPolicy:
        """A policy of the same kind for another model."""
        return self

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments. A policy of one's own is saved by its class:
        register it with `keras.saving.register_keras_serializable`."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BatchNormPolicy:
        """The policy that `get_config` described."""
        return cls(**config)

    def learned(self) -> list[Any]:
        """Its variables that are meta-learned."""
        return []

    def statistics(self) -> list[Any]:
        """Its variables that training moves without a gradient."""
        return []

    def layer_call(self, *, batch_statistics: bool, step: Any) -> LayerCall | None:
        """None, or what runs in place of a layer's call: `f(layer, inputs, mask)`."""
        return None

    def folded(self, values: dict[int, Any], steps: Any) -> dict[int, Any]:
        """Values of the model's own variables that compute the same by themselves.

        Args:
            values: tensors by `id` of the variable, the policy's own included.
            steps: int or int tensor, adaptation steps taken.
        """
        return values

    def scope(
        self,
        *,
        training: bool,
        step: Any = 0,
        query: bool = False,
        moving: bool = True,
    ) -> contextlib.AbstractContextManager[None]:
        """A scope in which `keras.layers.BatchNormalization` follows the policy.

        Args:
            training: bool, as in Keras.
            step: int or int tensor, inner steps taken so far.
            query: bool, whether this is the query pass.
            moving: bool, whether somebody looks at the layers' moving statistics
                after the pass; if not, nothing is traced for them, unless the policy
                has its own `layer_call`.
        """
        own = query and self.query_sees_support
        batch_statistics = not own and self.uses_batch_statistics(training=training)
        call = self.layer_call(batch_statistics=batch_statistics, step=step)
        return _override.scope((batch_statistics, call, moving, training))


def _call(
    how: tuple[bool, LayerCall | None, bool, bool],
    original: Any,
    layer: Any,
    inputs: Any,
    training: bool | None = None,
    mask: Any = None,
) -> Any:
    batch_statistics, replacement, moving, in_training = how
    if batch_statistics and in_training and training is False:
        # Keras hands the pass's own `training` on, unless somebody wrote another.
        warnings.warn(
            f"Layer '{layer.name}' is called with `training=False`, which the "
            "batch-norm policy overrides: it normalises by the batch. For a "
            'pretrained network take `batch_norm="frozen"`.',
            stacklevel=2,
        )
    if replacement is not None:
        return replacement(layer, inputs, mask)
    if batch_statistics and batch_norm.fits(layer, inputs, mask):
        return batch_norm.layer_call(layer, inputs, moving=moving)
    return original(layer, inputs, training=batch_statistics, mask=mask)


_override = ScopedOverride(keras.layers.BatchNormalization, "call", _call)
