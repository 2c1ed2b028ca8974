"""TensorFlow announces nothing in the scope, and warns as before."""

import logging

import pytest
import tensorflow as tf

from maml_keras.backend.tensorflow_log import without_announcements


@pytest.fixture(params=[logging.INFO, logging.ERROR])
def level(request):
    """The level of TensorFlow's log, the first as in a notebook."""
    before = tf.get_logger().level
    tf.get_logger().setLevel(request.param)
    yield request.param
    tf.get_logger().setLevel(before)


def test_the_level_comes_back_after_an_error_too(level):
    def fail():
        assert tf.get_logger().level == max(level, logging.WARNING)
        raise KeyError

    with pytest.raises(KeyError), without_announcements():
        fail()
    assert tf.get_logger().level == level


@pytest.mark.parametrize("level", [logging.INFO], indirect=True)
def test_a_save_announces_nothing(level, tmp_path, caplog):
    tf.saved_model.save(tf.Module(), str(tmp_path / "announced"))
    assert "announced" in caplog.text
    with without_announcements():
        tf.saved_model.save(tf.Module(), str(tmp_path / "silent"))
        tf.get_logger().warning("a warning")
    assert "silent" not in caplog.text
    assert "a warning" in caplog.text
