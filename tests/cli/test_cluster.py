"""`maml-keras train` on several devices and workers: the figures of one device."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import maml_keras  # noqa: F401 - Keras finds its classes.

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SETTINGS = ["--iterations", "200", "--epoch", "40", "--tasks", "20", "--quiet"]
PROGRAM = [sys.executable, "-c", "import maml_keras_cli; maml_keras_cli.main()"]


def train(*options):
    return subprocess.Popen(
        [*PROGRAM, "train", "sinusoid", *SETTINGS, *map(str, options)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process, code=0):
    output, _ = process.communicate(timeout=1800)
    assert process.returncode == code, output[-2000:]
    return output


def cluster(folder, *options):
    ports = []
    for _ in range(2):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
    addresses = ",".join(f"localhost:{port}" for port in ports)
    shared = ["--out", folder, "--cluster", addresses, *options]
    return [train(*shared, "--worker", worker) for worker in range(2)]


def assert_same_run(one, other):
    a, b = (keras.saving.load_model(run / "maml.keras") for run in (one, other))
    for x, y in zip(a.variables, b.variables):
        np.testing.assert_allclose(y.numpy(), x.numpy(), rtol=1e-5, atol=1e-6)
    rows = [
        [json.loads(line)["loss"] for line in (run / "history.jsonl").open()]
        for run in (one, other)
    ]
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    ended(train("--out", folder))
    return folder


def test_two_devices_train_as_one(alone, tmp_path):
    ended(train("--out", tmp_path / "run", "--devices", 2))
    assert_same_run(alone, tmp_path / "run")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_worker_ends_the_other_and_the_run_resumes(alone, tmp_path, lost):
    folder = tmp_path / "run"
    workers = cluster(folder)
    while not (folder / "backup").exists():
        assert workers[0].poll() is None, workers[0].communicate()
        time.sleep(0.2)
    workers[lost].send_signal(signal.SIGKILL)
    since = time.monotonic()
    other = workers[1 - lost]
    output, _ = other.communicate(timeout=300)
    workers[lost].communicate()
    assert time.monotonic() - since < 60
    assert other.returncode == 1
    assert "All workers must run until the end" in output
    assert "--resume" in output
    assert not (folder / "maml.keras").exists()
    for worker in cluster(folder, "--resume"):
        ended(worker)
    assert_same_run(alone, folder)
    shutil.rmtree(folder)
