"""Trains small cases on one device or on several, for `test_replicas.py`.

`python replica_cases.py FOLDER REPLICAS FLOATS CASE...` writes `FOLDER/CASE.npz`.
Logical devices must be set before TensorFlow starts, so each number of replicas has a
process of its own. With `TF_CONFIG` the processes of a cluster train together.
"""

import contextlib
import os
import pathlib
import sys
import traceback

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy

import maml_keras as mk

L = keras.layers
STEPS = 200
BATCH = 8
SIN = mk.data.Sinusoid(shots=5, queries=5)


def strategy_of(replicas):
    if replicas > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * replicas
        )
    if "TF_CONFIG" in os.environ:
        # TensorFlow gives a worker without GPUs one device, however many there are.
        extended = collective_all_reduce_strategy.CollectiveAllReduceExtended
        extended._initialize_local_devices = lambda _, resolver, worker: (
            tuple(f"{worker}/device:CPU:{i}" for i in range(replicas)),
            "CPU",
        )
        return tf.distribute.MultiWorkerMirroredStrategy()
    if replicas == 1:
        return None
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def dense():
    return keras.Sequential(
        [keras.Input([1]), L.Dense(20, "tanh"), L.Dense(20, "tanh"), L.Dense(1)]
    )


def conv(dropout=0.0):
    return keras.Sequential(
        [
            keras.Input([8, 8, 1]),
            L.Conv2D(6, 3, strides=2),
            L.BatchNormalization(momentum=0.9),
            L.ReLU(),
            L.Dropout(dropout),
            L.Flatten(),
            L.Dense(3),
        ]
    )


def shots():
    random = np.random.default_rng(0)
    classes = random.normal(size=[12, 1, 8, 8, 1])
    images = classes + 0.7 * random.normal(size=[12, 20, 8, 8, 1])
    pool = mk.data.from_arrays(
        images.reshape(240, 8, 8, 1).astype("float32"), np.repeat(np.arange(12), 20)
    )
    return mk.data.NWayKShot(pool, ways=3, shots=1, queries=3)


def few_shot(**options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return mk.MAML(
        conv(options.pop("dropout", 0.0)),
        mk.InnerLoop(loss, mk.SGD(0.1), steps=2),
        seed=5,
        **options,
    )


def sine(**options):
    return mk.MAML(dense(), mk.InnerLoop("mse", mk.SGD(0.01)), **options)


def logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def adam(**options):
    return keras.optimizers.Adam(1e-3, **options)


class WithInfinities(mk.data.TaskFamily):
    """Sinusoids, of which one in forty has infinite targets."""

    def sample(self, seed):
        task, query_y = SIN.sample(seed)
        draw = tf.random.stateless_uniform([], tf.random.fold_in(seed, 9))
        bad = tf.where(draw < 1 / 40, np.inf, 0.0)
        return task, query_y + bad


# Each is `() -> (model, optimizer, family)`.
CASES = {
    "sinusoid": lambda: (sine(), adam(), SIN),
    "conv": lambda: (few_shot(dropout=0.3), adam(), shots()),
    "per_step": lambda: (
        mk.recipes.maml_plus_plus(
            conv(), logits(), 0.1, steps=2, steps_per_epoch=5, multi_step_epochs=10
        ),
        adam(),
        shots(),
    ),
    "meta_sgd": lambda: (mk.recipes.meta_sgd(dense(), "mse", 0.01), adam(), SIN),
    "reptile": lambda: (
        mk.MAML(
            dense(),
            mk.InnerLoop("mse", mk.SGD(0.02), steps=2),
            meta_gradient=mk.Reptile(),
        ),
        keras.optimizers.SGD(0.5),
        SIN,
    ),
    "phases": lambda: (
        sine(meta_gradient=mk.Phases([mk.FirstOrder(), mk.Backprop()], until=[100])),
        adam(),
        SIN,
    ),
    "proto_maml": lambda: (
        mk.recipes.proto_maml(conv(), logits(), 0.1, steps=2),
        adam(),
        shots(),
    ),
    "ridge": lambda: (mk.recipes.ridge(dense(), "mse"), adam(), SIN),
    "mixed": lambda: (few_shot(), adam(), shots()),
    "clip": lambda: (
        sine(),
        keras.optimizers.AdamW(
            1e-3, weight_decay=0.01, clipnorm=0.05, use_ema=True, ema_momentum=0.9
        ),
        SIN,
    ),
    "global_clip": lambda: (
        sine(),
        keras.optimizers.SGD(1e-2, global_clipnorm=0.05),
        SIN,
    ),
    "uneven": lambda: (few_shot(dropout=0.3), adam(), shots()),
    "weights": lambda: (sine(), adam(), SIN),
    "skip": lambda: (sine(bad_tasks="skip"), adam(), WithInfinities()),
    "xla": lambda: (sine(), adam(), SIN),
}


def run(case, strategy, folder):
    keras.backend.clear_session()  # Names of variables are numbered anew.
    keras.utils.set_random_seed(0)
    policy = "mixed_float16" if case == "mixed" else keras.config.floatx()
    keras.config.set_dtype_policy(policy)
    # After more steps a weight lies between two numbers of half precision by chance,
    # and the order of sums decides which of them is taken.
    steps = {"mixed": 100, "xla": 20}.get(case, STEPS)
    with strategy.scope() if strategy else contextlib.nullcontext():
        maml, optimizer, family = CASES[case]()
        images = len(maml.model.input_shape) == 4
        maml.compile(
            optimizer,
            metrics=["accuracy" if images else "mae"],
            jit_compile=case == "xla",
            steps_per_execution=1,
        )
    data = mk.data.episodes(family, batch_size=BATCH, seed=1)
    validation = mk.data.episodes(family, batch_size=BATCH, seed=3, num_episodes=11)
    fitting = {"steps_per_epoch": steps // 2, "epochs": 2}
    if case in ("uneven", "weights"):
        # The last batch has one task.
        data = mk.data.episodes(family, batch_size=BATCH, seed=1, num_episodes=801)
        fitting = {"epochs": 2}
    if case == "weights":
        data = data.map(lambda t, y: (t, y, tf.abs(y[..., 0])))
    if case == "skip":
        validation = None
    seen = []
    each = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(list(logs.values()))
    )
    history = maml.fit(
        data,
        validation_data=validation,
        audit=False,
        verbose=0,
        callbacks=[each],
        **fitting,
    ).history
    test = mk.data.episodes(
        SIN if case == "skip" else family, batch_size=BATCH, seed=2, num_episodes=11
    )
    found = {f"history {k}": v for k, v in history.items()} | {"logs": seen}
    found |= {
        f"evaluate {k}": v
        for k, v in maml.evaluate(test, verbose=0, return_dict=True).items()
    }
    if case in ("sinusoid", "uneven"):
        found["predict"] = maml.predict(test.map(lambda t, y: t), verbose=0)
        task, query_y = next(iter(test))
        found["train_on_batch"] = maml.train_on_batch(task, query_y)
        found["test_on_batch"] = maml.test_on_batch(task, query_y)
        found["predict_on_batch"] = maml.predict_on_batch(task)
    for kind, variables in (("", maml.variables), ("of ", maml.optimizer.variables)):
        for i, v in enumerate(variables):
            found[f"{kind}{i} {v.path}"] = v.numpy()
            copies = [v.value]
            if strategy:
                copies = strategy.experimental_local_results(v.value)
            for copy in copies[1:]:
                np.testing.assert_array_equal(copy, copies[0], err_msg=v.path)
    if (
        not strategy
        or not strategy.cluster_resolver
        or (strategy.cluster_resolver.task_id in (None, 0))
    ):
        np.savez(folder / f"{case}.npz", **{k: np.asarray(v) for k, v in found.items()})


if __name__ == "__main__":
    folder, replicas, floats, *cases = sys.argv[1:]
    keras.config.set_floatx(floats)
    chosen = strategy_of(int(replicas))
    failed = []
    for name in cases:
        try:
            run(name, chosen, pathlib.Path(folder))
        # The other cases are run all the same.
        except Exception:
            traceback.print_exc()
            failed.append(name)
    if failed:
        sys.exit(f"These cases failed: {', '.join(failed)}.")
