"""How many tasks run: one after the other, side by side on the cores, or as one
vectorised program."""

from maml_keras.execution.task_maps import Chunked, TaskMap

__all__ = [
    "Chunked",
    "TaskMap",
]
