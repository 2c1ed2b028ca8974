"""Several replicas train as one device does, or refuse in a sentence."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_keras as mk
from maml_keras.execution import keras_replicas, replicas
from maml_keras.execution.place import Place
from maml_keras.execution.start_at import StartAt

SCRIPT = pathlib.Path(__file__).with_name("replica_cases.py")
CASES = (
    "sinusoid conv per_step meta_sgd reptile phases proto_maml ridge mixed clip "
    "global_clip uneven weights skip xla"
).split()
# Replicas add in another order. Over 200 steps, differences of 1e-16 grew to 1e-12.
TOLERANCE = 1e-9

# The machine may be busy, and each process trains many cases.


def long(test):
    return pytest.mark.slow(pytest.mark.timeout(3600)(test))


def start(folder, count, floats, cases, **environment):
    return subprocess.Popen(
        [sys.executable, SCRIPT, folder, str(count), floats, *cases],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def trained(folder, *arguments, **environment):
    process = start(folder, *arguments, **environment)
    _, errors = process.communicate(timeout=3000)
    assert process.returncode == 0, errors[-3000:]
    return folder


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def in_cluster(folder, workers, *arguments):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    cluster = {"worker": addresses}
    started = [
        start(
            folder,
            *arguments,
            TF_CONFIG=json.dumps(
                {"cluster": cluster, "task": {"type": "worker", "index": i}}
            ),
        )
        for i in range(workers)
    ]
    for process in started:
        _, errors = process.communicate(timeout=3000)
        assert process.returncode == 0, errors[-3000:]
    return folder


def assert_equal(one, other, case, tolerance):
    with np.load(one / f"{case}.npz") as a, np.load(other / f"{case}.npz") as b:
        assert set(a.files) == set(b.files)
        for name in a.files:
            np.testing.assert_allclose(
                b[name], a[name], rtol=tolerance, atol=tolerance, err_msg=name
            )


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("one"), 1, "float64", CASES)


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("two"), 2, "float64", CASES)


@long
@pytest.mark.parametrize("case", CASES)
def test_two_replicas_equal_one(one_device, two_devices, case):
    # Mixed precision has weights in float32.
    assert_equal(one_device, two_devices, case, 1e-6 if case == "mixed" else TOLERANCE)


@long
def test_three_replicas_equal_one(one_device, tmp_path):
    cases = ["sinusoid", "uneven"]
    trained(tmp_path, 3, "float64", cases)
    for case in cases:
        assert_equal(one_device, tmp_path, case, TOLERANCE)


@long
@pytest.mark.parametrize("count", [1, 2])
def test_two_processes_equal_one(one_device, tmp_path, count):
    cases = ["sinusoid", "conv", "uneven", "skip"]
    in_cluster(tmp_path, 2, count, "float64", cases)
    for case in cases:
        assert_equal(one_device, tmp_path, case, TOLERANCE)


# In this process, with a strategy of one device ------------------------------------


def model(seed=0):
    keras.utils.set_random_seed(seed)
    network = keras.Sequential([keras.Input([1]), keras.layers.Dense(3)])
    return mk.MAML(network, mk.InnerLoop("mse", mk.SGD(0.01)), seed=1)


def stream(**options):
    return mk.data.episodes(mk.data.Sinusoid(shots=2), batch_size=2, seed=1, **options)


def test_a_strategy_of_one_device_changes_nothing():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    found = []
    for scope in (None, strategy):
        if scope is None:
            maml = model()
            maml.compile("sgd", metrics=["mae"])
        else:
            with strategy.scope():
                maml = model()
                maml.compile("sgd", metrics=["mae"])
        maml.episodes_seen.assign(4)
        history = maml.fit(stream(), steps_per_epoch=2, epochs=1, verbose=0).history
        found.append([*history.values(), *(v.numpy() for v in maml.variables)])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_model_of_another_strategy_is_refused():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    maml = model()
    with strategy.scope(), pytest.raises(ValueError, match="made before, or outside"):
        maml.compile("sgd")
    with strategy.scope():
        late = mk.MAML(maml.model, maml.inner)
    with pytest.raises(ValueError, match="inside of `with strategy.scope"):
        late.compile("sgd")
    outside = keras.optimizers.SGD()
    with strategy.scope():
        maml = model()
    with pytest.raises(ValueError, match="made under the scope of the model's strat"):
        maml.compile(outside)
    with strategy.scope():
        adding = keras.optimizers.SGD(gradient_accumulation_steps=2)
        with pytest.raises(ValueError, match="cannot accumulate gradients"):
            maml.compile(adding)


def test_other_strategies_are_refused():
    with pytest.raises(ValueError, match="Received: a CentralStorageStrategy"):
        replicas.Replicas(tf.distribute.experimental.CentralStorageStrategy())


def test_another_keras_is_refused(monkeypatch):
    keras_replicas.check_version()
    monkeypatch.setattr(keras, "__version__", "3.99.0")
    with pytest.raises(RuntimeError, match=r"3\.15\. Received: 3\.99\.0"):
        keras_replicas.check_version()


def test_the_bridge_wants_the_method_that_it_replaces():
    with keras_replicas.summed_already(keras.optimizers.SGD()):
        pass
    with (
        pytest.raises(RuntimeError, match="_all_reduce_sum_gradients"),
        keras_replicas.summed_already(types.SimpleNamespace()),
    ):
        pass


def test_one_device_is_a_place_of_its_own():
    place = Place(3)
    assert not place.is_shared
    assert place.mean([1.0]) == ([1.0], 3)
    assert place.rows("seeds") == "seeds"


def test_a_stream_starts_where_the_model_stopped():
    maml = model()
    maml.episodes_seen.assign(6)
    callback = StartAt()
    callback.set_model(maml)
    callback.on_train_begin()
    assert int(callback.variable) == 6


class First:
    """The first of two replicas; `other` is what the second replica sends."""

    num_replicas_in_sync = 2
    replica_id_in_sync_group = 0

    def __init__(self, other):
        self.other = other

    def all_reduce(self, operation, value):
        assert operation == tf.distribute.ReduceOp.SUM
        return value + tf.constant(self.other, value.dtype)


@pytest.mark.parametrize(
    ("own", "mean", "expected", "total"),
    # The second replica has one task, whose value is 10.
    [(3, 2.0, (3 * 2 + 10) / 4, 4), (0, np.nan, 10.0, 1)],
)
def test_a_mean_is_over_tasks_and_not_over_replicas(own, mean, expected, total):
    place = Place(own)
    place._context = First(other=[10.0, 1.0])
    found, count = place.mean(tf.constant(mean))
    assert (float(found), int(count)) == (expected, total)
