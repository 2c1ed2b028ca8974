"""In the scope, TensorFlow logs no announcements, but still logs warnings."""

import logging

import pytest
import tensorflow as tf

from maml_keras.backend.tensorflow_log import without_announcements


@pytest.fixture(params=[logging.INFO, logging.ERROR])
def level(request):
    """The level of TensorFlow's log; the first is the level in a notebook."""
    before = tf.get_logger().level
    tf.get_logger().setLevel(request.param)
    yield request.param
    tf.get_logger().setLevel(before)


def test_the_level_is_restored_after_an_error(level):
    def fail():
        assert tf.get_logger().level == max(level, logging.WARNING)
        raise KeyError

    with pytest.raises(KeyError), without_announcements():
        fail()
    assert tf.get_logger().level == level


@pytest.mark.parametrize("level", [logging.INFO], indirect=True)
def test_a_save_logs_no_announcement(level, tmp_path, caplog):
    tf.saved_model.save(tf.Module(), str(tmp_path / "announced"))
    assert "announced" in caplog.text
    with without_announcements():
        tf.saved_model.save(tf.Module(), str(tmp_path / "silent"))
        tf.get_logger().warning("a warning")
    assert "silent" not in caplog.text
    assert "a warning" in caplog.text
