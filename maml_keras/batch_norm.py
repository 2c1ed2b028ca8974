"""Which statistics BatchNormalization uses, as one documented choice."""

from __future__ import annotations

import abc
import contextlib
from typing import Any

import keras

from maml_keras import normalisation
from maml_keras.scoped_override import ScopedOverride


class BatchNormPolicy(abc.ABC):
    """Decides whether a pass uses the batch's statistics or the moving ones."""

    name: str

    @abc.abstractmethod
    def uses_batch_statistics(self, *, training: bool) -> bool:
        """True if the pass normalises by the mean and variance of its own batch."""

    def scope(self, *, training: bool) -> contextlib.AbstractContextManager[None]:
        """A scope in which `keras.layers.BatchNormalization` follows the policy."""
        return _override.scope(self.uses_batch_statistics(training=training))


class Transductive(BatchNormPolicy):
    """Every pass normalises by its own batch, in evaluation too, as in the papers.

    A query's prediction then depends on the other queries of its task.
    """

    name = "transductive"

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return True


class Running(BatchNormPolicy):
    """Keras's rule: the batch in training, moving statistics in evaluation.

    Queries are predicted independently of each other.
    """

    name = "running"

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return training


POLICIES = {policy.name: policy for policy in (Transductive(), Running())}


def get(identifier: str | BatchNormPolicy) -> BatchNormPolicy:
    """The policy of that name.

    Args:
        identifier: `"transductive"`, `"running"`, or a policy, which is returned.

    Returns:
        A `BatchNormPolicy`.

    Raises:
        ValueError: if there is no policy of that name.

    >>> get("running").uses_batch_statistics(training=False)
    False
    """
    if isinstance(identifier, BatchNormPolicy):
        return identifier
    if identifier not in POLICIES:
        raise ValueError(
            f"`batch_norm` must be one of {sorted(POLICIES)}. "
            f"Received: batch_norm={identifier!r}."
        )
    return POLICIES[identifier]


def _call(
    batch_statistics: bool,
    original: Any,
    layer: Any,
    inputs: Any,
    training: bool | None = None,
    mask: Any = None,
) -> Any:
    if batch_statistics and normalisation.fits(layer, inputs, mask):
        return normalisation.layer_call(layer, inputs)
    return original(layer, inputs, training=batch_statistics, mask=mask)


_override = ScopedOverride(keras.layers.BatchNormalization, "call", _call)
