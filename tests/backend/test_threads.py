"""Thread settings for parallel tasks."""

import os

import pytest
import tensorflow as tf

from maml_keras import use_one_thread_per_task


def test_each_operation_gets_one_core(monkeypatch):
    found = {}
    for kind in ("intra", "inter"):
        monkeypatch.setattr(
            tf.config.threading,
            f"set_{kind}_op_parallelism_threads",
            lambda number, kind=kind: found.update({kind: number}),
        )
    use_one_thread_per_task()
    assert found == {"intra": 1, "inter": os.cpu_count()}


def test_a_late_call_raises_with_advice():
    tf.add(1, 1)
    with pytest.raises(RuntimeError, match="right after the imports"):
        use_one_thread_per_task()
