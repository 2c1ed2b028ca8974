"""Strategies for the devices of a machine, and for the machines of a cluster."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2
from tensorflow.python.eager import context

from maml_keras.execution.keras_replicas import check_version

# How long workers wait for each other at the start, and for a sign of life later.
START_SECONDS, SILENCE_SECONDS = 120, 30
_LOOK_SECONDS = 0.5


def chosen(
    devices: int | None, cluster: Sequence[str] | None, worker: int | None
) -> Any:
    """The strategy that options ask for, or None for one device.

    The strategy must be made before TensorFlow has run anything.

    Args:
        devices: int, devices of this machine.
        cluster: list of `"host:port"`, one for each worker; None for the cluster of the
            environment variable `TF_CONFIG`, if there is one.
        worker: int, the place of this process in `cluster`.

    Raises:
        ValueError: if the options do not fit each other or this machine.
    """
    if (cluster is None) != (worker is None):
        raise ValueError(
            "`--cluster` and `--worker` belong together: the addresses of all workers, "
            f"and which of them this is. Received: cluster={cluster}, worker={worker}."
        )
    if cluster is not None and worker is not None:
        os.environ["TF_CONFIG"] = tf_config(cluster, worker)
    if devices is not None:
        check_version()
        names = _devices(devices)
    if "TF_CONFIG" in os.environ:
        if devices not in (None, 1) and names[0].startswith("CPU"):
            raise ValueError(
                "A worker without a GPU is one device. Received: "
                f"devices={devices} in a cluster. Leave out `--devices`, or start more "
                "workers."
            )
        return _of_cluster()
    return None if devices is None else tf.distribute.MirroredStrategy(names)


def tf_config(cluster: Sequence[str], worker: int) -> str:
    """The value of `TF_CONFIG` for one worker.

    Args:
        cluster: list of `"host:port"`.
        worker: int, the place of the worker in `cluster`.

    Raises:
        ValueError: if an address has no port, or there is no such worker.

    >>> tf_config(["a:2222", "b:2222"], 1)
    '{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 1}}'
    """  # noqa: E501
    for address in cluster:
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal()):
            raise ValueError(
                "`--cluster` must be addresses HOST:PORT, separated by commas. "
                f"Received: {address!r}."
            )
    if len(set(cluster)) < len(cluster):
        raise ValueError(
            "Each worker of `--cluster` needs an address of its own. Received: "
            f"{','.join(cluster)}."
        )
    if not 0 <= worker < len(cluster):
        raise ValueError(
            f"`--worker` must be from 0 to {len(cluster) - 1}, a place in `--cluster`. "
            f"Received: {worker}."
        )
    task = {"type": "worker", "index": worker}
    return json.dumps({"cluster": {"worker": list(cluster)}, "task": task})


def _devices(count: int) -> list[str]:
    """Names of GPUs, or of logical processors if there is no GPU."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and count > len(gpus):
        raise ValueError(
            f"`--devices` must be at most the GPUs of this machine, {len(gpus)}. "
            f"Received: {count}."
        )
    try:
        if gpus:
            tf.config.set_visible_devices(gpus[:count], "GPU")
        else:
            tf.config.set_logical_device_configuration(
                tf.config.list_physical_devices("CPU")[0],
                [tf.config.LogicalDeviceConfiguration()] * count,
            )
    except RuntimeError as error:
        raise ValueError(
            "Devices must be chosen before TensorFlow runs anything. Received: "
            f"{count} devices in a process in which it has run. Choose them first."
        ) from error
    return [f"{'GPU' if gpus else 'CPU'}:{i}" for i in range(count)]


def _of_cluster() -> Any:
    """The strategy of the cluster in `TF_CONFIG`, once all workers have come.

    Raises:
        TimeoutError: if a worker does not come.
    """
    check_version()
    found = json.loads(os.environ["TF_CONFIG"])
    workers = found.get("cluster", {}).get("worker", [])
    if not workers or found.get("task", {}).get("type") != "worker":
        raise ValueError(
            "`TF_CONFIG` must name workers only, the first of which writes, and this "
            f"process as one of them. Received: {os.environ['TF_CONFIG']}."
        )
    own = int(found["task"]["index"])
    _wait_for_all(workers, own)
    # Without a limit, TensorFlow waits for a silent worker for ever.
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        coordinated_jobs=[
            coordination_config_pb2.CoordinatedJob(
                name="worker", num_tasks=len(workers)
            )
        ],
        heartbeat_timeout_in_ms=SILENCE_SECONDS * 1000,
    )
    return tf.distribute.MultiWorkerMirroredStrategy()


def _wait_for_all(workers: Sequence[str], own: int) -> None:
    """Waits until each worker listens, because TensorFlow would wait for ever.

    Args:
        workers: list of `"host:port"`.
        own: int, the place of this process, which listens at its own port meanwhile.

    Raises:
        OSError: if this process cannot listen at its port.
        TimeoutError: if a worker does not come.
    """
    port = int(workers[own].rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    try:
        listening = socket.create_server(
            ("", port),
            family=socket.AF_INET6 if both else socket.AF_INET,
            dualstack_ipv6=both,
            backlog=len(workers) * 8,
        )
    except OSError as error:
        raise OSError(
            f"Worker {own} must listen at port {port}. Received: {error.strerror}. "
            "End the process that uses this port, or choose another port."
        ) from error
    with listening:
        deadline = time.monotonic() + START_SECONDS
        missing = [a for i, a in enumerate(workers) if i != own]
        while missing := [address for address in missing if not _listens(address)]:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"All workers must start within {START_SECONDS} seconds. Received: "
                    f"nothing from {', '.join(missing)}. Start the same command on "
                    "each machine, with its own `--worker`, and look whether these "
                    "ports can be reached from here."
                )
            time.sleep(_LOOK_SECONDS)
        # Another one may have come right now and looks for this process, too.
        time.sleep(2 * _LOOK_SECONDS)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2.0).close()
    except OSError:
        return False
    return True
