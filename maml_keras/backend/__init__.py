"""What TensorFlow and Keras do otherwise while a learner's pass runs: exact and
faster layers, graph settings, progress bars."""

from maml_keras.backend.threads import use_one_thread_per_task

__all__ = [
    "use_one_thread_per_task",
]
