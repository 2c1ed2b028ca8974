"""Choose a task map for a model and the size of its tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras

from maml_keras.execution.task_maps import (
    LARGEST_PRODUCT,
    TaskFunction,
    TaskMap,
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

    Small operations cost their dispatch, so they are vectorised over tasks; large ones
    are as fast by themselves, and a task that is finished before the next begins stays
    in the processor's cache. It is chosen from the layers and from the operations of
    one forward pass, which is traced when the first tasks come: under a second, and
    no timing run. `str()` says what was chosen and why.
    """

    name = "auto"

    def __init__(self) -> None:
        self.reason = "chosen when the first tasks come"

    def __call__(self, function: TaskFunction, tasks: Any) -> tuple[Any, Any]:
        return parallel()(function, tasks)

    def fitted(self, learner: Learner, task: Any) -> TaskMap:
        chosen, reason = _chosen(learner, task)
        if self.reason != f"{chosen}: {reason}":
            self.reason = f"{chosen}: {reason}"
            logger.info("task map: %s", self)
        return chosen

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
    """The task map of that name.

    Args:
        identifier: `"auto"`, `"sequential"`, `"parallel"`, `"vectorized"`, or a
            `TaskMap`, which is returned.

    Raises:
        ValueError: if there is no map of that name.
    """
    if isinstance(identifier, TaskMap):
        return identifier
    if identifier not in MAPS:
        raise ValueError(
            f"`task_map` must be one of {sorted(MAPS)}, or a TaskMap. "
            f"Received: task_map={identifier!r}."
        )
    return MAPS[identifier]()


# Layers whose operations keep a task axis on weights and inputs alike. A convolution
# does not: its filter must be shared. Dropout and recurrent layers are here for what
# they may be (a rate of zero, a short sequence); random numbers and loops in the graph
# give the others away.
_VECTORIZING = (
    "Activation Add Average Concatenate Dense Dropout EinsumDense ELU "
    "Embedding Flatten Functional GlobalAveragePooling1D "
    "GlobalAveragePooling2D GroupNormalization GRU GRUCell InputLayer "
    "LayerNormalization LeakyReLU LSTM LSTMCell "
    "MultiHeadAttention Multiply Normalization Permute PReLU ReLU Rescaling Reshape "
    "RMSNormalization Sequential SimpleRNN SimpleRNNCell Softmax Subtract "
    "BatchNormalization"
).split()


def _chosen(learner: Learner, task: Any) -> tuple[TaskMap, str]:
    unknown = sorted(
        {
            type(layer).__name__
            for layer in learner.model._flatten_layers()
            if not _vectorizes(layer)
        }
    )
    if unknown:
        return parallel(), f"{', '.join(unknown)} may not vectorise"
    seen = survey(learner, one_support(task))
    loops = sorted(op for op in seen.operations if "While" in op or "Random" in op)
    if loops:
        return parallel(), f"{', '.join(loops)} does not vectorise"
    if seen.largest > LARGEST_PRODUCT:
        return parallel(), (
            f"a product of {seen.largest / 1e6:.1f} million operations a task is as "
            "fast by itself"
        )
    return vectorized(), "every layer vectorises over tasks, and its products are small"


def _vectorizes(layer: keras.layers.Layer) -> bool:
    kind = type(layer)
    if getattr(layer, "vectorizes", False):
        return True
    return kind.__name__ in _VECTORIZING and kind.__module__.startswith("keras.")
