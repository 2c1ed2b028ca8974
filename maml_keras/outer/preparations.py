"""A model knows the preparation of the episodes that it is trained on."""

from __future__ import annotations

from typing import Any

from maml_keras.data.family import TaskFamily
from maml_keras.data.family_pools import pools_of
from maml_keras.data.pool_preparation import PoolPreparation
from maml_keras.data.preparation import differ, preparation_of
from maml_keras.learner import masks


def adopt(maml: Any, *sources: Any) -> None:
    """Gives a model the preparation of its episodes, or refuses another one.

    So a model that was trained on prepared episodes cannot be saved or exported without
    their preparation.

    Args:
        maml: the model.
        *sources: data of `fit` or of an evaluation. Data that tells no preparation,
            such as arrays and generators, is taken as it is.

    Raises:
        ValueError: if episodes were prepared differently.
    """
    for source in sources:
        found = preparation_of(source)
        if found is None:
            _check_same_numbers(maml.preparation, source)
            continue
        if maml.preparation is None:
            maml.preparation = found
            maml.forget_functions()
        elif differ(found, maml.preparation):
            raise ValueError(
                "The episodes must be prepared as those that the model was trained on. "
                "Received: a preparation that was fitted on other data. Prepare these "
                "tasks with `prepared_by(maml.preparation)` of their table or pool."
            )


def _check_same_numbers(preparation: Any, source: Any) -> None:
    """Refuses episodes of a pool that a preparation would have changed."""
    if isinstance(preparation, PoolPreparation) and preparation.changes_the_pool:
        family = getattr(source, "tasks", source)
        if isinstance(family, TaskFamily) and pools_of(family):
            raise ValueError(
                "The episodes must be prepared as those that the model was trained on. "
                "Received: episodes of a pool without a preparation. Use the pool "
                "`pool.prepared_by(maml.preparation)`."
            )


def prepared(maml: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """One task's support set in the form that the network takes.

    Args:
        maml: the model.
        x: with a preparation, raw data, such as a DataFrame, or images of bytes; other
            arrays and tensors are prepared already.
        y: targets, raw if `x` is raw; None for those in the raw data.

    Raises:
        ValueError: if there are no targets, or the raw data does not fit.
    """
    if maml.preparation is None or not maml.preparation.is_raw(x):
        found = x, y
    else:
        own = maml.preparation
        raw_x, raw_y = own.labelled(*own.raw(x, y))
        targets = None if raw_y is None else maml.preparation.targets(raw_y)
        found = maml.preparation.inputs(raw_x), targets
    if found[1] is None:
        raise ValueError(
            "`support_y` must hold the targets. Received: None"
            + ("." if maml.preparation is None else ", and data without the targets.")
            + " Adaptation needs the targets of its examples."
        )
    return found


def in_unit(maml: Any, values: Any) -> Any:
    """Predictions or prepared targets in the unit of the raw targets."""
    if maml.preparation is None or values is None:
        return values
    return masks.put_back(maml.preparation.restored(values), masks.taken(values))
