"""Compares several algorithms on sinusoids in Python, with differences task by task.

Each algorithm trains for the same number of meta-steps and is tested on the same new
tasks. The differences are taken task by task, so that the difficulty of a task cancels.
`maml-keras compare` also compares baselines, and algorithms with equal training time.

    python examples/compare_algorithms.py    # a minute
"""

import argparse

import keras

import maml_keras as mk
from maml_keras.evaluation.result import half_width


def main(arguments: list[str] | None = None) -> dict[str, mk.Evaluation]:
    """Trains and tests each algorithm; returns the evaluations by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithms", default="maml,fomaml,anil,meta_sgd")
    parser.add_argument("--meta-steps", type=int, default=3000)
    parser.add_argument("--tasks", type=int, default=600, help="new tasks to test on")
    options = parser.parse_args(arguments)
    tasks = mk.data.Sinusoid(shots=10, queries=10)
    results = {}
    for name in options.algorithms.split(","):
        keras.utils.set_random_seed(0)  # All algorithms start with the same weights.
        maml = mk.recipes.get(name)(mk.models.mlp(), "mse", 0.01)
        maml.compile("adam")
        episodes = mk.data.episodes(tasks, batch_size=25, seed=1)
        maml.fit(episodes, steps_per_epoch=options.meta_steps)
        new = mk.data.episodes(tasks, batch_size=100, seed=2)
        results[name] = mk.evaluate_episodes(
            maml, new, steps=5, num_tasks=options.tasks
        )

    first, reference = next(iter(results.items()))
    print(f"query loss on {options.tasks} new sinusoids, mean ± 95% CI")
    print(f"| algorithm | step 0 | step 1 | step 5 | step 5 - {first} |")
    print("|---|---|---|---|---|")
    for name, result in results.items():
        cells = [
            f"{result.curve[k]:.3f} ± {result.half_widths[k]:.3f}" for k in (0, 1, 5)
        ]
        lost = (result.diverged_tasks | reference.diverged_tasks)[:, -1]
        gap = (result.per_episode - reference.per_episode)[~lost, -1]
        paired = f"{gap.mean():+.3f} ± {half_width(gap):.3f}" if name != first else ""
        print(f"| {' | '.join([name, *cells, paired])} |")
    return results


if __name__ == "__main__":
    main()
