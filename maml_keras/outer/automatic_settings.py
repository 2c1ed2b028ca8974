"""The settings that `compile` left to `"auto"`, chosen for the data of a `fit`."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from maml_keras.execution import fused_steps, xla_choice


def settle(
    model: Any, batch: Any, steps_per_epoch: int | None, total: int | None
) -> None:
    """Chooses the settings that `compile` left to `"auto"`, for these tasks.

    A generator cannot be inspected, so its steps are neither joined nor compiled.

    Args:
        model: the compiled model.
        batch: the first batch; None if the data cannot be inspected.
        steps_per_epoch: int, or None if unknown.
        total: int, meta-steps of this `fit`; None if unknown.
    """
    jit_compile, steps = model.jit_compile, model.steps_per_execution
    if model._asked["jit_compile"] == "auto":
        # XLA cannot compile the loops of `rematerialize` under a task axis.
        jit_compile = (
            batch is not None
            and not (model.run_eagerly or model.inner.rematerialize)
            and not model._xla_refused
            # A step that was compiled in an earlier `fit` is paid for.
            and (model.jit_compile or xla_choice.pays(_with_earlier(model, total)))
            and model.task_map.compiles(model.learner, batch[0])
        )
    if model._asked["steps_per_execution"] == "auto":
        # Steps that replicas share are not joined: they wait for each other.
        joined = jit_compile and batch is not None and model._replicas is None
        steps = fused_steps.steps_of(steps_per_epoch) if joined else 1
    if (jit_compile, steps) != (model.jit_compile, model.steps_per_execution):
        model.jit_compile, model.steps_per_execution = jit_compile, steps
        model.train_function = model.test_function = model.predict_function = None


def _with_earlier(model: Any, total: int | None) -> int | None:
    """Meta-steps of a `fit` and of all earlier ones."""
    return None if total is None else total + int(model.optimizer.iterations.numpy())


def steps_of_epoch(
    x: Any,
    *,
    steps_per_epoch: int | None = None,
    batch_size: int | None = None,
    validation_split: float = 0.0,
    **_: Any,
) -> int | None:
    """Meta-steps in an epoch of `fit`; None if the number cannot be known."""
    available = None
    if isinstance(x, tf.data.Dataset):
        available = int(x.cardinality())
    elif isinstance(x, keras.utils.PyDataset):
        available = x.num_batches
    elif isinstance(x, dict):
        tasks = int(tf.nest.flatten(x)[0].shape[0] * (1.0 - validation_split))
        available = math.ceil(tasks / (batch_size or 32))
    if available is None or available < 1:
        return steps_per_epoch
    return available if steps_per_epoch is None else min(steps_per_epoch, available)
