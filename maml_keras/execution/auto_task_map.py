"""Chooses a task map for a model and the size of its tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras

from maml_keras.execution.devices import has_gpu
from maml_keras.execution.task_maps import (
    LARGEST_PRODUCT,
    TaskFunction,
    TaskMap,
    Vectorized,
    one_support,
    parallel,
    sequential,
    vectorized,
)
from maml_keras.learner.graph_survey import survey
from maml_keras.learner.learner import Learner

logger = logging.getLogger(__name__)


@keras.saving.register_keras_serializable(package="maml_keras")
class Auto(TaskMap):
    """The fastest map that is exact for a model and the size of its tasks.

    Small operations cost mostly their dispatch, so `Auto` vectorises them over tasks.
    Large operations are as fast one by one, and a task that ends before the next task
    begins stays in the processor's cache. A GPU wants all tasks as one program, however
    large, and convolutions, too. `Auto` decides from the device, the layers and the
    operations of one forward pass, which is traced when the first tasks arrive. The
    trace takes under a second; no timing run is needed. A loss, an activation or an
    update rule of your own may hold an operation without a form with a task axis: then
    `Auto` falls back to the loop. `str()` names the chosen map and the reason.
    """

    name = "auto"

    def __init__(self) -> None:
        self.reason = "chosen when the first tasks arrive"
        self._refused = ""

    def __call__(self, function: TaskFunction, tasks: Any) -> tuple[Any, Any]:
        return parallel()(function, tasks)

    def fitted(self, learner: Learner, task: Any) -> TaskMap:
        chosen, reason = _chosen(learner, task)
        if isinstance(chosen, Vectorized):
            chosen = Vectorized(otherwise=self._refuse)
            if self._refused:
                chosen, reason = parallel(), self._refused
        if self.reason != f"{chosen}: {reason}":
            self.reason = f"{chosen}: {reason}"
            logger.info("task map: %s", self)
        return chosen

    def _refuse(self, operation: str) -> TaskMap:
        """The loop, from now on, because an operation has no form with a task axis."""
        self._refused = f"{operation} has no form with a task axis"
        self.reason = f"{parallel()}: {self._refused}"
        logger.info("task map: %s", self)
        return parallel()

    def forget(self) -> None:
        self._refused = ""

    def compiles(self, learner: Learner, task: Any) -> bool:
        return self.fitted(learner, task).compiles(learner, task)

    def __repr__(self) -> str:
        return f"auto ({self.reason})"


MAPS: dict[str, Callable[[], TaskMap]] = {
    "auto": Auto,
    "sequential": sequential,
    "parallel": parallel,
    "vectorized": vectorized,
}


def get(identifier: str | TaskMap) -> TaskMap:
    """The task map with the given name.

    Args:
        identifier: `"auto"`, `"sequential"`, `"parallel"`, `"vectorized"`, or a
            `TaskMap`, which is returned.

    Raises:
        ValueError: if no map has the name.
    """
    if isinstance(identifier, TaskMap):
        return identifier
    if identifier not in MAPS:
        raise ValueError(
            f"`task_map` must be one of {sorted(MAPS)}, or a TaskMap. "
            f"Received: task_map={identifier!r}."
        )
    return MAPS[identifier]()


# Layers whose operations accept a task axis on both weights and inputs. Dropout with a
# rate of zero and recurrent layers on short sequences vectorise; for the other cases
# `_chosen` finds the random numbers and loops in the graph.
_VECTORIZING = (
    "Activation Add Average Concatenate Dense Dropout EinsumDense ELU "
    "Embedding Flatten Functional GlobalAveragePooling1D "
    "GlobalAveragePooling2D GroupNormalization GRU GRUCell InputLayer "
    "LayerNormalization LeakyReLU LSTM LSTMCell "
    "MultiHeadAttention Multiply Normalization Permute PReLU ReLU Rescaling Reshape "
    "RMSNormalization Sequential SimpleRNN SimpleRNNCell Softmax Subtract "
    "BatchNormalization"
).split()


# Layers of images and signals. They have forms with a task axis (`with_task_axis`). On
# two cores these forms took twice the time of the loop, so only a GPU gets them.
_VECTORIZING_ON_GPU = (
    "AveragePooling1D AveragePooling2D AveragePooling3D Conv1D Conv1DTranspose Conv2D "
    "Conv2DTranspose Conv3D Conv3DTranspose Cropping1D Cropping2D Cropping3D "
    "DepthwiseConv1D DepthwiseConv2D GlobalAveragePooling3D GlobalMaxPooling1D "
    "GlobalMaxPooling2D GlobalMaxPooling3D MaxPooling1D MaxPooling2D MaxPooling3D "
    "SeparableConv1D SeparableConv2D ZeroPadding1D ZeroPadding2D ZeroPadding3D"
).split()


def _chosen(learner: Learner, task: Any) -> tuple[TaskMap, str]:
    unknown = _others(learner, {*_VECTORIZING, *_VECTORIZING_ON_GPU})
    if unknown:
        return parallel(), f"{unknown} may not vectorise"
    on_gpu = has_gpu()
    slower = _others(learner, {*_VECTORIZING})
    if slower and not on_gpu:
        return parallel(), f"{slower}: faster task by task on a processor"
    seen = survey(learner, one_support(task))
    loops = sorted(op for op in seen.operations if "While" in op or "Random" in op)
    if loops:
        return parallel(), f"{', '.join(loops)} does not vectorise"
    if on_gpu:
        return vectorized(), "every layer vectorises over tasks, and a GPU computes"
    if seen.largest > LARGEST_PRODUCT:
        return parallel(), (
            f"a matrix product of {seen.largest / 1e6:.1f} million operations per task "
            "gains nothing from vectorising"
        )
    return vectorized(), (
        "every layer vectorises over tasks, and all matrix products are small"
    )


def _others(learner: Learner, known: set[str]) -> str:
    """The names of the model's layers that are neither known nor say `vectorizes`."""
    return ", ".join(
        sorted(
            {
                type(layer).__name__
                for layer in learner.model._flatten_layers()
                if not _vectorizes(layer, known)
            }
        )
    )


def _vectorizes(layer: keras.layers.Layer, known: set[str]) -> bool:
    kind = type(layer)
    if getattr(layer, "vectorizes", False):
        return True
    return kind.__name__ in known and kind.__module__.startswith("keras.")
