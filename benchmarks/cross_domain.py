"""Tests a network that learned to learn glyphs on other kinds of characters.

    maml-keras train glyphs --out runs/glyphs
    python -m benchmarks.cross_domain runs/glyphs   # prints a table and writes
                                                    # results/cross_domain.json

The tests are 600 5-way 1-shot tasks, with 15 queries a class, of three kinds: scripts
that are held out of glyphs, the two alphabets that the preset `omniglot_small` holds
out of Omniglot's splits small1 and small2, and scikit-learn's digits, 8x8 pixels
resized to 28x28. Beside the run stand its network without training, the same network
trained as an ordinary classifier of all training glyphs for as many steps, and nearest
class means on that classifier's features. The first two choose inner rate and steps
on validation glyphs. Nothing is chosen on the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
from typing import Any

import maml_keras as mk
from maml_keras.data.tfds import resize
from maml_keras.experiments import baselines, fixed_tasks, registry, runs

RESULTS = pathlib.Path(__file__).parent / "results" / "cross_domain.json"
BASELINES = ("pretrained", "prototypes", "random")


def main() -> None:
    """Evaluates the run and the baselines on every kind of tasks; prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="folder of a run of `glyphs`")
    parser.add_argument("--tasks", type=int, default=600)
    parser.add_argument(
        "--networks",
        default=",".join(("trained", *BASELINES)),
        help="which to measure; the file keeps earlier ones of the same training",
    )
    parser.add_argument("--data-dir", default=os.environ.get("TFDS_DATA_DIR"))
    options = parser.parse_args()
    maml, preset, config = runs.load(options.run)
    kinds = {
        "glyphs, unseen scripts": preset.families().test,
        "Omniglot, unseen alphabets": registry.get("omniglot_small")
        .families(data_dir=options.data_dir)
        .test,
        "digits": tasks_of_digits(),
    }
    trained = {"seed": config["seed"], "iterations": int(maml.meta_steps)}
    found: dict[str, dict[str, Any]] = {}
    if RESULTS.exists():
        earlier = json.loads(RESULTS.read_text("utf-8"))
        if all(earlier[key] == value for key, value in trained.items()):
            found = earlier["found"]
    for chosen in options.networks.split(","):
        name = config["algorithm"] if chosen == "trained" else chosen
        network = maml
        if name in BASELINES:
            network, _ = baselines.BASELINES[name](preset, verbose=0, **trained)
        steps = preset.evaluation_steps if network is maml else network.inner.steps
        for kind, family in kinds.items():
            episodes = mk.data.episodes(
                family,
                batch_size=20,
                seed=fixed_tasks.TEST_SEED,
                num_episodes=options.tasks,
            )
            result = mk.evaluate_episodes(network, episodes, steps=steps, verbose=0)
            found.setdefault(name, {})[kind] = {
                "accuracy": float(result.mean),
                "half_width": float(result.half_width),
                "steps": steps,
                "tasks": options.tasks,
            }
        record = {**trained, "found": found}
        # Written after each network, because the next may take minutes.
        RESULTS.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(table(found, list(kinds)))  # noqa: T201


def tasks_of_digits() -> mk.data.NWayKShot:
    """5-way 1-shot tasks of scikit-learn's ten digits, some 180 images each."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Ink is 0 to 16.
    images = (digits.images[..., None] * (255 / 16)).round().astype("uint8")
    pool = mk.data.from_arrays(
        resize(images, (28, 28), method="bilinear").numpy(), digits.target
    )
    return mk.data.NWayKShot(pool, ways=5, shots=1, queries=15)


def table(found: dict[str, dict[str, Any]], kinds: list[str]) -> str:
    """A row for each network, a column for each kind of tasks."""
    lines = ["| network | " + " | ".join(kinds) + " |", "|---" * (1 + len(kinds)) + "|"]
    for name, cells in found.items():
        percent = (
            (100 * cells[kind]["accuracy"], 100 * cells[kind]["half_width"])
            for kind in kinds
        )
        shown = (f"{mean:.1f} ± {half:.1f}%" for mean, half in percent)
        lines.append(f"| `{name}` | " + " | ".join(shown) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
