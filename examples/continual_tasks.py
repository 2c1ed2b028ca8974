"""Continual learning: one network learns tasks one after the other. What does it keep?

Six waves come one after the other, with 20 examples each, and each input says which
wave is asked. `R[i, j]` is the error on wave j after learning wave i. From R follow the
average error at the end, backward and forward transfer (Lopez-Paz and Ranzato, 2017).
The starts are random weights, a pretrained network, MAML, ANIL, whose last layer alone
adapts, and OML (Javed and White, 2019), which is meta-trained on whole sequences. Some
learners keep five examples of each earlier wave, others a copy of the network for each.

Each learner chooses its rate and number of steps on validation sequences, with the
networks of the first seed.

    python examples/continual_tasks.py    # three minutes
"""

import argparse
import pathlib
from typing import Any, NamedTuple

import keras
import numpy as np
from online_parts import drawing, reporting, sequences
from online_parts.in_order import InOrder
from online_parts.learners import Steps
from online_parts.sequences import TASKS
from online_parts.transfer import transfer

import maml_keras as mk
from maml_keras.experiments.baselines import train_jointly

RANDOM, JOINT, META, ANIL, OML = "random weights", "pretrained", "MAML", "ANIL", "OML"
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
# Of Adam, for all starts.
OUTER_RATE = 0.003
# Steps in a call, and calls for a task to choose from.
COUNT, CALLS = 5, (1, 4, 16)
KEEP = 5


class Learner(NamedTuple):
    """How a learner goes through a sequence.

    Attributes:
        start: str, which weights it starts from.
        head: bool, whether the last layer alone adapts.
        keep: int, examples of each earlier task that it keeps.
        copies: bool, whether each task has its own copy of the network.
    """

    start: str
    head: bool = False
    keep: int = 0
    copies: bool = False


LEARNERS = {
    "random weights": Learner(RANDOM),
    "pretrained": Learner(JOINT),
    "pretrained, last layer": Learner(JOINT, head=True),
    "MAML": Learner(META),
    "ANIL, last layer": Learner(ANIL, head=True),
    "OML, last layer": Learner(OML, head=True),
    "random weights, 5 kept": Learner(RANDOM, keep=KEEP),
    "pretrained, 5 kept": Learner(JOINT, keep=KEEP),
    "MAML, 5 kept": Learner(META, keep=KEEP),
    "OML, last layer, 5 kept": Learner(OML, head=True, keep=KEEP),
    "pretrained, a copy a task": Learner(JOINT, copies=True),
    "MAML, a copy a task": Learner(META, copies=True),
}


def network() -> keras.Model:
    """Two layers of 40 units, with Keras's random weights."""
    hidden = [keras.layers.Dense(40, activation="relu") for _ in range(2)]
    inputs = keras.Input([1 + TASKS])
    return keras.Sequential([inputs, *hidden, keras.layers.Dense(1)])


def maml(
    adapt: Any = None, *, rate: float = 0.01, steps: int = COUNT, **how: Any
) -> mk.MAML:
    """A network with random weights and an inner loop."""
    inner = mk.InnerLoop("mse", mk.SGD(rate), steps=steps, adapt=adapt)
    return mk.MAML(network(), inner, **how)


def starts(seed: int, meta_steps: int) -> dict[str, list[Any]]:
    """The weights that the learners start from."""
    single, whole = (
        mk.data.episodes(sequences.Waves(tasks), batch_size=size, seed=1 + seed)
        for tasks, size in ((1, 16), (TASKS, 8))
    )
    keras.utils.set_random_seed(seed)
    joint = network()
    found = {RANDOM: joint.get_weights()}
    how = {"iterations": meta_steps, "learning_rate": OUTER_RATE, "verbose": 0}
    train_jointly(joint, "mse", single, **how)
    found[JOINT] = joint.get_weights()
    # OML takes four steps for each task of a sequence.
    in_order = {"rate": 0.03, "steps": 4 * TASKS, "meta_gradient": InOrder(TASKS)}
    for name, episodes, model in (
        (META, single, maml()),
        (ANIL, single, maml(mk.last_layer())),
        (OML, whole, maml(mk.last_layer(), **in_order)),
    ):
        model.compile(keras.optimizers.Adam(OUTER_RATE, global_clipnorm=10.0))
        steps = max(1, meta_steps // 10)
        log = model.fit(episodes, epochs=10, steps_per_epoch=steps, verbose=0).history
        print(f"seed {seed}, {name}: query loss {log['loss'][-1]:.3f}", flush=True)
        found[name] = model.model.get_weights()
    return found


def matrix(
    steps: Steps, start: Any, tasks: Any, learner: Learner, rate: Any, calls: int
) -> Any:
    """`R` of each sequence."""
    if learner.copies:
        return sequences.copies(steps, start, tasks, rate=rate, calls=calls)
    how = {"rate": rate, "calls": calls, "keep": learner.keep}
    return sequences.learn(steps, start, tasks, **how)


def chosen(
    steps: Steps, start: Any, validation: Any, learner: Learner
) -> tuple[float, int]:
    """The rate and the calls with the least average error after the last task."""
    count, tried = len(validation.x), []
    # Each sequence is learned with all rates at once.
    many, rates = validation.times(len(RATES)), np.tile(RATES, count)
    for calls in CALLS:
        # A rate that is too large ends in infinity.
        with np.errstate(over="ignore", invalid="ignore"):
            last = matrix(steps, start, many, learner, rates, calls)[:, -1]
            means = last.reshape([count, len(RATES), TASKS]).mean(axis=(0, 2))
        means = np.where(np.isfinite(means), means, np.inf)
        tried += [(mean, rate, calls) for mean, rate in zip(means, RATES)]
    _, rate, calls = min(tried)
    return rate, calls


def programs() -> dict[bool, Steps]:
    """Steps of all weights and of the last layer alone, compiled for all seeds."""
    return {
        head: Steps(maml(mk.last_layer() if head else None), COUNT)
        for head in (False, True)
    }


def one_seed(
    seed: int,
    meta_steps: int,
    compiled: dict[bool, Steps],
    validation: sequences.Sequences,
    test: sequences.Sequences,
    settings: dict[str, tuple[float, int]],
) -> tuple[Any, dict[str, Any]]:
    """Trains the starts; each learner learns the test sequences.

    `settings` gets what a learner chose, if it has not chosen yet.

    Returns:
        `b`, the errors of random weights `[sequences, T]`, and each learner's `R`.
    """
    weights, found = starts(seed, meta_steps), {}
    steps = compiled[False]
    random = steps.start(weights[RANDOM], len(test.x))
    untrained = sequences.errors(steps, random, test)
    for name, learner in LEARNERS.items():
        steps, start = compiled[learner.head], weights[learner.start]
        if name not in settings:
            settings[name] = chosen(steps, start, validation, learner)
            rate, calls = settings[name]
            print(f"{name}: {COUNT * calls} steps of {rate:g}", flush=True)
        found[name] = matrix(steps, start, test, learner, *settings[name])
    return untrained, found


def report(found: dict[str, list[Any]], untrained: list[Any]) -> None:
    """Prints the table of all learners."""
    head = ["learner", "average error", "just learned", "backward", "forward"]
    rows = []
    for name, matrices in found.items():
        each = transfer(np.stack(matrices), np.stack(untrained))
        rows.append([name, *map(reporting.cell, each)])
    print(f"\n{reporting.table(head, rows)}\n", flush=True)


def main(arguments: list[str] | None = None) -> dict[str, list[Any]]:
    """Trains, learns sequences, prints and draws; returns the matrices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sequences", type=int, default=50)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/online"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    validation = sequences.draw(20, seed=1)
    test = sequences.draw(options.sequences, seed=2)

    compiled, settings = programs(), {}
    found: dict[str, list[Any]] = {}
    untrained = []
    for seed in range(options.seeds):
        before, matrices = one_seed(
            seed, options.meta_steps, compiled, validation, test, settings
        )
        untrained.append(before)
        for name, rows in matrices.items():
            found.setdefault(name, []).append(rows)
    report(found, untrained)
    drawing.matrices(found, options.out / "continual_tasks.png")
    return found


if __name__ == "__main__":
    main()
