"""Measures how few weights a frozen pretrained network needs to meta-learn.

    python -m benchmarks.adapters       # ten minutes; writes results/adapters.json
                                        # and prints the table of docs/howto/adapters.md

The data are the splits small1 and small2 of Omniglot. First a network is pretrained as
an ordinary classifier of the training alphabets' characters. Then it is meta-learned on
5-way 1-shot tasks of the same alphabets in three ways: all weights (MAML), the head
alone on a frozen body (ANIL), and low-rank adapters with the head on a frozen body
(LoRA). Each is tested on 600 tasks of the two held-out alphabets. The network and each
way's inner rate are chosen on the validation alphabet. Every training runs in a
separate process, whose peak memory is measured. Memory is counted beyond that of a
process which only loads network and data.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).parent
WAYS, STEPS, RANK, TASKS, SEED = 5, 3, 4, 8, 0
RATES = [0.003, 0.01, 0.03, 0.1, 0.3]
NETWORKS = ["dense", "mixer"]
TITLES = {
    "nothing": "nothing: load network and data",
    "maml": "MAML, all weights",
    "anil": "ANIL, the head on a frozen body",
    "lora": f"LoRA, rank {RANK}, and the head on a frozen body",
}


def main() -> None:
    """Pretrains, chooses on validation tasks, trains, tests, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=800, help="meta-steps")
    parser.add_argument("--epochs", type=int, default=15, help="pretraining epochs")
    parser.add_argument("--data-dir", default=os.environ.get("TFDS_DATA_DIR"))
    options = parser.parse_args()
    given = {"data_dir": options.data_dir}
    with tempfile.TemporaryDirectory() as folder:
        given["folder"] = folder
        pretrained = [
            _apart("pretrain", network=network, epochs=options.epochs, **given)
            for network in NETWORKS
        ]
        best = max(pretrained, key=lambda p: p["prototypes_validation"][0])
        given["network"] = best["network"]
        rows = [_apart("meta_train", way="nothing", iterations=0, rate=0.1, **given)]
        for way in ("maml", "anil", "lora"):
            given["way"] = way
            few, many = options.iterations // 4, options.iterations
            tried = [
                _apart("meta_train", rate=r, iterations=few, on="validation", **given)
                for r in RATES
            ]
            rate = max(tried, key=_last_accuracy)["rate"]
            rows.append(
                _apart("meta_train", rate=rate, iterations=many, on="test", **given)
            )
            rows[-1]["validation"] = {t["rate"]: _last_accuracy(t) for t in tried}
    result = {"command": " ".join(["python -m benchmarks.adapters", *sys.argv[1:]])}
    result |= {"seed": SEED, "chosen": best["network"]}
    result |= {"pretrained": pretrained, "rows": rows}
    path = ROOT / "results" / "adapters.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    _say(table(rows))


def _apart(stage: str, **options: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.adapters", "--stage"]
    done = subprocess.run(
        [*command, json.dumps([stage, options])],
        cwd=ROOT.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    line = done.stdout.splitlines()[-1]
    _say(line)
    found: dict[str, Any] = json.loads(line)
    return found


def _last_accuracy(row: dict[str, Any]) -> float:
    # JSON has no NaN, so the accuracy is None if every task diverged.
    return -1.0 if row["accuracy"][-1] is None else float(row["accuracy"][-1])


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table with a line for each way."""
    base = rows[0]["peak_mb"]
    lines = [
        "| | meta-trained | adapted | Adam's state | memory beyond loading | "
        "before | after | diverged |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {TITLES[r['way']]} | {r['meta_trained']:,} | {r['adapted']:,} "
        f"| {r['optimizer_kb']:,.0f} KB | {r['peak_mb'] - base:,.0f} MB "
        f"| {r['accuracy'][0]:.1%} ± {r['half_width'][0]:.1%} "
        f"| {r['accuracy'][-1]:.1%} ± {r['half_width'][-1]:.1%} "
        f"| {r['diverged'][-1]} |"
        for r in rows[1:]
    ]
    return "\n".join(lines)


# In a separate process ---------------------------------------------------------------


def _network(name: str, outputs: int) -> Any:
    """A network with dense layers only, because adapters go beside dense layers."""
    import keras
    from keras import layers

    if name == "dense":
        body = [layers.Flatten()]
        body += [layers.Dense(512, activation="relu") for _ in range(3)]
        return keras.Sequential(
            [keras.Input([28, 28, 1]), *body, layers.Dense(outputs, name="head")]
        )
    # MLP-Mixer: 16 patches of 7x7, with dense layers along patches, then channels.
    image = keras.Input([28, 28, 1])
    x = layers.Reshape([4, 7, 4, 7])(image)
    x = layers.Reshape([16, 49])(layers.Permute([1, 3, 2, 4])(x))
    x = layers.Dense(128)(x)
    for _ in range(2):
        y = layers.Permute([2, 1])(layers.LayerNormalization()(x))
        y = layers.Dense(16)(layers.Dense(64, activation="gelu")(y))
        x = layers.Add()([x, layers.Permute([2, 1])(y)])
        y = layers.Dense(256, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(128)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(image, layers.Dense(outputs, name="head")(x))


def pretrain(
    *, network: str, epochs: int, folder: str, data_dir: str | None
) -> dict[str, Any]:
    """Trains a classifier of the training alphabets' characters and their rotations."""
    import keras
    import numpy as np

    pool = _families(data_dir).train.pool
    labels = np.repeat(np.arange(pool.num_classes), pool.counts)
    # As usual with Omniglot, a rotated character is a class of its own.
    images = [np.rot90(pool.examples, k, axes=(1, 2)) for k in range(4)]
    x = np.concatenate(images).astype("float32") / 255.0
    y = np.concatenate([labels + k * pool.num_classes for k in range(4)])
    keras.utils.set_random_seed(SEED)
    model = _network(network, 4 * pool.num_classes)
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(x, y, batch_size=128, epochs=epochs, verbose=0).history
    path = pathlib.Path(folder) / f"{network}.weights.h5"
    model.save_weights(path)
    return {
        "network": network,
        "parameters": model.count_params(),
        "training_accuracy": history["accuracy"][-1],
        **{
            f"prototypes_{on}": _prototypes(
                _headed(network, folder, data_dir), _families(data_dir), on
            )
            for on in ("validation", "test")
        },
    }


def _prototypes(model: Any, families: Any, on: str) -> tuple[float, float]:
    """Accuracy of the nearest prototype in the pretrained network's features."""
    import keras

    import maml_keras as mk
    from maml_keras.experiments import fixed_tasks

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = mk.recipes.proto_maml(model, loss, steps=0, batch_norm="frozen")
    result = fixed_tasks.evaluate_on(maml, families, on=on, steps=0, verbose=0)
    return result.mean, result.half_width


def meta_train(
    *,
    way: str,
    network: str,
    rate: float,
    iterations: int,
    folder: str,
    data_dir: str | None,
    on: str = "",
) -> dict[str, Any]:
    """Meta-learns from the pretrained weights, and tests on held-out alphabets."""
    import keras

    import maml_keras as mk
    from maml_keras.experiments import fixed_tasks

    mk.use_one_thread_per_task()
    families = _families(data_dir)
    keras.utils.set_random_seed(SEED)
    model = _headed(network, folder, data_dir)
    if way == "lora":
        model = mk.with_low_rank_adapters(
            model, RANK, layers=lambda layer: layer.name != "head"
        )
    elif way == "anil":
        for layer in model.layers[:-1]:
            layer.trainable = False
    model.layers[-1].trainable = True
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    recipe = mk.recipes.anil if way == "anil" else mk.recipes.maml
    maml = recipe(model, loss, rate, steps=STEPS, seed=SEED)
    adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(1e-3, max(1, iterations))
    )
    maml.compile(optimizer)
    episodes = mk.data.episodes(families.train, batch_size=TASKS, seed=1_000 + SEED)
    begun = time.perf_counter()
    if iterations:
        maml.fit(episodes, steps_per_epoch=iterations, verbose=0)
    else:
        next(iter(episodes))
    row = {
        "way": way,
        "rate": rate,
        "iterations": iterations,
        "seconds": time.perf_counter() - begun,
        # Measured before the evaluation, which needs memory, too.
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "meta_trained": _size(maml.trainable_variables),
        "adapted": _size(adapted),
        "optimizer_kb": _size(optimizer.variables) * 4 / 1024,
        "task_map": str(maml.task_map),
    }
    if on:
        count = 600 if on == "test" else 200
        result = fixed_tasks.evaluate_on(
            maml, families, on=on, steps=STEPS, num_tasks=count, verbose=0
        )
        figures = result.summary()
        row |= {"on": on, "tasks": count, "queries": result.queries}
        row |= {"accuracy": figures["mean"], "half_width": figures["half_width_95"]}
        row |= {"diverged": figures["diverged_tasks"]}
    return row


def _size(variables: Any) -> int:
    import numpy as np

    return int(sum(np.prod(v.shape) for v in variables))


def _families(data_dir: str | None) -> Any:
    from maml_keras.experiments import registry

    return registry.get("omniglot_small").families(data_dir=data_dir)


def _headed(name: str, folder: str, data_dir: str | None) -> Any:
    """The pretrained body under a fresh head."""
    pool = _families(data_dir).train.pool
    theirs = _network(name, 4 * pool.num_classes)
    theirs.load_weights(pathlib.Path(folder) / f"{name}.weights.h5")
    ours = _network(name, WAYS)
    for mine, other in zip(ours.layers[:-1], theirs.layers[:-1]):
        mine.set_weights(other.get_weights())
    return ours


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stage"]:
        stage, stage_options = json.loads(sys.argv[2])
        stages = {"pretrain": pretrain, "meta_train": meta_train}
        _say(json.dumps(stages[stage](**stage_options)))
    else:
        main()
