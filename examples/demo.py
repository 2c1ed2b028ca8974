"""Watch a network learn to learn: sinusoids, from nothing to a SavedModel.

Trains the sinusoid preset for a short while. Then adapts the result to new tasks with 0
to 10 gradient steps, beside a randomly initialised network and one that was pretrained
on all tasks together.

    python examples/demo.py                      # 3 minutes
    python examples/demo.py --iterations 70000   # the paper's full protocol
"""

import argparse
import pathlib
import shlex
import sys
import time

import numpy as np
import tensorflow as tf

import maml_keras as mk
from maml_keras.evaluation.plots import plot_curves, plot_fits
from maml_keras.experiments import fixed_tasks, own_settings, registry, run_folder, runs
from maml_keras.experiments.baselines import joint_pretraining, random_initialisation
from maml_keras.monitoring.adaptation_curves import write_curve


def main(arguments: list[str] | None = None) -> dict[str, mk.Evaluation]:
    """Trains, compares, plots and exports; returns the evaluations by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=40_000)
    parser.add_argument("--tasks", type=int, default=600, help="new tasks to test on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/demo"),
        help="folder of the run; if it exists, the first free name with -2, -3, ...",
    )
    options = parser.parse_args(arguments)
    typed = sys.argv[1:] if arguments is None else arguments
    options.out = run_folder.first_free(options.out)
    preset = registry.get("sinusoid")

    print(f"1/4 meta-training: {preset.title}, {options.iterations} meta-steps")
    started = time.perf_counter()
    maml = runs.train(
        preset,
        options.out,
        iterations=options.iterations,
        seed=options.seed,
        verbose=1,
        command=shlex.join(["python", "examples/demo.py", *typed]),
    )
    print(f"    {time.perf_counter() - started:.0f} s")

    print("2/4 two networks to compare with")
    print(
        "    random: the same network, untrained\n"
        f"    pretrained: trained on all sinusoids together, {options.iterations} steps"
        f"\n    both choose on validation tasks: {own_settings.grid(preset)}"
    )
    started = time.perf_counter()
    same = {"seed": options.seed, "verbose": 1}
    random, _ = random_initialisation(preset, **same)
    pretrained, _ = joint_pretraining(preset, iterations=options.iterations, **same)
    networks = {"MAML": maml, "pretrained": pretrained, "random": random}
    for name in ("pretrained", "random"):
        print(f"    {name} takes {own_settings.Choice.of(networks[name])}")
    print(f"    {time.perf_counter() - started:.0f} s")

    steps = preset.evaluation_steps
    print(f"3/4 adapting each of the three to {options.tasks} new tasks")
    longest = {
        name: fixed_tasks.evaluate(
            network,
            preset,
            # A baseline may have chosen more steps than the ten that are shown.
            steps=steps if network is maml else max(steps, network.inner.steps),
            num_tasks=options.tasks,
            verbose=1,
        )
        for name, network in networks.items()
    }
    results = {name: result.until(steps) for name, result in longest.items()}
    print(table(results))
    for name in ("pretrained", "random"):
        print(f"{name} as it chose: {longest[name].until(networks[name].inner.steps)}")
    for name, result in results.items():
        writer = tf.summary.create_file_writer(str(options.out / "logs" / name))
        write_curve(writer, result, step=options.iterations)

    print("4/4 pictures and the SavedModel")
    _, _, config = runs.load(options.out)
    export = runs.export(maml, preset, config, results["MAML"], options.out / "export")
    curves = plot_curves(results, options.out / "adaptation.png", log=True)
    fits = plot_one_task(networks, options.out / "fits.png")
    print(f"curves        {curves}")
    print(f"one task      {fits}")
    print(f"TensorBoard   tensorboard --logdir {options.out / 'logs'}")
    print(f"SavedModel    {export}")
    return results


def table(results: dict[str, mk.Evaluation]) -> str:
    """Mean query error ± 95% half-width, a row for each adaptation step."""
    tasks = next(iter(results.values())).num_tasks
    lines = [
        f"mean squared error on {tasks} new tasks ± 95% CI [median, diverged tasks]",
        "steps  " + "".join(f"{name:<36}" for name in results),
    ]
    for k in range(next(iter(results.values())).steps + 1):
        cells = [
            f"{r.curve[k]:8.3f} ± {r.half_widths[k]:<7.3f} "
            f"[{r.medians[k]:.3f}, {r.diverged[k]}]"
            for r in results.values()
        ]
        lines.append(f"{k:>5}  " + "".join(f"{cell:<36}" for cell in cells))
    return "\n".join(lines)


def plot_one_task(networks: dict[str, mk.MAML], path: pathlib.Path) -> pathlib.Path:
    """The fits of each network to one new sinusoid after 0, 1 and 10 steps."""
    amplitude, phase = 3.5, 0.8
    x = np.linspace(-5, 5, 200, dtype="float32")[:, None]
    support_x = np.random.default_rng(3).uniform(-5, 5, [10, 1]).astype("float32")

    def true(x: np.ndarray) -> np.ndarray:
        return amplitude * np.sin(x - phase)

    fits = {}
    for name, maml in networks.items():
        fits[name] = [
            (steps, maml.adapt(support_x, true(support_x), steps=steps)(x))
            for steps in (0, 1, 10)
        ]
    return plot_fits((support_x, true(support_x)), (x, true(x)), fits, path)


if __name__ == "__main__":
    main()
