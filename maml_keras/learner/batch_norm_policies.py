"""Which statistics BatchNormalization uses, as one documented choice, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from maml_keras.learner.batch_norm_policy import BatchNormPolicy
from maml_keras.learner.per_step_batch_norm import PerStep, PerStepRunning


class Transductive(BatchNormPolicy):
    """Every pass normalises by its own batch, in evaluation too, as in the papers.

    A query's prediction then depends on the other queries of its task.
    """

    name = "transductive"

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return True


class Running(BatchNormPolicy):
    """Keras's rule: the batch in training, moving statistics in evaluation.

    Queries are predicted independently of each other, support examples too.
    """

    name = "running"

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return training


class Support(BatchNormPolicy):
    """Support passes use their batch; the query pass sees the support set's statistics.

    Nothing leaks between queries, in training as in evaluation, and a task is still
    normalised by its own data. Costs one more support pass for each query pass.
    """

    name = "support"
    query_sees_support = True

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return True


class Frozen(BatchNormPolicy):
    """Always the moving statistics that the model came with, which never move.

    For pretrained networks. Scale and offset still learn and adapt.
    """

    name = "frozen"

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return False


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
