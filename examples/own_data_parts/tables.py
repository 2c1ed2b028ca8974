"""Training, baselines and errors for tasks of a table with numbers as target."""

from typing import Any

import keras
import numpy as np

import maml_keras as mk

TASKS = 300


def network(preparation: Any) -> keras.Model:
    """Two layers of 40 units between the prepared columns and the target."""
    return keras.Sequential(
        [
            keras.Input([preparation.num_features]),
            keras.layers.Dense(40, activation="tanh"),
            keras.layers.Dense(40, activation="tanh"),
            keras.layers.Dense(preparation.num_outputs),
        ]
    )


def errors(maml: mk.MAML, tasks: mk.data.FewExamples) -> list[float]:
    """The mean absolute error of a model on 300 tasks, in the unit of the table."""
    result = mk.evaluate_episodes(
        maml,
        mk.data.episodes(tasks, batch_size=100, seed=2),
        num_tasks=TASKS,
        metric="mean_absolute_error",
        verbose=0,
    )
    return result.per_episode[:, -1].tolist()


def baselines(
    train: mk.data.TaskTable, tasks: mk.data.FewExamples
) -> dict[str, list[float]]:
    """The mean absolute error on the same 300 tasks of four simple predictors.

    Args:
        train: the training tasks, on whose rows the regressions are fitted.
        tasks: new tasks.
    """
    own = train.preparation
    columns = {
        name: c.values if c.is_text else c.values.astype("float32")
        for name, c in train.inputs.items()
    }

    def with_one(x: Any) -> Any:
        return np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)

    x = with_one(own.inputs(columns).numpy())
    y = own.targets(own.target_columns.raw(dict(train.targets))).numpy()
    pooled = np.linalg.lstsq(x, y, rcond=None)[0]
    found: dict[str, list[float]] = {}
    [(task, query_y)] = mk.data.episodes(
        tasks, batch_size=TASKS, seed=2, num_episodes=TASKS
    )
    parts = (task["support_x"], task["support_y"], task["query_x"], query_y)
    for support_x, support_y, query_x, real in zip(*(p.numpy() for p in parts)):
        support_x, query_x = with_one(support_x), with_one(query_x)
        missed = support_y - support_x @ pooled
        # The regression of all tasks, drawn towards the support rows of this one.
        kernel = support_x @ support_x.T + 0.1 * np.eye(len(support_x))
        drawn = pooled + support_x.T @ np.linalg.solve(kernel, missed)
        for name, values in {
            "mean of the support rows": np.full_like(real, support_y.mean()),
            "regression of all tasks": query_x @ pooled,
            "regression, shifted by its error": query_x @ pooled + missed.mean(),
            "regression, fitted on to the support": query_x @ drawn,
        }.items():
            error = np.abs(own.restored(values) - own.restored(real)).mean()
            found.setdefault(name, []).append(float(error))
    return found


def trained(
    train: mk.data.FewExamples, new: mk.data.FewExamples, options: Any
) -> tuple[mk.MAML, dict[str, list[float]]]:
    """Trains for each seed; returns the last model, and all errors on new tasks.

    Args:
        train: the training tasks.
        new: new tasks, for the baselines and the models.
        options: the script's `meta_steps` and `seeds`.
    """
    episodes = mk.data.episodes(train, batch_size=16, seed=1)
    found = baselines(train.table, new)
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        inner = mk.InnerLoop("mse", mk.MetaSGD(0.05), steps=3)
        maml = mk.MAML(network(train.preparation), inner)
        maml.compile(keras.optimizers.Adam(2e-3))
        maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)
        found[f"MAML, seed {seed}"] = errors(maml, new)
    return maml, found


def report(found: dict[str, list[float]], unit: str) -> None:
    """Prints each mean absolute error with its 95% interval over tasks."""
    print(f"\nmean absolute error in {unit}, 95% interval over {TASKS} tasks")
    for name, values in found.items():
        width = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
        print(f"{name:>40}  {np.mean(values):6.3f} ± {width:.3f}")
