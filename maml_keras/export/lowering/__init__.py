"""Writes a frozen function again without operations that compute a gradient, so that
runtimes which only know forward operations can run it."""

from maml_keras.export.lowering.function import Lowered, lowered
from maml_keras.export.lowering.values import NotLoweredError

__all__ = ["Lowered", "NotLoweredError", "lowered"]
