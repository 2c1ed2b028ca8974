"""Three starts beside each other: random weights, joint training, and MAML."""

import argparse
import pathlib
import time
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from physics_parts import drawing
from physics_parts.conditions import smooth_network
from physics_parts.quasi_newton import QuasiNewton
from physics_parts.solving import SUPPORT, Solved, Solver, seconds_of_a_step, steps_to

import maml_keras as mk

RATES = 0.003, 0.01, 0.03
SHOWN = 0, 1, 10, 100
INNER_STEPS = 5
# L-BFGS solves tasks one by one, so it gets the first few.
FEW = 5
RANDOM, JOINT, META = "random", "trained on all tasks", "Meta-SGD"


class Problem(NamedTuple):
    """A family of differential equations.

    Attributes:
        name: str, for the names of files.
        equation: a class of `Conditions`.
        dimensions: int, of a point.
        family: the tasks, with a method `solved(seed, count) -> Solved`.
        along: float array, the horizontal axis of a picture of the last rows of
            a task's solution.
        axis: str, the name of this axis.
        rate: float, from which Meta-SGD's rates are learned.
    """

    name: str
    equation: Any
    dimensions: int
    family: Any
    along: Any
    axis: str
    rate: float

    def maml(self, rule: mk.UpdateRule, *, steps: int = INNER_STEPS) -> mk.MAML:
        """A fresh network, with the squared residual as the inner loss."""
        model = self.equation(smooth_network(self.dimensions))
        return mk.MAML(model, mk.InnerLoop("mse", rule, steps=steps), bad_tasks="skip")


class Found(NamedTuple):
    """What one start reaches with one optimizer, for each seed.

    Attributes:
        errors: list of arrays `[tasks, steps + 1]`; empty for L-BFGS.
        steps: list of arrays `[tasks]`, steps to an error of 1%, or infinity.
        seconds: list of floats, processor seconds to 1% on average.
        most: int, the largest number of steps.
    """

    errors: list[Any]
    steps: list[Any]
    seconds: list[float]
    most: int


def main(problem: Problem, arguments: list[str] | None = None) -> dict[str, Found]:
    """Trains, solves new tasks, prints the table and draws; returns what was found."""
    parser = argparse.ArgumentParser(description=f"The family {problem.name}.")
    parser.add_argument("--meta-steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=pathlib.Path, default="runs/physics")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    validation = problem.family.solved(1, options.tasks)
    test = problem.family.solved(2, options.tasks)
    few, most = test.first(FEW), options.steps

    # Two networks and two compiled steps serve all starts, which only set the weights.
    by_adam = Solver(problem.maml(mk.Adam(0.01)))
    by_rates = Solver(problem.maml(mk.MetaSGD(problem.rate)))
    quasi = QuasiNewton(by_adam.maml)
    costs = {s: seconds_of_a_step(s.maml, test) for s in (by_adam, by_rates)}
    results: dict[tuple[str, str], Found] = {}
    fits: dict[str, Any] = {}

    def note(start: str, how: str, steps: Any, spent: Any, errors: Any = None) -> None:
        found = results.setdefault((start, how), Found([], [], [], most))
        found.steps.append(steps)
        found.seconds.append(float(np.mean(spent)))
        if errors is not None:
            found.errors.append(errors)

    for seed in range(options.seeds):
        for start, trained in starts(problem, options.meta_steps, seed).items():
            by_adam.maml.model.set_weights(trained.model.get_weights())
            rate = best_rate(by_adam, validation, most)
            print(f"seed {seed}, {start}: Adam's rate is {rate:g}", flush=True)
            errors = by_adam.errors(test, steps=most, rate=rate)
            steps = steps_to(errors)
            note(start, "Adam", steps, np.minimum(steps, most) * costs[by_adam], errors)
            if start == META:
                for ours, theirs in zip(by_rates.maml.variables, trained.variables):
                    ours.assign(theirs)
                errors = by_rates.errors(test, steps=most, rate=np.nan)
                steps = steps_to(errors)
                spent = np.minimum(steps, most) * costs[by_rates]
                note(start, "learned rates", steps, spent, errors)
            if start != JOINT:
                steps, spent = quasi.solve(few, iterations=most)
                note(start, "L-BFGS", steps, spent)
            if not seed:
                solver = by_rates if start == META else by_adam
                own = None if start == META else rate
                fits[start] = solutions(solver.maml, test, own, len(problem.along))
        print(f"\nafter {seed + 1} seeds:\n{table(results)}\n", flush=True)
    path = options.out / f"{problem.name}.png"
    real = test.solution[0, -len(problem.along) :, 0]
    drawing.draw(fits, real, problem.along, problem.axis, path)
    return results


def starts(problem: Problem, meta_steps: int, seed: int) -> dict[str, mk.MAML]:
    """The three starts; joint training is MAML without inner steps."""
    found = {}
    for name, steps in ((RANDOM, INNER_STEPS), (JOINT, 0), (META, INNER_STEPS)):
        keras.utils.set_random_seed(seed)
        rule = mk.MetaSGD(problem.rate) if steps else mk.SGD(problem.rate)
        found[name] = maml = problem.maml(rule, steps=steps)
        if name == RANDOM:
            continue
        begin = time.process_time()
        fall = keras.optimizers.schedules.CosineDecay(3e-3, meta_steps)
        # XLA's step is faster, but it compiles for longer than these runs take.
        maml.compile(
            keras.optimizers.Adam(fall, global_clipnorm=1.0), jit_compile=False
        )
        episodes = mk.data.episodes(problem.family, batch_size=8, seed=1 + seed)
        log = maml.fit(episodes, steps_per_epoch=meta_steps, verbose=0).history
        spent = time.process_time() - begin
        print(f"seed {seed}, {name}: loss {log['loss'][-1]:.4f}, {spent:.0f} s")
    return found


def best_rate(solver: Solver, solved: Solved, steps: int) -> float:
    """The rate with the fewest steps to 1% on average; ties are decided by error."""

    def score(rate: float) -> tuple[float, float]:
        errors = solver.errors(solved, steps=steps, rate=rate)
        last = np.nan_to_num(errors[:, -1], nan=np.inf)
        return np.minimum(steps_to(errors), steps).mean(), float(np.median(last))

    return min(RATES, key=score)


def solutions(maml: mk.MAML, solved: Solved, rate: float | None, rows: int) -> Any:
    """The network's solutions of the first task after some steps, at its last rows."""
    support = [tf.nest.map_structure(lambda t: t[0], solved.task[k]) for k in SUPPORT]
    asked = tf.nest.map_structure(lambda t: t[0, -rows:], solved.task["query_x"])
    found = {}
    for steps in SHOWN:
        # An ordinary Keras model, which answers rows that ask for the solution.
        adapted = maml.adapt(*support, steps=steps, learning_rate=rate, verbose=0)
        found[steps] = np.asarray(adapted(asked))[:, 0]
    return found


def table(results: dict[tuple[str, str], Found]) -> str:
    """The Markdown table: a line for each start and optimizer."""
    head = " | ".join(f"error at step {k}" for k in SHOWN)
    head = f"{head} | median steps to 1% | mean | reached | seconds"
    lines = [
        f"| start | optimizer | {head} |",
        "|---|---|" + "---|" * (len(SHOWN) + 4),
    ]
    for (start, optimizer), found in results.items():
        medians = [""] * len(SHOWN)
        if found.errors:
            errors = np.stack(found.errors)
            medians = [_error(errors[..., k]) if k <= found.most else "" for k in SHOWN]
        steps = np.stack(found.steps)
        mean = mk.SeedMean.of(np.minimum(steps, found.most))
        bound = "" if np.isfinite(steps).all() else "at least "
        interval = f"{bound}{mean.mean:.0f}"
        if len(steps) > 1:
            interval += f" ± {mean.half_width:.0f}"
        middle = np.median(steps)
        median = f"{middle:.0f}" if np.isfinite(middle) else f"over {found.most}"
        lines.append(
            f"| {start} | {optimizer} | {' | '.join(medians)} | "
            f"{median} | {interval} | {np.isfinite(steps).mean():.0%} | "
            f"{np.mean(found.seconds):.3f} |"
        )
    return "\n".join(lines)


def _error(errors: Any) -> str:
    """The median error; an error that is not finite counts as the largest."""
    median = np.median(np.nan_to_num(errors, nan=np.inf))
    return f"{median:.1%}" if np.isfinite(median) else "diverged"
