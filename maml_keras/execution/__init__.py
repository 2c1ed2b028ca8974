"""Runs the tasks of a batch: one after another, in parallel on the cores, or as one
vectorised program; on one device or shared by several."""

from maml_keras.execution.memory import MemoryEstimate
from maml_keras.execution.replicas import LostWorkerError
from maml_keras.execution.task_maps import (
    Chunked,
    TaskMap,
    parallel,
    sequential,
    vectorized,
)

__all__ = [
    "Chunked",
    "LostWorkerError",
    "MemoryEstimate",
    "TaskMap",
    "parallel",
    "sequential",
    "vectorized",
]
