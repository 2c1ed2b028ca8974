"""`maml-keras train` on several devices and workers, also with one that is lost."""

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

slow = pytest.mark.slow
pytestmark = pytest.mark.timeout(1800)

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


def ports(count):
    found = []
    for _ in range(count):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            found.append(one.getsockname()[1])
    return found


def cluster(folder, *options):
    addresses = ",".join(f"localhost:{port}" for port in ports(2))
    shared = ["--out", folder, "--cluster", addresses, *options]
    return [train(*shared, "--worker", worker) for worker in range(2)]


def assert_same_run(one, other):
    a, b = (keras.saving.load_model(run / "maml.keras") for run in (one, other))
    for x, y in zip(a.variables, b.variables):
        np.testing.assert_allclose(y.numpy(), x.numpy(), rtol=1e-5, atol=1e-6)
    rows = [
        [
            json.loads(line)["loss"]
            for line in (run / "history.jsonl").read_text().splitlines()
        ]
        for run in (one, other)
    ]
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    ended(train("--out", folder))
    return folder


@slow
def test_two_devices_train_as_one(alone, tmp_path):
    ended(train("--out", tmp_path / "run", "--devices", 2))
    assert_same_run(alone, tmp_path / "run")


@slow
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


AGREES_AND_ENDS = """
import os, signal
from maml_keras.execution import replicas, strategies
team = replicas.Replicas(strategies.chosen(None, {addresses}, {worker}))
team.of_all(1)  # The worker says that it will make a new network.
os.kill(os.getpid(), signal.SIGKILL)
"""


@slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_worker_lost_before_the_network_is_built_ends_the_other(tmp_path, lost):
    addresses = [f"localhost:{port}" for port in ports(2)]
    program = AGREES_AND_ENDS.format(addresses=addresses, worker=lost)
    partner = subprocess.Popen([sys.executable, "-c", program])
    shared = ["--out", tmp_path / "run", "--cluster", ",".join(addresses)]
    other = train(*shared, "--worker", 1 - lost)
    partner.wait()
    since = time.monotonic()
    output = ended(other, code=1)
    assert time.monotonic() - since < 120
    assert "All workers must run until the end" in output
    assert not (tmp_path / "run" / "maml.keras").exists()


@slow
@pytest.mark.parametrize("hung", [0, 1])
def test_a_hung_worker_ends_the_other_within_two_minutes(tmp_path, hung):
    workers = cluster(tmp_path / "run")
    while not (tmp_path / "run" / "backup").exists():
        assert workers[0].poll() is None, workers[0].communicate()
        time.sleep(0.2)
    workers[hung].send_signal(signal.SIGSTOP)
    since = time.monotonic()
    try:
        output, _ = workers[1 - hung].communicate(timeout=300)
    finally:
        workers[hung].kill()
        workers[hung].communicate()
    assert time.monotonic() - since < 120
    assert workers[1 - hung].returncode == 1
    assert "All workers must run until the end" in output
    assert "--resume" in output


def one_of_two(folder, present):
    """The options of one worker, and the port of the other."""
    found = ports(2)
    addresses = ",".join(f"localhost:{port}" for port in found)
    options = ["--out", folder, "--cluster", addresses, "--worker", present]
    return options, found[1 - present]


@slow
@pytest.mark.parametrize("present", [0, 1])
def test_a_worker_that_never_comes_is_named_after_two_minutes(tmp_path, present):
    options, other = one_of_two(tmp_path / "run", present)
    output = ended(train(*options), code=1)
    assert "All workers must start within 120 seconds" in output
    assert f"localhost:{other}" in output


@slow
@pytest.mark.parametrize("present", [0, 1])
def test_a_worker_lost_before_it_registers_ends_the_other(tmp_path, present):
    options, other = one_of_two(tmp_path / "run", present)
    with socket.create_server(("localhost", other)) as partner:
        process = train(*options)
        partner.accept()[0].close()
    since = time.monotonic()
    output = ended(process, code=-signal.SIGKILL)
    assert time.monotonic() - since < 150
    assert "a worker that was lost after it had come" in output
    assert "--resume" in output


HANGS = """
import ctypes
from maml_keras_cli.cluster import ended_after
with ended_after({limit}, "Somebody was lost."):
    ctypes.PyDLL(None).usleep({microseconds})  # Python's lock stays taken.
print("done", flush=True)
ctypes.PyDLL(None).usleep(500000)
"""


@pytest.mark.parametrize(
    ("limit", "microseconds", "code", "says"),
    [(0.5, 60_000_000, -signal.SIGKILL, "Somebody was lost."), (0.5, 1, 0, "done")],
    ids=["hangs", "ends"],
)
def test_a_block_that_hangs_without_python_is_ended(limit, microseconds, code, says):
    program = HANGS.format(limit=limit, microseconds=microseconds)
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50
    )
    assert (found.stdout + found.stderr).strip() == says
    assert found.returncode == code
