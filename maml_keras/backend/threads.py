"""How many threads TensorFlow should use for many small tasks."""

from __future__ import annotations

import os

import tensorflow as tf


def use_one_thread_per_task() -> None:
    """Lets each task keep a core to itself; to be called before anything runs.

    The same as `tf.config.threading.set_intra_op_parallelism_threads(1)` and
    `set_inter_op_parallelism_threads(cores)`. TensorFlow's default splits every
    operation over all cores, and the parallel task map runs as many tasks as there
    are cores: the two get in each other's way. One operation, one core is faster for
    the papers' convolutional networks, and some percent slower for tiny ones. It holds
    for the whole process, so a library must not do it by itself; the command line,
    which owns its process, does.

    Raises:
        RuntimeError: if TensorFlow has run something already.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(os.cpu_count() or 1)
    except RuntimeError as error:
        raise RuntimeError(
            "`use_one_thread_per_task` must be called before TensorFlow runs its first "
            "operation. Call it right after the imports, before any model, dataset or "
            "`keras.utils.set_random_seed`."
        ) from error
