"""A process that estimates or measures the memory of one workload.

    python tests/memory_worker.py sinusoid estimate
    python tests/memory_worker.py sinusoid measure

Both print bytes: the estimate, or the growth of the process through four meta-steps.
"""

import resource
import sys

import keras
import numpy as np
import psutil
import tensorflow as tf

import maml_keras as mk

layers = keras.layers


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def attention():
    x = keras.Input([32], dtype="int32")
    h = layers.Embedding(1000, 64)(x)
    for _ in range(2):
        seen = layers.MultiHeadAttention(num_heads=4, key_dim=16)(h, h)
        h = layers.LayerNormalization()(h + seen)
        wide = layers.Dense(64)(layers.Dense(256, activation="gelu")(h))
        h = layers.LayerNormalization()(h + wide)
    return keras.Model(x, layers.Dense(5)(layers.GlobalAveragePooling1D()(h)))


def lstm():
    return keras.Sequential([keras.Input([20, 8]), layers.LSTM(64), layers.Dense(5)])


def batch(tasks, support, queries, shape, *, words=None, classes=5):
    """Random tasks: of classes in turn, or with `classes=0` of numbers."""
    generator = np.random.default_rng(0)

    def x(count):
        size = [tasks, count, *shape]
        if words:
            return generator.integers(0, words, size).astype("int32")
        return generator.random(size, dtype="float32")

    def y(count):
        if classes:
            return np.tile(np.arange(count, dtype="int32") % classes, [tasks, 1])
        return generator.random([tasks, count, 1], dtype="float32")

    task = {"support_x": x(support), "support_y": y(support), "query_x": x(queries)}
    return task, y(queries)


def conv(steps, rate):
    return mk.InnerLoop(cross_entropy(), mk.SGD(rate), steps=steps)


WORKLOADS = {
    "sinusoid": lambda: (
        mk.models.mlp(),
        mk.InnerLoop("mse", mk.SGD(0.01)),
        batch(25, 10, 10, [1], classes=0),
    ),
    "omniglot": lambda: (
        mk.models.conv4(),
        conv(1, 0.4),
        batch(32, 5, 75, [28, 28, 1]),
    ),
    "omniglot_5_steps": lambda: (
        mk.models.conv4(),
        conv(5, 0.1),
        batch(32, 5, 75, [28, 28, 1]),
    ),
    "images_of_84": lambda: (
        mk.models.conv4(shape=(84, 84, 3), filters=32, max_pool=True),
        conv(5, 0.01),
        batch(4, 25, 75, [84, 84, 3]),
    ),
    "attention": lambda: (
        attention(),
        conv(3, 0.1),
        batch(16, 25, 25, [32], words=1000),
    ),
    "lstm": lambda: (lstm(), conv(3, 0.05), batch(25, 10, 10, [20, 8])),
}


def main(name, question):
    keras.utils.set_random_seed(0)
    model, inner, tasks = WORKLOADS[name]()
    maml = mk.MAML(model, inner)
    maml.compile(keras.optimizers.Adam(1e-3))
    if question == "estimate":
        print(maml.memory_estimate(tasks).total_bytes)  # noqa: T201
        return
    data = tf.data.Dataset.from_tensors(tf.nest.map_structure(tf.constant, tasks))
    # Each batch has memory of its own, as in a pipeline that draws tasks.
    data = data.repeat().map(lambda x, y: ({k: v + 0 for k, v in x.items()}, y))
    before = psutil.Process().memory_info().rss
    maml.fit(data.prefetch(2), steps_per_epoch=4, verbose=0)
    # Linux counts in KiB.
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak - before)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
