"""Measures batch-norm policies on new Omniglot tasks, queries together and alone.

    python -m benchmarks.batch_norm transductive --evaluate transductive inductive

The table in `docs/batch_norm.md` shows the rows. A run takes some five minutes.
"""

from __future__ import annotations

import argparse

import keras

import maml_keras as mk
from maml_keras import data
from maml_keras.experiments import fixed_tasks, registry

SEED = 0


def trained(policy: str, meta_steps: int) -> mk.MAML:
    """`omniglot_small` under a policy, in five epochs."""
    preset = registry.get("omniglot_small")
    keras.utils.set_random_seed(SEED)
    plain = preset.build("maml", meta_steps)
    maml = mk.MAML(plain.model, plain.inner, batch_norm=policy, seed=SEED)
    maml.compile(preset.optimizer(meta_steps), metrics=["accuracy"])
    episodes = preset.episodes("maml", preset.families(), SEED)
    maml.fit(episodes, steps_per_epoch=meta_steps // 5, epochs=5, verbose=2)
    return maml


def row(maml: mk.MAML, policy: str, *, on: str, tasks: int) -> str:
    """Accuracy after three steps under a policy, queries together and alone."""
    other = mk.MAML(maml.model, maml.inner, batch_norm=policy)
    found = []
    for queries in ("together", "alone"):
        family = getattr(registry.get("omniglot_small").families(), on)
        result = mk.evaluate_episodes(
            other,
            data.episodes(
                family,
                batch_size=20,
                seed=fixed_tasks.SEEDS["test"],
                num_episodes=tasks,
            ),
            steps=3,
            num_tasks=tasks,
            queries=queries,
            verbose=0,
        )
        diverged = result.diverged[-1]
        lost = f", {diverged} of {tasks} tasks diverged" if diverged else ""
        found.append(f"{result.mean:.1%} ± {result.half_width:.1%}{lost}")
    return " | ".join([on, maml.batch_norm.name, policy, *found])


def main() -> None:
    """Trains once, and prints a row for each policy of evaluation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy")
    parser.add_argument("--evaluate", nargs="+", default=None)
    parser.add_argument("--meta-steps", type=int, default=1_000)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--dtype", default="float32", help="Keras's dtype policy")
    options = parser.parse_args()
    keras.config.set_dtype_policy(options.dtype)
    maml = trained(options.policy, options.meta_steps)
    # ruff: noqa: T201
    print("tasks | trained under | evaluated under | together | alone")
    for on in ("validation", "test"):
        for policy in options.evaluate or [options.policy]:
            print(row(maml, policy, on=on, tasks=options.tasks), flush=True)


if __name__ == "__main__":
    main()
