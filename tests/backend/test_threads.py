"""Thread settings for tasks side by side."""

import os

import pytest
import tensorflow as tf

from maml_keras import use_one_thread_per_task


def test_each_operation_has_a_core_to_itself(monkeypatch):
    found = {}
    for kind in ("intra", "inter"):
        monkeypatch.setattr(
            tf.config.threading,
            f"set_{kind}_op_parallelism_threads",
            lambda number, kind=kind: found.update({kind: number}),
        )
    use_one_thread_per_task()
    assert found == {"intra": 1, "inter": os.cpu_count()}


def test_too_late_is_said_with_what_to_do():
    tf.add(1, 1)
    with pytest.raises(RuntimeError, match="right after the imports"):
        use_one_thread_per_task()
