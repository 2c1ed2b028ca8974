"""TorchOpt: `MetaSGD` updates a module in place and keeps the graph."""

from __future__ import annotations

from typing import Any

from benchmarks.peers import torch_peer
from benchmarks.peers.torch_peer import ModulePeer
from benchmarks.workloads import Workload

PACKAGES = ["torchopt", "torch", "numpy"]


def prepare(variant: dict[str, Any]) -> None:
    """Imports TorchOpt."""
    torch_peer.prepare(variant)
    import torchopt  # noqa: F401


class TorchOpt(ModulePeer):
    """`torchopt.MetaSGD` between saving and recovering the initialisation."""

    def __init__(self, workload: Workload, variant: dict[str, Any]) -> None:
        import torchopt

        super().__init__(workload, variant)
        self.inner = torchopt.MetaSGD(self.network, lr=workload.learning_rate)

    def query_loss(self, task: tuple[Any, ...]) -> Any:
        """As in TorchOpt's own examples."""
        import torchopt

        support_x, support_y, query_x, query_y = task
        start = torchopt.extract_state_dict(self.network, by="reference")
        inner = torchopt.extract_state_dict(self.inner, by="reference")
        for _ in range(self.workload.steps):
            self.inner.step(self.loss(self.network(support_x), support_y))
        loss = self.loss(self.network(query_x), query_y)
        torchopt.recover_state_dict(self.network, start)
        torchopt.recover_state_dict(self.inner, inner)
        return loss
