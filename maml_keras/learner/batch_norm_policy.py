"""The base class of batch-norm policies, and how a policy reaches Keras's layers."""

from __future__ import annotations

import abc
import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend import batch_norm
from maml_keras.backend.configured import Configured
from maml_keras.backend.overrides import ScopedOverride
from maml_keras.learner import masks

LayerCall = Callable[[Any, Any, Any], Any]


class BatchNormPolicy(Configured, abc.ABC):
    """Decides which statistics each pass of a learner normalises by.

    Attributes:
        name: str, the name in `MAML(batch_norm=...)` and beside reported figures.

    >>> from maml_keras.learner import Running
    >>> isinstance(Running(), BatchNormPolicy), Running().name
    (True, 'running')
    """

    name: str

    @abc.abstractmethod
    def uses_batch_statistics(self, *, training: bool) -> bool:
        """True if the pass normalises by the mean and variance of its own batch."""

    def query_sees_support(self, *, training: bool) -> bool:
        """True if the query pass normalises by the support set's statistics."""
        return False

    @property
    def couples_queries(self) -> bool:
        """True if a query's prediction after adaptation depends on other queries."""
        own_batch = self.uses_batch_statistics(training=False)
        return own_batch and not self.query_sees_support(training=False)

    def prepare(self, model: keras.Model, steps: int) -> None:
        """Creates the policy's variables for each layer; `MAML` calls this method."""

    def fresh(self) -> BatchNormPolicy:
        """A policy of the same kind for another model."""
        return self

    def learned(self) -> list[Any]:
        """The policy's variables that are meta-learned."""
        return []

    def statistics(self) -> list[Any]:
        """The policy's variables that training updates without a gradient."""
        return []

    def settled(self, examples: Any) -> dict[int, Any]:
        """New values of the policy's variables after a support pass, by variable `id`.

        Args:
            examples: int or int tensor, number of examples in the support set.
        """
        return {}

    def layer_call(self, *, batch_statistics: bool, step: Any) -> LayerCall | None:
        """A function `f(layer, inputs, mask)` that replaces a layer's call, or None."""
        return None

    def folded(self, values: dict[int, Any], steps: Any) -> dict[int, Any]:
        """Folds the policy's variables into the variables of the model.

        With the returned values, the model computes the same without the policy.

        Args:
            values: tensors by `id` of the variable, including the policy's variables.
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
        present: Any = None,
    ) -> contextlib.AbstractContextManager[None]:
        """A scope in which `keras.layers.BatchNormalization` follows the policy.

        Args:
            training: bool, as in Keras.
            step: int or int tensor, inner steps taken so far.
            query: bool, whether this is the query pass.
            moving: bool, whether the layers' moving statistics are read after the
                pass. If not, their update is not traced, unless the policy has its
                own `layer_call`.
            present: None, or bool `[examples]`, False for padding, which counts in no
                statistic.
        """
        own = query and self.query_sees_support(training=training)
        batch_statistics = not own and self.uses_batch_statistics(training=training)
        call = self.layer_call(batch_statistics=batch_statistics, step=step)
        return _override.scope((batch_statistics, call, moving, training, present))


def _call(
    how: tuple[bool, LayerCall | None, bool, bool, Any],
    original: Any,
    layer: Any,
    inputs: Any,
    training: bool | None = None,
    mask: Any = None,
) -> Any:
    batch_statistics, replacement, moving, in_training, present = how
    if batch_statistics and in_training and training is False:
        # Keras passes on the `training` of the whole pass, so False is the model's own.
        warnings.warn(
            f"Layer '{layer.name}' is called with `training=False`, which the "
            "batch-norm policy overrides: the layer normalises by the batch. For a "
            'pretrained network, use `batch_norm="frozen"`.',
            stacklevel=2,
        )
    if present is not None and batch_statistics:
        mask = _without_padding(layer, inputs, mask, present)
    if replacement is not None:
        return replacement(layer, inputs, mask)
    if batch_statistics and batch_norm.fits(layer, inputs, mask):
        return batch_norm.layer_call(layer, inputs, moving=moving)
    return original(layer, inputs, training=batch_statistics, mask=mask)


def _without_padding(layer: Any, inputs: Any, mask: Any, present: Any) -> Any:
    """The layer's mask, with the examples left out that are padding.

    Raises:
        ValueError: if the layer does not see one row for each example.
    """
    if not inputs.shape[:1].is_compatible_with(present.shape[:1]):
        raise ValueError(
            "Padding can be left out of batch norm only if the layer sees the "
            f"examples along its first axis. Received: layer '{layer.name}' with "
            f"inputs of shape {tuple(inputs.shape)} for {present.shape[0]} examples. "
            "Normalise before the examples are reshaped, or draw tasks of one size."
        )
    # Keras adds the axis of the channels itself.
    whole = masks.expanded(present, len(inputs.shape) - 1)
    if mask is None:
        return whole
    own = masks.expanded(tf.cast(mask, tf.bool), len(inputs.shape) - 1)
    return tf.logical_and(own, whole)


_override = ScopedOverride(keras.layers.BatchNormalization, "call", _call)
