"""In the scope, TensorFlow logs no announcements, but still logs warnings."""

import logging
import threading

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


def test_the_log_is_as_before_after_an_error(level):
    before = list(tf.get_logger().filters)

    def fail():
        raise KeyError

    with pytest.raises(KeyError), without_announcements():
        fail()
    assert (tf.get_logger().level, tf.get_logger().filters) == (level, before)


@pytest.mark.parametrize("level", [logging.INFO], indirect=True)
def test_scopes_of_other_threads_end_at_any_time(level, caplog):
    # The other scope opens inside of this one and closes after it.
    opened, close = threading.Event(), threading.Event()

    def other():
        with without_announcements():
            opened.set()
            close.wait(10)

    thread = threading.Thread(target=other)
    with without_announcements():
        thread.start()
        opened.wait(10)
    close.set()
    thread.join()
    tf.get_logger().info("an announcement")
    assert "an announcement" in caplog.text


@pytest.mark.parametrize("level", [logging.INFO], indirect=True)
def test_a_save_logs_no_announcement(level, tmp_path, caplog):
    tf.saved_model.save(tf.Module(), str(tmp_path / "announced"))
    assert "announced" in caplog.text
    with without_announcements():
        tf.saved_model.save(tf.Module(), str(tmp_path / "silent"))
        tf.get_logger().warning("a warning")
    assert "silent" not in caplog.text
    assert "a warning" in caplog.text
