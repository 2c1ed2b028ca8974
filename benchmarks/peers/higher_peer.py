"""higher: a module patched to be stateless, and an optimizer made differentiable."""

from __future__ import annotations

from typing import Any

from benchmarks.peers import torch_peer
from benchmarks.peers.torch_peer import ModulePeer
from benchmarks.workloads import Workload

PACKAGES = ["higher", "torch", "numpy"]


def prepare(variant: dict[str, Any]) -> None:
    """Imports higher."""
    torch_peer.prepare(variant)
    import higher  # noqa: F401


class Higher(ModulePeer):
    """`higher.innerloop_ctx` with `torch.optim.SGD`."""

    def __init__(self, workload: Workload, variant: dict[str, Any]) -> None:
        import torch

        super().__init__(workload, variant)
        self.inner = torch.optim.SGD(self.parameters, lr=workload.learning_rate)

    def query_loss(self, task: tuple[Any, ...]) -> Any:
        """As in higher's own examples."""
        import higher

        support_x, support_y, query_x, query_y = task
        with higher.innerloop_ctx(
            self.network, self.inner, copy_initial_weights=False
        ) as (network, optimizer):
            for _ in range(self.workload.steps):
                optimizer.step(self.loss(network(support_x), support_y))
            return self.loss(network(query_x), query_y)
