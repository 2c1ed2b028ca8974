"""Changes to TensorFlow and Keras while a learner runs (exact and faster layers, graph
settings), and progress bars."""

from maml_keras.backend.threads import use_one_thread_per_task

__all__ = [
    "use_one_thread_per_task",
]
