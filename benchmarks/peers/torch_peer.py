"""The shared base of the PyTorch peers: data, threads, Adam and settings to try."""

from __future__ import annotations

import abc
import itertools
import math
import os
from typing import Any

import numpy as np

from benchmarks.peers import Peer
from benchmarks.workloads import Workload


def prepare(variant: dict[str, Any]) -> None:
    """Imports PyTorch and sets its threads, if the variant names a number."""
    import torch

    if "threads" in variant:
        torch.set_num_threads(variant["threads"])
    if variant.get("device") == "gpu":
        torch.set_default_device("cuda")
        # TensorFlow takes TF32 for float32 by default, so the others may, too.
        torch.set_float32_matmul_precision("high")


def peak_mb() -> float:
    """The peak of the GPU's memory that PyTorch used."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**20


def loop_variants(workload: Workload) -> list[dict[str, Any]]:
    """For a Python loop over tasks: threads, and the form of the costly layer."""
    tried: list[dict[str, Any]] = [{"threads": 1}]
    if len(os.sched_getaffinity(0)) > 1:
        tried += [{"threads": len(os.sched_getaffinity(0))}]
    kind = workload.network.kind
    if kind == "conv":
        tried += [{"threads": 1, "layout": "channels_last"}]
    if kind == "lstm":
        tried += [{"threads": 1, "lstm": "native"}]
    return tried


class TorchPeer(Peer):
    """A module, the batches as tensors and a loop of meta-steps."""

    def __init__(self, workload: Workload, variant: dict[str, Any]) -> None:
        import torch

        from benchmarks.peers import torch_networks

        self.workload, self.variant = workload, variant
        self.network = torch_networks.Network(workload, variant)
        self.loss = torch_networks.loss_of(workload)
        self.parameters = list(self.network.parameters())
        self.batches = [
            [torch_networks.inputs(part, variant) for part in batch]
            for batch in workload.data()
        ]
        self.cycle = itertools.cycle(self.batches)
        zeros = [[torch.zeros_like(p) for p in self.parameters] for _ in range(2)]
        self.first_moments, self.second_moments = zeros
        self.count = 0

    @abc.abstractmethod
    def meta_gradient(self, batch: list[Any]) -> tuple[Any, list[Any]]:
        """Mean query loss of the tasks, and its gradient for each parameter."""

    def check(self) -> tuple[float, list[np.ndarray]]:
        """Loss and gradient of the function that `run` calls."""
        from benchmarks.peers import torch_networks

        loss, gradients = self.meta_gradient(self.batches[0])
        return float(loss), [torch_networks.to_keras(g) for g in gradients]

    def run(self, calls: int) -> None:
        """Runs the calls; PyTorch returns when its work is done."""
        for _ in range(calls):
            loss, gradients = self.meta_gradient(next(self.cycle))
            self._adam([g.detach() for g in gradients])
        float(loss)

    def tasks(self, batch: list[Any]) -> list[tuple[Any, ...]]:
        """`(support_x, support_y, query_x, query_y)` of each task."""
        return list(zip(*(part.unbind(0) for part in batch), strict=True))

    def _adam(self, gradients: list[Any]) -> None:
        """Adam in Keras's form on all weights at once: faster than `torch.optim`."""
        import torch

        self.count += 1
        rate = 1e-3 * math.sqrt(1 - 0.999**self.count) / (1 - 0.9**self.count)
        with torch.no_grad():
            torch._foreach_lerp_(self.first_moments, gradients, 0.1)
            torch._foreach_mul_(self.second_moments, 0.999)
            torch._foreach_addcmul_(self.second_moments, gradients, gradients, 0.001)
            roots = torch._foreach_sqrt(self.second_moments)
            torch._foreach_add_(roots, 1e-7)
            torch._foreach_addcdiv_(
                self.parameters, self.first_moments, roots, value=-rate
            )


class ModulePeer(TorchPeer):
    """A peer that adapts a module: a loop over tasks, with `backward` for each task."""

    variants = staticmethod(loop_variants)

    @abc.abstractmethod
    def query_loss(self, task: tuple[Any, ...]) -> Any:
        """The loss of the adapted network, differentiable in its parameters."""

    def meta_gradient(self, batch: list[Any]) -> tuple[Any, list[Any]]:
        """Mean loss and gradient; the parameters add up the gradients of all tasks."""
        self.network.zero_grad(set_to_none=True)
        tasks, total = self.tasks(batch), 0.0
        for task in tasks:
            loss = self.query_loss(task) / len(tasks)
            loss.backward()
            total += loss.detach()
        return total, [p.grad for p in self.parameters]
