"""A stream without borders: predict each reading, then learn from the reading.

A sensor's readings follow a wave, which drifts slowly and jumps at moments that nobody
tells. Each learner predicts a reading before it sees the answer, so the mean error
along the stream is the error in use. The learners are compositions of the library,
beside others that need no meta-training:

- without adaptation;
- gradient steps that go on, from a pretrained and from a meta-learned network;
- the start adapted to a sliding window, anew after each reading, by gradient steps
  (MAML) or in closed form (R2-D2);
- the same with a restart where a jump is noticed in the errors;
- an oracle, which is told each jump;
- kernel ridge regression of the window.

Each chooses its settings on validation streams, with the networks of the first seed.

    python examples/online_stream.py    # four minutes
"""

import argparse
import itertools
import pathlib
from typing import Any, NamedTuple

import keras
import numpy as np
from online_parts import drawing, kernels, learners, reporting, streams
from online_parts.learners import Borders, Grid, Noticed, Told

import maml_keras as mk
from maml_keras.experiments.baselines import train_jointly

PRETRAINED, META, CLOSED = "pretrained", "MAML", "R2-D2"
INNER_RATE = 0.003
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03)
WINDOWS = (5, 10, streams.WINDOW)
# Inner steps in meta-training, and those that a learner may take after a reading.
TRAINED, COUNTS = 5, (1, 5)
# When a jump is noticed: how many readings, and the factor of their errors.
SIGNS = {"lasts": (2, 3), "factors": (1.0, 3.0, 10.0)}
# Readings since the last jump, in the table.
AGES = [(0, 0), (1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 10**6)]


class Learner(NamedTuple):
    """The start of a learner, and the settings to choose from."""

    start: str
    grid: Grid


def _learners() -> dict[str, Learner]:
    found, anew, longest = {}, (False,), (streams.WINDOW,)
    for start in (PRETRAINED, META, CLOSED):
        rates, ways = RATES, (True, False)
        if start == CLOSED:  # It has no rate, and nothing to go on from.
            rates, ways = (0.0,), anew
        else:
            found[f"{start}, steps go on"] = Grid(rates, WINDOWS, (True,))
        found[f"{start}, window"] = Grid(rates, WINDOWS, anew)
        found[f"{start}, jumps noticed"] = Grid(rates, longest, ways, Noticed, **SIGNS)
        found[f"{start}, jumps told"] = Grid(rates, longest, ways, Told)
    return {name: Learner(name.split(",")[0], grid) for name, grid in found.items()}


LEARNERS = _learners()
SMOOTH = [kernels.smooth(length) for length in (0.5, 1.0, 2.0)]
NOTICED = [Noticed(*sign) for sign in itertools.product(*SIGNS.values())]
RIDGES = {
    "kernel ridge, window": (SMOOTH, [Borders()]),
    "kernel ridge, jumps noticed": (SMOOTH, NOTICED),
    "kernel ridge, jumps told": (SMOOTH, [Told()]),
    "sin and cos, window": ([kernels.sine], [Borders()]),
    "sin and cos, jumps noticed": ([kernels.sine], NOTICED),
    "sin and cos, jumps told": ([kernels.sine], [Told()]),
}


def network() -> keras.Model:
    """Two layers of 40 units, with Keras's random weights."""
    hidden = [keras.layers.Dense(40, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input([1]), *hidden, keras.layers.Dense(1)])


def by_steps() -> mk.MAML:
    """A network with random weights that adapts by gradient steps."""
    return mk.MAML(network(), mk.InnerLoop("mse", mk.SGD(INNER_RATE), steps=TRAINED))


def in_closed_form() -> mk.MAML:
    """A network with random weights whose last layer is a ridge regression."""
    return mk.recipes.ridge(network(), "mse")


def trained(seed: int, meta_steps: int) -> dict[str, mk.MAML]:
    """One network trained on all waves together, and two that are meta-trained."""
    keras.utils.set_random_seed(seed)
    episodes = mk.data.episodes(streams.Windows(), batch_size=16, seed=1 + seed)
    found = {PRETRAINED: by_steps()}
    model, every = found[PRETRAINED].model, episodes.map(_every_reading)
    train_jointly(model, "mse", every, iterations=meta_steps, verbose=0)
    for name, maml in ((META, by_steps()), (CLOSED, in_closed_form())):
        # A single reading of a large wave may send a task far away.
        maml.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
        steps = max(1, meta_steps // 10)
        log = maml.fit(episodes, epochs=10, steps_per_epoch=steps, verbose=0).history
        print(f"seed {seed}, {name}: query loss {log['loss'][-1]:.3f}", flush=True)
        found[name] = maml
    return found


def _every_reading(task: Any, query_y: Any) -> Any:
    """A batch without weights: what pads a support set are readings, too."""
    return {k: v for k, v in task.items() if k != "support_weight"}, query_y


def take_over(steps: learners.Steps, maml: mk.MAML) -> list[Any]:
    """The weights to start from; what the head in closed form learned is copied."""
    weights = maml.model.get_weights()
    if maml.start is not None:
        for ours, theirs in zip(steps.maml.start.variables, maml.start.variables):
            ours.assign(theirs)
        # Without readings, the ridge regression is its offset.
        weights[-2:] = (
            np.zeros_like(weights[-2]),
            maml.start.variables[-1].numpy()[None],
        )
    return weights


def programs() -> dict[str, list[learners.Steps]]:
    """The steps that a start may take, compiled once for the weights of all seeds."""
    gradient = [learners.Steps(by_steps(), count) for count in COUNTS]
    closed = [learners.Steps(in_closed_form(), 0)]
    return {PRETRAINED: gradient, META: gradient, CLOSED: closed}


def one_seed(
    seed: int,
    meta_steps: int,
    compiled: dict[str, list[learners.Steps]],
    validation: streams.Streams,
    test: streams.Streams,
    settings: dict[str, Any],
) -> dict[str, learners.Walked]:
    """Trains the starts, and walks each learner along the test streams.

    `settings` gets what a learner chose, if it has not chosen yet.
    """
    weights = {
        name: take_over(compiled[name][0], maml)
        for name, maml in trained(seed, meta_steps).items()
    }
    steps = compiled[PRETRAINED][0]
    as_it_is = learners.unadapted(steps, weights[PRETRAINED], test)
    found = {"pretrained, no adaptation": learners.Walked(as_it_is, None)}
    for name, learner in LEARNERS.items():
        own = weights[learner.start]
        if name not in settings:
            choices = compiled[learner.start], own, validation, learner.grid
            settings[name] = learners.chosen(*choices)
            print(f"{name}: {described(*settings[name])}", flush=True)
        steps, how = settings[name]
        found[name] = learners.walk(steps, own, test, how)
    return found


def described(steps: learners.Steps, how: learners.Walk) -> str:
    """The settings that a learner chose, in words."""
    words = f"window {how.window}{learners.described(how.borders)}"
    if not steps.count:
        return words
    way = "go on" if how.goes_on else "from the start"
    return f"{words}, {steps.count} steps of {how.rate:g}, {way}"


def row(name: str, errors: list[Any], since: Any) -> list[str]:
    """A line of the table: the mean over all readings, and by readings since a jump."""
    errors = np.stack(errors)
    # The first wave of a stream has no jump before it.
    jumped = np.cumsum(since == 0, axis=1) > 1
    cells = [name, reporting.cell(errors.mean(axis=2))]
    for first, last in AGES:
        chosen = jumped & (since >= first) & (since <= last)
        cells.append(f"{errors[:, chosen].mean():.2f}" if chosen.any() else "")
    return cells


def report(found: dict[str, list[Any]], since: Any) -> None:
    """Prints the table of all learners."""
    ages = [f"{a}" if a == b else f"{a} to {b}" for a, b in AGES[:-1]]
    head = ["learner", "mean squared error", *ages, f"{AGES[-1][0]} or more"]
    rows = [row(name, errors, since) for name, errors in found.items()]
    print(f"\n{reporting.table(head, rows)}\n", flush=True)


def main(arguments: list[str] | None = None) -> dict[str, list[Any]]:
    """Trains, walks along the streams, prints and draws; returns the errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--time", type=int, default=200)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/online"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    validation = streams.draw(16, options.time, seed=1)
    test = streams.draw(options.streams, options.time, seed=2)

    compiled, settings = programs(), {}
    found: dict[str, list[Any]] = {}
    first: dict[str, learners.Walked] = {}
    for seed in range(options.seeds):
        walked = one_seed(
            seed, options.meta_steps, compiled, validation, test, settings
        )
        for name, one in walked.items():
            found.setdefault(name, []).append(one.errors)
        first = first or walked
    for name, choices in RIDGES.items():
        ridge = kernels.chosen(*choices, validation)
        print(f"{name}: {kernels.described(ridge)}", flush=True)
        found[name] = [kernels.errors(test, ridge)] * options.seeds
    report(found, test.since)
    drawing.stream(found, first, test, options.out / "online_stream.png")
    return found


if __name__ == "__main__":
    main()
