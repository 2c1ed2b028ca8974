"""Peers: one implementation a file, each run in a separate process.

A peer's module has `PACKAGES`, whose versions are reported, a function
`prepare(variant)`, called before the framework is imported, and a subclass of `Peer`.
"""

from __future__ import annotations

import abc
import time
from typing import Any

import numpy as np

from benchmarks.workloads import Workload

# Key: module, class in it, title.
PEERS = {
    "ours": ("ours", "Fit", "ours"),
    "ours_bare": ("ours", "BareStep", "ours (bare step)"),
    "jax": ("jax_peer", "Jax", "JAX"),
    "torch_func": ("torch_func_peer", "TorchFunc", "torch.func"),
    "learn2learn": ("learn2learn_peer", "Learn2Learn", "learn2learn"),
    "higher": ("higher_peer", "Higher", "higher"),
    "torchopt": ("torchopt_peer", "TorchOpt", "TorchOpt"),
}


class Peer(abc.ABC):
    """An implementation of a workload at one variant.

    Attributes:
        chunk: int, meta-steps of one call.
    """

    chunk = 1

    @abc.abstractmethod
    def __init__(self, workload: Workload, variant: dict[str, Any]) -> None:
        """Weights and data in the framework's own form."""

    @staticmethod
    @abc.abstractmethod
    def variants(workload: Workload) -> list[dict[str, Any]]:
        """Settings to try; among equally fast ones the first is taken."""

    @staticmethod
    def gpu_variants(workload: Workload) -> list[dict[str, Any]]:
        """Settings to try on a GPU; none if the peer is not measured there."""
        return []

    @abc.abstractmethod
    def check(self) -> tuple[float, list[np.ndarray]]:
        """Query loss and meta-gradient of the first batch, in Keras's layout."""

    @abc.abstractmethod
    def run(self, calls: int) -> None:
        """Runs `calls` calls of `chunk` meta-steps each and waits for the last."""

    def first(self) -> float:
        """Seconds of the first call, which traces and compiles."""
        begun = time.perf_counter()
        self.run(1)
        return time.perf_counter() - begun

    def seconds(self, calls: int) -> float:
        """Seconds of a meta-step, averaged over `calls` calls after an untimed one."""
        self.run(1)
        begun = time.perf_counter()
        self.run(calls)
        return (time.perf_counter() - begun) / (calls * self.chunk)
