"""Bridges over Keras, for a model that several replicas train.

Keras sums gradients over replicas after clipping, so each replica would clip its own
part. Keras averages the logs of replicas, whatever they are. And Keras counts the parts
of a batch as batches. The bridges use names that Keras and TensorFlow may change, so
this file knows the versions of Keras that it was tested with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

# The minor versions of Keras that the equality tests ran with.
KNOWN = ("3.15",)
_REDUCE = "_all_reduce_sum_gradients"


def check_version() -> None:
    """Refuses to train on several devices under a Keras that was not tested.

    Raises:
        RuntimeError: with the versions that were.
    """
    if ".".join(keras.__version__.split(".")[:2]) in KNOWN:
        return
    raise RuntimeError(
        "Training on several devices needs a version of Keras with which its numbers "
        f"were compared: {', '.join(KNOWN)}. Received: {keras.__version__}. Install "
        f"`keras~={KNOWN[-1]}.0`, or make the model without a strategy, on one device."
    )


@contextlib.contextmanager
def summed_already(optimizer: Any) -> Iterator[None]:
    """Keeps an optimizer from summing gradients that are the same on all replicas.

    Args:
        optimizer: a Keras optimizer, perhaps a `LossScaleOptimizer`.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not callable(getattr(inner, _REDUCE, None)):
        raise RuntimeError(
            f"`{type(inner).__name__}` must have Keras's method `{_REDUCE}`, which "
            f"training on several devices replaces. Received: Keras "
            f"{keras.__version__} without it. Train on one device."
        )
    object.__setattr__(inner, _REDUCE, list)
    try:
        yield
    finally:
        # Replicas take turns inside of `apply`: another one may have been here.
        inner.__dict__.pop(_REDUCE, None)


def counted(distributed: Any, batches: int) -> Any:
    """The same distributed data, which tells Keras the number of its batches.

    TensorFlow tells the number of parts for this process's replicas, and looks only
    whether this number is infinite. Keras warns of missing batches.

    Args:
        distributed: what `distribute_datasets_from_function` returned.
        batches: int, as `tf.data.Dataset.cardinality` says.
    """
    distributed._cardinality = batches
    return distributed


def results_of_all(model: Any, strategy: Any) -> dict[str, Any]:
    """The results of a model's metrics over the tasks of all replicas.

    Each replica counts its own tasks. The counts are summed in one message for each
    type.

    Args:
        model: a Keras model whose metrics are sums.
        strategy: its strategy.
    """
    variables = [v for metric in model.metrics for v in metric.variables]
    if not variables:
        return {}

    def own() -> dict[str, Any]:
        return {
            dtype: tf.concat(
                [
                    tf.reshape(tf.convert_to_tensor(v.value), [-1])
                    for v in variables
                    if v.dtype == dtype
                ],
                axis=0,
            )
            for dtype in dict.fromkeys(v.dtype for v in variables)
        }

    found = strategy.run(own)
    totals = {
        dtype: strategy.reduce(tf.distribute.ReduceOp.SUM, flat, axis=None)
        for dtype, flat in found.items()
    }
    mapping, read = [], dict.fromkeys(totals, 0)
    for v in variables:
        low, size = read[v.dtype], int(v.shape.num_elements())
        value = tf.reshape(totals[v.dtype][low : low + size], v.shape)
        mapping.append((v, value))
        read[v.dtype] += size
    with keras.StatelessScope(state_mapping=mapping):
        return dict(model.get_metrics_result())
