"""The batch-norm policies by name: which statistics BatchNormalization uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from maml_keras.learner.batch_norm_policy import BatchNormPolicy
from maml_keras.learner.beside_support import Beside
from maml_keras.learner.per_step_batch_norm import PerStep, PerStepRunning


class Transductive(BatchNormPolicy):
    """Each pass normalises by its own batch, also in evaluation, as in the papers.

    So the prediction of a query depends on the other queries of its task.

    >>> Transductive().uses_batch_statistics(training=False)
    True
    """

    name = "transductive"

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return True


class Running(BatchNormPolicy):
    """Keras's rule: the batch in training, moving statistics in evaluation.

    In evaluation, each example is predicted independently of the other examples.

    >>> Running().uses_batch_statistics(training=False)
    False
    """

    name = "running"

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return training


class Support(BatchNormPolicy):
    """Support passes use their batch; the query pass uses the support set's statistics.

    In training and in evaluation, no query influences another query, and each task is
    still normalised by its own data. Each query pass costs one more support pass.

    >>> Support().query_sees_support(training=False)
    True
    """

    name = "support"

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return True

    def query_sees_support(self, *, training: bool) -> bool:
        return True


class Inductive(BatchNormPolicy):
    """Trains like `transductive` and predicts like `support`.

    In training, each pass normalises by its own batch. In adaptation and evaluation,
    the query pass normalises by the support set's statistics, so the prediction of a
    query does not depend on other queries. With this policy, weights that were trained
    under `transductive` can serve one query at a time.
    """

    name = "inductive"

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return True

    def query_sees_support(self, *, training: bool) -> bool:
        return not training


class Frozen(BatchNormPolicy):
    """All passes use the model's moving statistics, which training never changes.

    This policy is for pretrained networks. Scale and offset still learn and adapt.

    >>> Frozen().uses_batch_statistics(training=True)
    False
    """

    name = "frozen"

    def uses_batch_statistics(self, *, training: bool) -> bool:
        return False


POLICIES: dict[str, Callable[[], BatchNormPolicy]] = {
    "transductive": Transductive,
    "inductive": Inductive,
    "support": Support,
    "beside": Beside,
    "running": Running,
    "per_step": PerStep,
    "per_step_running": PerStepRunning,
    "frozen": Frozen,
}


def get(identifier: str | dict[str, Any] | BatchNormPolicy) -> BatchNormPolicy:
    """The policy with the given name.

    Args:
        identifier: `"transductive"`, `"inductive"`, `"support"`, `"beside"`,
            `"running"`, `"per_step"`, `"per_step_running"`, `"frozen"`; a result of
            `described`; or a policy, which is returned.

    Returns:
        A `BatchNormPolicy`.

    Raises:
        ValueError: if no policy has the name.

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
    """The description from which `get` rebuilds a policy.

    For a policy of this module: its name. For a policy of your own: its class and
    configuration.

    >>> described(Running())
    'running'
    """
    if type(policy) is POLICIES.get(policy.name):
        return policy.name
    config: dict[str, Any] = keras.saving.serialize_keras_object(policy)
    return config
