"""torch.func: `grad` of a functional network, `vmap` or a loop over tasks."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.peers import torch_peer
from benchmarks.peers.torch_peer import TorchPeer
from benchmarks.workloads import Workload

PACKAGES = ["torch", "numpy"]
peak_mb = torch_peer.peak_mb


def prepare(variant: dict[str, Any]) -> None:
    """Turns the compiler's disk cache off, so that the first call really compiles."""
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    torch_peer.prepare(variant)


class TorchFunc(TorchPeer):
    """`grad_and_value` of the query loss after an inner loop of `grad`."""

    @staticmethod
    def variants(workload: Workload) -> list[dict[str, Any]]:
        """Settings; `vmap` turns convolutions with weights a task into grouped ones."""
        kind = workload.network.kind
        loops = [{"map": "loop", **v} for v in torch_peer.loop_variants(workload)]
        one: dict[str, Any] = {"map": "vmap", "threads": 1}
        two = {**one, "threads": 2}
        if kind == "mlp":
            return [one, two, {**one, "compile": True}, loops[0]]
        if kind == "lstm":
            return [one, two, {**one, "compile": True}, loops[0], loops[-1]]
        if kind == "transformer":
            return [one, two, {**two, "compile": True}, *loops]
        tried = [*loops, one, two, {**one, "conv": "unfold"}]
        # With more inner steps, convolutions compile for many minutes.
        return [*tried, {**two, "compile": True}] if workload.steps == 1 else tried

    @staticmethod
    def gpu_variants(workload: Workload) -> list[dict[str, Any]]:
        """`vmap`, and for convolutions both forms; compiled where that is quick."""
        one = {"map": "vmap"}
        if workload.network.kind == "conv":
            return [one, {**one, "conv": "unfold"}]
        return [one, {**one, "compile": True}]

    def __init__(self, workload: Workload, variant: dict[str, Any]) -> None:
        import torch

        super().__init__(workload, variant)
        if variant["map"] == "loop":
            self.one = torch.func.grad_and_value(self._task_loss)
        else:
            mapped = torch.func.vmap(self._task_loss, (None, *[0] * 4))
            self.all = torch.func.grad_and_value(lambda *a: mapped(*a).mean())
            if variant.get("compile"):
                self.all = torch.compile(self.all)

    def meta_gradient(self, batch: list[Any]) -> tuple[Any, list[Any]]:
        """All tasks at once, or one after the other."""
        import torch

        # Detached values, so that autograd itself records nothing.
        weights = tuple(p.detach() for p in self.parameters)
        if self.variant["map"] == "vmap":
            gradients, loss = self.all(weights, *batch)
            return loss, list(gradients)
        total: Any = None
        tasks = self.tasks(batch)
        for task in tasks:
            gradients, loss = self.one(weights, *task)
            each = [loss, *gradients]
            if total is None:
                total = each
            else:
                torch._foreach_add_(total, each)
        torch._foreach_div_(total, len(tasks))
        return total[0], total[1:]

    def _task_loss(self, weights: Any, sx: Any, sy: Any, qx: Any, qy: Any) -> Any:
        import torch

        gradient = torch.func.grad(self._loss_at)
        rate = self.workload.learning_rate
        adapted = weights
        for _ in range(self.workload.steps):
            gradients = gradient(adapted, sx, sy)
            adapted = tuple(w - rate * g for w, g in zip(adapted, gradients))
        return self._loss_at(adapted, qx, qy)

    def _loss_at(self, weights: Any, x: Any, y: Any) -> Any:
        import torch

        named = dict(zip(self.network.names, weights))
        return self.loss(torch.func.functional_call(self.network, named, (x,)), y)
