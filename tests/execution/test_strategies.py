"""Strategies from options: what fits, and sentences about what does not."""

import json
import socket
import threading

import pytest

from maml_keras.execution import strategies


def test_without_options_there_is_no_strategy(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert strategies.chosen(None, None, None) is None


@pytest.mark.parametrize(
    ("cluster", "worker", "message"),
    [
        (["a:1"], None, "belong together"),
        (None, 0, "belong together"),
        (["a"], 0, "HOST:PORT"),
        (["a:1", "a:1"], 0, "an address of its own"),
        (["a:1", "b:1"], 2, "from 0 to 1"),
    ],
)
def test_wrong_clusters_are_refused(monkeypatch, cluster, worker, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match=message):
        strategies.chosen(None, cluster, worker)


def test_devices_after_the_first_operation_are_refused(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    import tensorflow as tf

    tf.zeros([])
    with pytest.raises(ValueError, match="before TensorFlow runs anything"):
        strategies.chosen(2, None, None)


def test_a_chief_or_a_parameter_server_is_refused(monkeypatch):
    config = {"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(ValueError, match="must name workers only"):
        strategies.chosen(None, None, None)


def listening():
    server = socket.create_server(("127.0.0.1", 0))
    return server, f"localhost:{server.getsockname()[1]}"


def test_a_worker_that_never_comes_is_named(monkeypatch):
    monkeypatch.setattr(strategies, "START_SECONDS", 0.1)
    (one, here), (other, there) = listening(), listening()
    one.close()
    other.close()
    with pytest.raises(TimeoutError, match=f"nothing from {there}"):
        strategies._wait_for_all([here, there], 0)


def test_workers_find_each_other_whoever_comes_first(monkeypatch):
    monkeypatch.setattr(strategies, "START_SECONDS", 20)
    monkeypatch.setattr(strategies, "_LOOK_SECONDS", 0.1)
    (one, here), (other, there) = listening(), listening()
    one.close()
    other.close()
    late = threading.Timer(0.3, strategies._wait_for_all, [[here, there], 1])
    late.start()
    strategies._wait_for_all([here, there], 0)
    late.join(timeout=10)
    assert not late.is_alive()


def test_a_port_in_use_is_named():
    server, here = listening()
    with server, pytest.raises(OSError, match="must listen at port"):
        strategies._wait_for_all([here], 0)
