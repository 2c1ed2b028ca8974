"""Batch-norm policies by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from maml_keras.batch_norm import (
    BatchNormPolicy,
    Frozen,
    Running,
    Support,
    Transductive,
)
from maml_keras.per_step_batch_norm import PerStep, PerStepRunning

POLICIES: dict[str, Callable[[], BatchNormPolicy]] = {
    "transductive": Transductive,
    "support": Support,
    "running": Running,
    "per_step": PerStep,
    "per_step_running": PerStepRunning,
    "frozen": Frozen,
}


def get(identifier: str | dict[str, Any] | BatchNormPolicy) -> BatchNormPolicy:
    """The policy of that name.

    Args:
        identifier: `"transductive"`, `"support"`, `"running"`, `"per_step"`,
            `"per_step_running"`, `"frozen"`; what `described` gave; or a policy,
            which is returned.

    Returns:
        A `BatchNormPolicy`.

    Raises:
        ValueError: if there is no policy of that name.

    >>> get("running").uses_batch_statistics(training=False)
    False
    """
    if isinstance(identifier, BatchNormPolicy):
        return identifier
    if isinstance(identifier, dict):
        policy: BatchNormPolicy = keras.saving.deserialize_keras_object(identifier)
        return policy
    if identifier not in POLICIES:
        raise ValueError(
            f"`batch_norm` must be one of {sorted(POLICIES)}. "
            f"Received: batch_norm={identifier!r}."
        )
    return POLICIES[identifier]()


def described(policy: BatchNormPolicy) -> str | dict[str, Any]:
    """What `get` makes the policy of again: its name, or of one's own its class.

    >>> described(Running())
    'running'
    """
    if type(policy) is POLICIES.get(policy.name):
        return policy.name
    config: dict[str, Any] = keras.saving.serialize_keras_object(policy)
    return config
