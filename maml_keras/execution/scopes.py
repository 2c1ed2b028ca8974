"""Refuses what a distribution strategy cannot train, before anything runs."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from maml_keras.execution.place import Place
from maml_keras.execution.replicas import Replicas


def refuse_own_loop(name: str) -> None:
    """Refuses a method of a model in one of several replicas.

    Args:
        name: str, the method.

    Raises:
        RuntimeError: if several replicas run.
    """
    if Place(1).is_shared:
        raise RuntimeError(
            f"`{name}` runs on one device. Received: a call inside of `strategy.run`. "
            "Call `fit` or `train_on_batch`, which share each step among the replicas."
        )


def replicas_of(model: keras.Model, optimizer: Any) -> Replicas | None:
    """The replicas of a compiled model; None if the model was made for one device.

    Args:
        model: a model that may have been made under the scope of a strategy.
        optimizer: its optimizer.

    Raises:
        ValueError: if a part of the model was made outside of the scope, or the
            optimizer accumulates gradients.
    """
    strategy = model._distribute_strategy
    if strategy is None:
        if tf.distribute.has_strategy():
            raise ValueError(
                "A strategy trains what is made under its scope. Received: a model "
                "that was made before, or outside. Make the network and the `MAML` "
                "inside of `with strategy.scope():`."
            )
        return None
    replicas = Replicas(strategy)
    for variable in model.variables:
        if not strategy.extended.variable_created_in_scope(variable.value):
            raise ValueError(
                "All variables of a model must be made under the scope of one "
                f"strategy. Received: '{variable.path}', which was made outside. Make "
                "the network inside of `with strategy.scope():`, too."
            )
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if inner._distribution_strategy is not strategy:
        raise ValueError(
            "The optimizer must be made under the scope of the model's strategy. "
            f"Received: {type(inner).__name__}, made outside. Call `compile` with "
            "`keras.optimizers." + type(inner).__name__ + "(...)` inside of "
            "`with strategy.scope():`."
        )
    if getattr(inner, "gradient_accumulation_steps", None):
        raise ValueError(
            "Under a strategy the optimizer cannot accumulate gradients, because Keras "
            "cannot. Received: gradient_accumulation_steps="
            f"{inner.gradient_accumulation_steps}. Use larger batches: tasks are "
            "shared among the devices, and memory holds only those that run."
        )
    return replicas
