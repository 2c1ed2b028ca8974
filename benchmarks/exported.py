"""What an export reaches on new tasks, in a process with TensorFlow alone.

    python -m benchmarks.exported tasks omniglot_5w1s --data-dir FOLDER --out tasks.npz
    python -m benchmarks.exported digits --out digits.npz
    python benchmarks/exported.py measure saved_models/omniglot tasks.npz --alone

`tasks` writes the test tasks of a preset, the same as those of `maml-keras evaluate`.
`digits` writes 5-way tasks of scikit-learn's digits, 8x8 pixels made 28x28, which no
network here has seen.
`measure` adapts the export to each of them and prints the accuracy with its 95%
half-width over tasks. With `--alone` each query has a call of its own. With
`--source NAME` the figures go into the export's card, as tasks of another source.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

import numpy as np


def write_tasks(options: argparse.Namespace) -> None:
    """Writes tasks of the preset's test characters, images as bytes."""
    from maml_keras.experiments import registry

    family = registry.get(options.preset).families(data_dir=options.data_dir).test
    _write(
        family.resized(
            shots=options.shots or family.shots,
            queries=options.queries or family.queries,
        ),
        options,
    )


def write_digits(options: argparse.Namespace) -> None:
    """Writes tasks of handwritten digits, images as bytes."""
    from sklearn.datasets import load_digits

    from maml_keras import data
    from maml_keras.data.tfds import resize

    images, labels = load_digits(return_X_y=True)
    # The digits have 16 levels of ink on paper 0.
    ink = np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
    pool = data.from_arrays(resize(ink, (28, 28), method="lanczos3"), labels)
    _write(
        data.NWayKShot(
            pool, ways=5, shots=options.shots or 1, queries=options.queries or 15
        ),
        options,
    )


def _write(family: Any, options: argparse.Namespace) -> None:
    from maml_keras import data
    from maml_keras.experiments import fixed_tasks

    episodes = data.episodes(
        family, batch_size=100, seed=fixed_tasks.TEST_SEED, num_episodes=options.tasks
    )
    columns: dict[str, list[np.ndarray]] = {}
    for task, query_y in episodes:
        for name, array in {**task, "query_y": query_y}.items():
            value = np.asarray(array)
            image = name.endswith("_x")
            value = np.round(value * 255).astype("uint8") if image else value
            columns.setdefault(name, []).append(value)
    arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
    np.savez_compressed(options.out, **arrays)


def measure(options: argparse.Namespace) -> None:
    """Prints the accuracy before and after adaptation."""
    import tensorflow as tf

    saved = tf.saved_model.load(options.export)
    with np.load(options.file) as file:
        tasks = [
            file[name] for name in ("support_x", "support_y", "query_x", "query_y")
        ]
    before, after = [], []
    for sx, sy, qx, qy in zip(*tasks):
        sx, qx = sx / np.float32(255), qx / np.float32(255)
        weights = saved.adapt(sx, sy, steps=options.steps)
        groups = np.split(qx, len(qx)) if options.alone else [qx]
        logits = np.concatenate(
            [saved.predict_with(weights, x, steps=options.steps) for x in groups]
        )
        after.append(np.mean(logits.argmax(-1) == qy.ravel()))
        before.append(np.mean(np.argmax(saved.serve(qx), -1) == qy.ravel()))
    assert "maml_keras" not in sys.modules
    how = "alone" if options.alone else "together"
    found = {
        "metric": "accuracy",
        "tasks": len(after),
        "support_per_task": tasks[1].shape[1],
        "queries_per_task": tasks[3].shape[1],
        "queries": how,
        "steps": [0, options.steps],
        "mean": [float(np.mean(rates)) for rates in (before, after)],
        "half_width_95": [
            float(1.96 * np.std(rates, ddof=1) / np.sqrt(len(rates)))
            for rates in (before, after)
        ],
    }
    for steps, mean, half in zip(found["steps"], found["mean"], found["half_width_95"]):
        sys.stdout.write(
            f"{steps} steps: {mean:.2%} ± {half:.2%} over {len(after)} tasks, "
            f"{tasks[1].shape[1]} support examples, {tasks[3].shape[1]} queries {how}\n"
        )
    if options.source:
        file = pathlib.Path(options.export) / "card.json"
        card = json.loads(file.read_text("utf-8"))
        card.setdefault("transfer", {})[options.source] = found
        file.write_text(json.dumps(card, indent=2) + "\n", "utf-8")


def main() -> None:
    """Runs one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    of_preset = commands.add_parser("tasks")
    of_preset.set_defaults(run=write_tasks)
    of_preset.add_argument("preset")
    of_preset.add_argument("--data-dir")
    of_digits = commands.add_parser("digits")
    of_digits.set_defaults(run=write_digits)
    for command in (of_preset, of_digits):
        command.add_argument("--shots", type=int)
        command.add_argument("--queries", type=int)
        command.add_argument("--tasks", type=int, default=600)
        command.add_argument("--out", required=True)
    read = commands.add_parser("measure")
    read.set_defaults(run=measure)
    read.add_argument("export")
    read.add_argument("file")
    read.add_argument("--steps", type=int, default=3)
    read.add_argument("--alone", action="store_true")
    read.add_argument("--source", help="name of the tasks, for the export's card")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
