"""learn2learn: `MAML` clones a module for each task and adapts the clone."""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any

from benchmarks.peers import torch_peer
from benchmarks.peers.torch_peer import ModulePeer
from benchmarks.workloads import Workload

PACKAGES = ["learn2learn", "torch", "numpy"]


def prepare(variant: dict[str, Any]) -> None:
    """Imports learn2learn's algorithm without the rest of the package.

    Its `__init__` imports gym, torchtext and a compiled extension, which the algorithm
    does not need. Empty packages replace the two packages that import them.
    """
    torch_peer.prepare(variant)
    found = importlib.util.find_spec("learn2learn")
    if found is None or not found.submodule_search_locations:
        raise ImportError("No module named 'learn2learn'")
    folder = found.submodule_search_locations[0]
    for name in ("learn2learn", "learn2learn.algorithms"):
        package = types.ModuleType(name)
        package.__path__ = ["/".join([folder, *name.split(".")[1:]])]
        sys.modules[name] = package
    importlib.import_module("learn2learn.algorithms.maml")


class Learn2Learn(ModulePeer):
    """`learn2learn.algorithms.MAML`, second order."""

    def __init__(self, workload: Workload, variant: dict[str, Any]) -> None:
        from learn2learn.algorithms.maml import MAML

        super().__init__(workload, variant)
        self.maml = MAML(self.network, lr=workload.learning_rate)

    def query_loss(self, task: tuple[Any, ...]) -> Any:
        """As in learn2learn's own examples."""
        support_x, support_y, query_x, query_y = task
        learner = self.maml.clone()
        for _ in range(self.workload.steps):
            learner.adapt(self.loss(learner(support_x), support_y))
        return self.loss(learner(query_x), query_y)
