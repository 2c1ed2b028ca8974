"""maml_keras: through `fit` as a user would, and the compiled step without it."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from typing import Any

import numpy as np

from benchmarks.peers import Peer
from benchmarks.workloads import Workload

PACKAGES = ["maml_keras", "tensorflow", "keras", "numpy"]


def prepare(variant: dict[str, Any]) -> None:
    """Imports TensorFlow and sets its threads, if the variant names any."""
    # The peers share a GPU, so none may take all of its memory.
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    import tensorflow as tf

    import maml_keras  # noqa: F401

    if "intra_op" in variant:
        tf.config.threading.set_intra_op_parallelism_threads(variant["intra_op"])
        tf.config.threading.set_inter_op_parallelism_threads(variant["inter_op"])


def matmul(a: np.ndarray, b: np.ndarray) -> Any:
    """TensorFlow's matrix product."""
    import tensorflow as tf

    return tf.linalg.matmul(a, b).numpy()


def gpu() -> dict[str, Any] | None:
    """Name of the first GPU and its best TFLOP/s in a product, or None."""
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return None
    details = tf.config.experimental.get_device_details(devices[0])
    a = tf.random.normal([4096, 4096])

    @tf.function
    def products() -> Any:
        return tf.reduce_sum(tf.foldl(lambda b, _: a @ b / 64.0, tf.range(20), a))

    float(products())
    begun = time.perf_counter()
    float(products())
    rate = 20 * 2 * 4096**3 / (time.perf_counter() - begun) / 1e9
    return {"name": details.get("device_name", devices[0].name), "gflops": rate}


def peak_mb() -> float:
    """The peak of the GPU's memory that TensorFlow used."""
    import tensorflow as tf

    used = 0.0
    with contextlib.suppress(ValueError):  # A processor has no such count.
        used = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return used / 2**20


class Ours(Peer):
    """A compiled `MAML` and the batches as tensors of its form."""

    @staticmethod
    def variants(workload: Workload) -> list[dict[str, Any]]:
        """The defaults first, then what a user could set."""
        split = {"intra_op": 1, "inter_op": len(os.sched_getaffinity(0))}
        kind = workload.network.kind
        tried: list[dict[str, Any]] = [{}, split]
        if kind != "conv":
            # XLA's native convolutions are 20 times slower on CPU.
            steps = {} if kind == "mlp" else {"steps_per_execution": workload.batches}
            tried += [{"jit_compile": True, **steps}, {"jit_compile": False}]
        if kind in ("transformer", "lstm"):
            tried += [{**split, "task_map": m} for m in ("parallel", "vectorized")]
        if kind == "lstm":
            tried += [{"unroll": True}]
        return tried

    @staticmethod
    def gpu_variants(workload: Workload) -> list[dict[str, Any]]:
        """All tasks as one with and without XLA, a loop over tasks, and defaults."""
        compiled = {"jit_compile": True, "steps_per_execution": workload.batches}
        return [
            {"task_map": "vectorized", **compiled},
            {"task_map": "vectorized", "jit_compile": False},
            {"task_map": "parallel", "jit_compile": False},
            {"task_map": "auto"},
        ]

    def __init__(self, workload: Workload, variant: dict[str, Any]) -> None:
        import keras
        import tensorflow as tf

        import maml_keras as mk
        from benchmarks.peers import keras_models

        model = keras_models.build(workload, variant)
        loss = "mse"
        if workload.network.classifies:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        inner = mk.InnerLoop(loss, mk.SGD(workload.learning_rate), steps=workload.steps)
        self.maml = mk.MAML(model, inner, task_map=variant.get("task_map", "auto"))
        names = ("jit_compile", "steps_per_execution")
        settings = {k: variant[k] for k in names if k in variant}
        self.maml.compile(keras.optimizers.Adam(1e-3), **settings)
        self.batches = [
            tf.nest.map_structure(
                tf.constant,
                ({"support_x": sx, "support_y": sy, "query_x": qx}, qy),
            )
            for sx, sy, qx, qy in workload.data()
        ]

    def check(self) -> tuple[float, list[np.ndarray]]:
        """Loss and gradient of `compute_meta_gradients`, in a graph."""
        import tensorflow as tf

        function = tf.function(self.maml.compute_meta_gradients)
        loss, gradients = function(self.batches[0])
        return float(loss), [g.numpy() for g in gradients]


class Fit(Ours):
    """`maml.fit` on a `tf.data` pipeline, with all its work for each step."""

    def __init__(self, workload: Workload, variant: dict[str, Any]) -> None:
        import tensorflow as tf

        super().__init__(workload, variant)
        datasets = [tf.data.Dataset.from_tensors(b) for b in self.batches]
        pool = datasets[0]
        for dataset in datasets[1:]:
            pool = pool.concatenate(dataset)
        self.dataset = pool.cache().repeat().prefetch(2)
        # `fit` chooses the number of meta-steps in a call, which divides the epoch.
        # Epochs of hundreds always allow the same choice. With one meta-step a call, as
        # for convolutions, whose steps are long, an epoch may have any length.
        free = 1 if workload.network.kind == "conv" else 100
        self.chunk = variant.get("steps_per_execution", free)

    def first(self) -> float:
        """Seconds of the first call, which also shows the meta-steps in a call."""
        begun = time.perf_counter()
        ended, step = self._fit(1, only_first=True)[0]
        self.chunk = step + 1
        return ended - begun

    def run(self, calls: int) -> None:
        """One call of `fit`."""
        self._fit(calls)

    def seconds(self, calls: int) -> float:
        """Seconds a step between the ends of the first and the last compiled call.

        What `fit` does once, before its first step, is left out.
        """
        ends = self._fit(calls + 1)
        (begun, first), (ended, last) = ends[0], ends[-1]
        return (ended - begun) / (last - first)

    def _fit(self, calls: int, only_first: bool = False) -> list[tuple[float, int]]:
        import keras

        ends: list[tuple[float, int]] = []

        class Clock(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                ends.append((time.perf_counter(), batch))
                self.model.stop_training = only_first

        self.maml.fit(
            self.dataset,
            steps_per_epoch=calls * self.chunk,
            verbose=0,
            callbacks=[Clock()],
        )
        return ends


class BareStep(Ours):
    """`tf.function(maml.train_step)`, called in a loop."""

    @staticmethod
    def variants(workload: Workload) -> list[dict[str, Any]]:
        """The settings of `fit`; without a setting XLA is not used."""
        tried = Ours.variants(workload)
        tried = [v for v in tried if v.get("jit_compile") is not False]
        return [{k: v[k] for k in v if k != "steps_per_execution"} for v in tried]

    @staticmethod
    def gpu_variants(workload: Workload) -> list[dict[str, Any]]:
        """All tasks as one, under XLA, which `fit` joins several steps of."""
        return [{"task_map": "vectorized", "jit_compile": True}]

    def __init__(self, workload: Workload, variant: dict[str, Any]) -> None:
        import tensorflow as tf

        super().__init__(workload, variant)
        self.maml.optimizer.build(self.maml.trainable_variables)
        self.step = tf.function(
            self.maml.train_step, jit_compile=variant.get("jit_compile") or None
        )
        self.cycle = itertools.cycle(self.batches)

    def run(self, calls: int) -> None:
        """Each call returns when it is done: on CPU TensorFlow does not run ahead."""
        for _ in range(calls):
            logs = self.step(next(self.cycle))
        float(logs["loss"])
