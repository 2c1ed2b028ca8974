"""Meta-learning in pictures: the initialisation moves to a point common to all tasks.

All pictures show computed values. The first problem has two weights, so that every
value of the weights is a point in a plane. The pictures show three tasks with their
best weights, the long paths to these from random weights, the meta-learned
initialisation on its way to the common point, and a new task that is learned in a few
steps. The second problem is a network that learns sinusoids.

The script prints how many steps, examples and seconds a new task takes from each start.
It draws `common_point` and `sinusoid`, each as PNG and GIF, `gradient_descent.png`,
`two_loops.png` and, for the printed numbers, `convergence.png`.

    python examples/common_point.py    # a minute
"""

import argparse
import pathlib
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from common_point_parts import convergence, plane, totals, waves
from common_point_parts.drawing import JOINT, META, RANDOM
from common_point_parts.lines import SHOWN, Pieces, line

import maml_keras as mk
from maml_keras.experiments.baselines import train_jointly


class Problem(NamedTuple):
    """A problem to learn, and the criterion for a learned task."""

    name: str
    family: mk.data.TaskFamily  # 20 support examples a task.
    network: Any  # Function that returns a network with random weights.
    inner: mk.InnerLoop
    optimizer: keras.optimizers.Optimizer
    epochs: int
    steps_per_epoch: int
    joint: tuple[int, float]  # Updates and rate of training on all tasks together.
    threshold: float  # A task is learned if its query loss is below this.
    limit: int  # Largest number of inner steps to try.


def lines() -> Problem:
    """Two weights: the slope and the offset of a line."""
    return Problem(
        name="lines",
        family=Pieces(),
        network=line,
        inner=mk.InnerLoop("mse", mk.SGD(0.2), steps=5),
        optimizer=keras.optimizers.SGD(0.25),
        epochs=50,
        steps_per_epoch=8,
        joint=(500, 0.05),
        threshold=0.01,
        limit=1000,
    )


def sinusoids(iterations: int) -> Problem:
    """The sinusoids of the MAML paper, and a network with 1,761 weights."""
    return Problem(
        name="sinusoids",
        family=mk.data.Sinusoid(shots=20, queries=50),
        network=network,
        inner=mk.InnerLoop("mse", mk.SGD(0.01), steps=1),
        optimizer=keras.optimizers.Adam(1e-3),
        epochs=1,
        steps_per_epoch=iterations,
        joint=(iterations, 1e-3),
        threshold=0.1,
        limit=1000,
    )


def network() -> keras.Model:
    """Two layers of 40 units, with Keras's random weights."""
    hidden = [keras.layers.Dense(40, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input([1]), *hidden, keras.layers.Dense(1)])


class Recorder(keras.callbacks.Callback):
    """Keeps the meta-learned weights, at the start and after every epoch."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.weights = [self.model.model.get_weights()]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.weights.append(self.model.model.get_weights())


def train(problem: Problem, seed: int) -> tuple[mk.MAML, keras.Model, list[Any]]:
    """The meta-learned model, the jointly trained one, and the former's weights.

    The weights are those at the start of meta-training and after every epoch.
    """
    keras.utils.set_random_seed(seed)
    maml = mk.MAML(problem.network(), problem.inner)
    maml.compile(problem.optimizer)
    episodes = mk.data.episodes(problem.family, batch_size=25, seed=seed + 1)
    recorder = Recorder()
    maml.fit(
        episodes.map(ten_of_each),
        epochs=problem.epochs,
        steps_per_epoch=problem.steps_per_epoch,
        callbacks=[recorder],
        # A bar for each of many short epochs would tell nothing.
        verbose="auto" if problem.epochs == 1 else 0,
    )
    joint, (updates, rate) = problem.network(), problem.joint
    train_jointly(joint, "mse", episodes, iterations=updates, learning_rate=rate)
    return maml, joint, recorder.weights


def ten_of_each(task: Any, query_y: Any) -> Any:
    """Meta-training sees ten support and ten query examples a task."""
    return {name: values[:, :10] for name, values in task.items()}, query_y[:, :10]


def race(
    problem: Problem, maml: mk.MAML, joint: keras.Model, *, tasks: int, seed: int
) -> dict[str, convergence.Convergence]:
    """The same new tasks from three starts: random weights and both trained models.

    Each task has its own random weights.
    """
    new = mk.data.episodes(problem.family, batch_size=tasks, seed=seed + 2)
    starts = {
        RANDOM: convergence.from_many([problem.network() for _ in range(tasks)]),
        JOINT: convergence.from_one(joint, tasks),
        META: convergence.from_one(maml.model, tasks),
    }
    measure = convergence.racer(maml, threshold=problem.threshold, limit=problem.limit)
    batch = next(iter(new))
    return {name: measure(start, batch) for name, start in starts.items()}


def in_the_plane(
    problem: Problem, maml: mk.MAML, joint: Any, path: Any, results: Any
) -> plane.Scene:
    """Losses, paths and meta-training in the plane of the two weights."""
    walk, (_, losses_of) = convergence.walker(maml), convergence.judge(maml)
    slopes, offsets = np.linspace(-1.6, 9.0, 213), np.linspace(-1.0, 6.5, 151)
    grid = np.meshgrid(slopes, offsets)
    everywhere = [grid[0].reshape(-1, 1, 1), grid[1].reshape(-1, 1)]
    starts = {RANDOM: path[0], JOINT: joint.get_weights(), META: path[-1]}
    tasks = {}
    for number, (name, place) in enumerate(SHOWN.items()):
        task, query_y = problem.family.at(*place, tf.constant([7, number]))
        support = task["support_x"][:10], task["support_y"][:10]
        surface = losses_of(everywhere, *support).reshape(grid[0].shape)
        ways, losses = {}, {}
        for start, weights in starts.items():
            way = walk(weights, task, problem.limit)
            query = losses_of(way, task["query_x"], query_y)
            learned = query < problem.threshold
            end = 1 + int(np.argmax(learned)) if learned.any() else len(query)
            ways[start], losses[start] = points(way)[:end], query[:end]
        inner = [walk(weights, task, problem.inner.steps) for weights in path]
        tasks[name] = plane.Task(
            problem.family.best(*place),
            surface,
            ways,
            losses,
            np.stack([points(way) for way in inner]),
            np.stack([losses_of(w, task["query_x"], query_y) for w in inner]),
        )
    return plane.Scene(
        slopes,
        offsets,
        problem.threshold,
        {name: points([w[None] for w in start])[0] for name, start in starts.items()},
        np.concatenate([points([w[None] for w in weights]) for weights in path]),
        problem.steps_per_epoch,
        tasks,
        results,
    )


def points(weights: Any) -> Any:
    """Kernels `[n, 1, 1]` and biases `[n, 1]` as points `[n, 2]`."""
    return np.concatenate([np.reshape(w, [len(w), 1]) for w in weights], axis=1)


def one_wave(
    problem: Problem, maml: mk.MAML, results: Any, *, amplitude: float, phase: float
) -> waves.Scene:
    """The fits of a new sinusoid, step by step."""
    x = np.linspace(-5, 5, 200, dtype="float32")[:, None]
    support_x = np.random.default_rng(3).uniform(-5, 5, [10, 1]).astype("float32")

    def true(x: Any) -> Any:
        return (amplitude * np.sin(x - phase)).astype("float32")

    task = {"support_x": support_x, "support_y": true(support_x)}
    walk, fits, losses = convergence.walker(maml), {}, {}
    predictions_of, losses_of = convergence.judge(maml)
    untrained = problem.network().get_weights()
    for name, start in ((RANDOM, untrained), (META, maml.model.get_weights())):
        way = walk(start, task, problem.limit)
        losses[name] = losses_of(way, x, true(x))
        fits[name] = predictions_of(way, x)[..., 0]
    support = support_x[:, 0], true(support_x)[:, 0]
    return waves.Scene(
        x[:, 0], true(x)[:, 0], support, fits, losses, results, problem.threshold
    )


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Prints both tables and draws the pictures.

    Returns:
        A `Convergence` by problem and start.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--iterations", type=int, default=10_000, help="meta-steps on sinusoids"
    )
    parser.add_argument("--tasks", type=int, default=100, help="new tasks to measure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/common_point")
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    found = {}
    for problem in (lines(), sinusoids(options.iterations)):
        maml, joint, path = train(problem, options.seed)
        results = race(problem, maml, joint, tasks=options.tasks, seed=options.seed)
        print(
            f"\n{problem.name}: {options.tasks} new tasks, learned when the query loss "
            f"is below {problem.threshold}; median [95% CI]\n"
        )
        print(convergence.table(results, limit=problem.limit), "\n", flush=True)
        if problem.name == "lines":
            scene = in_the_plane(problem, maml, joint, path, results)
            written = plane.draw(scene, options.out)
        else:
            scene = one_wave(problem, maml, results, amplitude=3.5, phase=0.8)
            written = waves.draw(scene, options.out)
        print(*written, sep="\n")
        found[problem.name] = results
    print(totals.draw(found, options.out))
    return found


if __name__ == "__main__":
    main()
