"""Federated learning: people train one model together, and keep their drawings.

Each round, a server draws some people. A person adapts the model to the own drawings,
of which people have different numbers, and sends back weights, never drawings. Three
ways to learn, all of them compositions of the library:

- federated averaging: `Reptile` whose inner loop is local epochs of mini-batches, with
  an outer rate of one and people weighed by their numbers of drawings;
- federated averaging in which a person takes one step a round, on all drawings;
- Per-FedAvg: second-order MAML, whose model is made to be adapted.

The script tests the model on new people, as it is and adapted to five of their drawings
at each method's best rate, and counts the bytes. The drawings are those of
`personal_drawing.py`.

    python examples/federated_learning.py --folder omniglot   # a minute for each seed
"""

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from people_parts import handwriting, measured

import maml_keras as mk

CLIENTS, EPOCHS, PART = 20, 2, 10


def averaging(largest: int) -> mk.MAML:
    """Federated averaging with local epochs on mini-batches."""
    inner = mk.InnerLoop(
        "mse",
        mk.SGD(0.03),
        # The largest client takes this many steps.
        steps=-(-EPOCHS * largest // PART),
        batch_size=PART,
        epochs=EPOCHS,
    )
    return mk.MAML(
        measured.network(),
        inner,
        meta_gradient=mk.Reptile(),
        task_weights=mk.BySize(),
    )


def one_step(largest: int) -> mk.MAML:
    """Federated averaging of one step on all of a client's examples (FedSGD)."""
    inner = mk.InnerLoop("mse", mk.SGD(0.1))
    reptile, weights = mk.Reptile(), mk.BySize()
    return mk.MAML(
        measured.network(), inner, meta_gradient=reptile, task_weights=weights
    )


def personalised(largest: int) -> mk.MAML:
    """Per-FedAvg: the gradient of the loss after a step."""
    inner = mk.InnerLoop("mse", mk.SGD(0.1))
    return mk.MAML(measured.network(), inner, task_weights=mk.BySize())


# Each way, with the outer rate of plain gradient descent on the server. An average of
# weights is an outer rate of one.
WAYS: dict[str, tuple[Callable[[int], mk.MAML], float]] = {
    "FedAvg, two epochs": (averaging, 1.0),
    "FedAvg, one step": (one_step, 1.0),
    "Per-FedAvg": (personalised, 0.1),
}


def one_seed(train: Any, validation: Any, test: Any, rounds: int) -> measured.Found:
    """Errors of each test person by method, and what validation people chose."""
    clients = mk.data.Clients(
        *train, shots="rest", queries=measured.SHOTS, per_round=CLIENTS
    )
    largest = int(clients.counts.max()) - measured.SHOTS
    found: measured.Found = {}
    for name, (way, rate) in WAYS.items():
        maml = way(largest)
        maml.compile(keras.optimizers.SGD(rate))
        episodes = mk.data.episodes(clients, batch_size=CLIENTS, seed=1)
        maml.fit(episodes, steps_per_epoch=rounds, verbose=2)
        print(f"{name}: {mk.round_cost(maml, clients=CLIENTS)}")
        # A new person's device takes plain steps on its five drawings.
        plain = mk.InnerLoop("mse", mk.SGD(0.03), steps=measured.STEPS)
        used = mk.MAML(maml.model, plain)
        found[f"{name}, as it is"] = measured.before(used, test), "no adaptation"
        found[f"{name}, adapted"] = measured.at_best(used, validation, test)
    return found


def main(arguments: list[str] | None = None) -> list[measured.Found]:
    """Trains and tests each method with each seed; returns the errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    train, *others = handwriting.dealt(handwriting.given(options.folder))
    validation, test = (measured.everyone(part, seed=2) for part in others)
    sizes = np.unique(train.clients, return_counts=True)[1]
    print(f"{len(sizes)} clients of {sizes.min()} to {sizes.max()} drawings")
    found = []
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        found.append(one_seed(train, validation, test, options.rounds))
        measured.report(found, "FedAvg, two epochs, as it is")
    return found


if __name__ == "__main__":
    main()
