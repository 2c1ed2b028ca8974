"""Runs a peer in a separate process: a JSON command a line on stdin, a JSON reply each.

Between commands the process waits for input and uses no processor time.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.machine import matmul_gflops
from benchmarks.peers import PEERS
from benchmarks.workloads import WORKLOADS


class Worker:
    """Answers the runner's commands for one peer, workload and variant."""

    def __init__(self, peer: str, workload: str, variant: dict[str, Any]) -> None:
        module, cls, _ = PEERS[peer]
        self.module = importlib.import_module(f"benchmarks.peers.{module}")
        self.cls = getattr(self.module, cls)
        self.workload, self.variant = WORKLOADS[workload], variant
        if variant.get("small"):
            self.workload = self.workload.small()
        self.module.prepare(variant)
        self.imported_mb = _resident_mb()
        self.peer: Any = None
        self.estimate = 0.0

    def versions(self) -> dict[str, str]:
        """Versions of Python and of the packages that the peer names."""
        found = {p: importlib.metadata.version(p) for p in self.module.PACKAGES}
        return {"python": ".".join(map(str, sys.version_info[:3])), **found}

    def variants(self) -> list[dict[str, Any]]:
        """The settings that the peer wants to try."""
        listed: list[dict[str, Any]] = self.cls.variants(self.workload)
        return listed

    def gpu_variants(self) -> list[dict[str, Any]]:
        """The settings that the peer wants to try on a GPU."""
        listed: list[dict[str, Any]] = self.cls.gpu_variants(self.workload)
        return listed

    def gpu(self) -> dict[str, Any] | None:
        """Name and speed of the GPU that the peer sees."""
        found: dict[str, Any] | None = self.module.gpu()
        return found

    def check(self, path: str) -> float:
        """The loss of the smooth twin; writes its meta-gradient to a file."""
        loss, gradients = self.cls(self.workload.twin(), self.variant).check()
        np.save(path, np.concatenate([np.ravel(g) for g in gradients]))
        return loss

    def start(self) -> dict[str, float]:
        """Makes the first call, which traces, compiles and runs."""
        self.peer = self.cls(self.workload, self.variant)
        return {"first_seconds": self.peer.first()}

    def slice(self, seconds: float) -> dict[str, float]:
        """Runs meta-steps for about the given time, at least two of them."""
        if not self.estimate:
            self.estimate = self.peer.seconds(1)
        each = self.estimate * self.peer.chunk
        calls = max(-(-2 // self.peer.chunk), round(seconds / each))
        self.estimate = self.peer.seconds(calls)
        return {"ms": 1e3 * self.estimate, "steps": calls * self.peer.chunk}

    def memory(self) -> dict[str, float]:
        """Peak memory of the process, and the part of it after the imports.

        On a GPU the peak of its memory.
        """
        if self.variant.get("device") == "gpu":
            return {"peak_mb": self.module.peak_mb()}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"peak_mb": peak, "over_import_mb": peak - self.imported_mb}

    def matmul(self) -> float:
        """Best GFLOP/s of this framework's own matrix product."""
        return matmul_gflops(self.module.matmul)


def _resident_mb() -> float:
    with open("/proc/self/statm") as status:
        return int(status.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def serve(make: Callable[[], Any]) -> None:
    """Answers commands by the methods of what `make` returns, until stdin ends."""
    # The replies use stdout, so prints of the frameworks are sent to stderr.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(**values: Any) -> None:
        replies.write(json.dumps(values) + "\n")

    try:
        worker = make()
    except ImportError as error:
        reply(missing=str(error))
        return
    reply(value="ready")
    for line in sys.stdin:
        command, *values = json.loads(line)
        try:
            reply(value=getattr(worker, command)(*values))
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            reply(error=f"{type(error).__name__}: {lines[-1]}")


def main() -> None:
    """Serves the peer, workload and variant of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("variant", type=json.loads)
    given = parser.parse_args()
    serve(lambda: Worker(given.peer, given.workload, given.variant))


if __name__ == "__main__":
    main()
