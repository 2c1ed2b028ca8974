"""JAX: `vmap` or `scan` over tasks under `jit`, one meta-step a call or several."""

from __future__ import annotations

import functools
import itertools
import os
from typing import Any

import numpy as np

from benchmarks.peers import Peer
from benchmarks.workloads import Workload

PACKAGES = ["jax", "jaxlib", "numpy"]


def prepare(variant: dict[str, Any]) -> None:
    """Sets XLA's flags, which are read once, and imports JAX."""
    flags = []
    if variant.get("threads") == 1:
        flags += [
            "--xla_cpu_multi_thread_eigen=false",
            "intra_op_parallelism_threads=1",
        ]
    if "devices" in variant:
        flags += [f"--xla_force_host_platform_device_count={variant['devices']}"]
    os.environ["XLA_FLAGS"] = " ".join(flags)
    on_gpu = variant.get("device") == "gpu"
    os.environ["JAX_PLATFORMS"] = "cuda" if on_gpu else "cpu"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import jax

    # TensorFlow takes TF32 for float32 by default, so the others may, too.
    if on_gpu:
        jax.config.update("jax_default_matmul_precision", "tensorfloat32")


def peak_mb() -> float:
    """The peak of the GPU's memory that JAX used."""
    import jax

    used: float = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    return used / 2**20


class Jax(Peer):
    """The meta-step as one compiled function of weights, moments and batch."""

    @staticmethod
    def variants(workload: Workload) -> list[dict[str, Any]]:
        """Task maps, forms of a convolution and of a time loop, meta-steps a call."""
        kind = workload.network.kind
        if kind == "conv":
            tried: list[dict[str, Any]] = [
                {"map": "scan", "conv": "slices"},
                {"map": "scan", "conv": "slices", "devices": 2},
                {"map": "scan", "conv": "slices", "threads": 1},
                {"map": "vmap", "conv": "slices"},
                {"map": "scan", "conv": "patches"},
            ]
            # Native convolutions were 20 times slower, so only small cases try them.
            native = [{"map": "scan", "conv": "native"}] if workload.query == 5 else []
            return tried + native
        if kind == "mlp":
            return [
                {"map": "vmap"},
                {"map": "vmap", "chunk": 20},
                {"map": "vmap", "chunk": 100},
                {"map": "vmap", "chunk": 100, "threads": 1},
                {"map": "scan", "chunk": 20},
            ]
        tried = [
            {"map": "vmap"},
            {"map": "vmap", "chunk": workload.batches},
            {"map": "vmap", "threads": 1},
            {"map": "vmap", "devices": 2},
            {"map": "scan"},
            {"map": "scan", "devices": 2},
        ]
        unrolled = [{"map": "vmap", "unroll": 5}] if kind == "lstm" else []
        return tried + unrolled

    @staticmethod
    def gpu_variants(workload: Workload) -> list[dict[str, Any]]:
        """`vmap`, with several meta-steps in a call, and forms of a convolution."""
        joined = {"map": "vmap", "chunk": workload.batches}
        if workload.network.kind != "conv":
            return [joined, {"map": "vmap"}]
        return [{**joined, "conv": form} for form in ("native", "slices")]

    def __init__(self, workload: Workload, variant: dict[str, Any]) -> None:
        import jax
        import jax.numpy as jnp

        from benchmarks.peers import jax_networks

        jax.config.update("jax_enable_x64", workload.double)
        self.workload, self.variant = workload, variant
        self.chunk = variant.get("chunk", 1)
        self.loss = jax_networks.loss(workload, variant)
        weights = [jnp.asarray(w) for w in workload.weights()]
        zeros = [[jnp.zeros_like(w) for w in weights] for _ in range(2)]
        self.state = weights, *zeros, jnp.zeros([])
        step, batches = self._step, workload.data()
        self.first_batch = jax.tree.map(jnp.asarray, batches[0])
        if self.chunk > 1:
            # Several meta-steps run in one program, each on its own batch.
            step = functools.partial(jax.lax.scan, self._step)
            taken = itertools.islice(itertools.cycle(batches), self.chunk)
            batches = [tuple(map(np.stack, zip(*taken, strict=True)))]
        self.batches = itertools.cycle([jax.tree.map(jnp.asarray, b) for b in batches])
        self.step = jax.jit(step, donate_argnums=0)

    def check(self) -> tuple[float, list[np.ndarray]]:
        """Loss and gradient of the function that `step` differentiates."""
        import jax

        loss, gradients = jax.jit(self._value_and_grad)(self.state[0], self.first_batch)
        return float(loss), [np.asarray(g) for g in gradients]

    def run(self, calls: int) -> None:
        """Dispatches all calls and waits for the last loss."""
        for _ in range(calls):
            self.state, loss = self.step(self.state, next(self.batches))
        loss.block_until_ready()

    def _task_loss(self, weights: Any, task: Any) -> Any:
        import jax

        support_x, support_y, query_x, query_y = task
        adapted = weights
        for _ in range(self.workload.steps):
            gradients = jax.grad(self.loss)(adapted, support_x, support_y)
            rate = self.workload.learning_rate
            adapted = [w - rate * g for w, g in zip(adapted, gradients, strict=True)]
        return self.loss(adapted, query_x, query_y)

    def _value_and_grad(self, weights: Any, batch: Any) -> Any:
        import jax

        if self.variant.get("devices", 1) == 1:
            return self._mean_over_tasks(weights, batch)
        from jax.sharding import Mesh
        from jax.sharding import PartitionSpec as P

        def share(weights: Any, batch: Any) -> Any:
            return jax.lax.pmean(self._mean_over_tasks(weights, batch), "tasks")

        mesh = Mesh(np.array(jax.devices()), ("tasks",))
        return jax.shard_map(
            share,
            mesh=mesh,
            in_specs=(P(), P("tasks")),
            out_specs=P(),
            check_vma=False,
        )(weights, batch)

    def _mean_over_tasks(self, weights: Any, batch: Any) -> Any:
        import jax

        if self.variant["map"] == "vmap":

            def mean(weights: Any) -> Any:
                return jax.vmap(lambda t: self._task_loss(weights, t))(batch).mean()

            return jax.value_and_grad(mean)(weights)

        tasks = batch[0].shape[0]

        def body(total: Any, task: Any) -> Any:
            value = jax.value_and_grad(self._task_loss)(weights, task)
            return jax.tree.map(lambda a, b: a + b / tasks, total, value), None

        zero = jax.numpy.zeros([], weights[0].dtype)
        start = zero, [jax.numpy.zeros_like(w) for w in weights]
        return jax.lax.scan(body, start, batch)[0]

    def _step(self, state: Any, batch: Any) -> Any:
        import jax.numpy as jnp

        weights, first, second, count = state
        loss, gradients = self._value_and_grad(weights, batch)
        count = count + 1
        rate = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
        second = [0.999 * v + 0.001 * g**2 for v, g in zip(second, gradients)]
        weights = [
            w - rate * m / (jnp.sqrt(v) + 1e-7)
            for w, m, v in zip(weights, first, second, strict=True)
        ]
        return (weights, first, second, count), loss
