"""Personalisation: where will this person put a letter, from five of their drawings?

A task is a person. All people are asked the same: the letter is given, as others draw
it, and the network predicts the box of the person's drawing: left, top, right, bottom.
One model for all can do this; adaptation can only gain what is personal. Each method
has its own best inner rate and number of steps, chosen on validation people, and is
tested on people whom no method has seen.

With `--folder`, the drawings are Omniglot's, whose file names say who drew: unzip
`images_background.zip` and `images_evaluation.zip` of github.com/brendenlake/omniglot
there. Without it, drawn strokes stand in.

    python examples/personal_drawing.py --folder omniglot    # two minutes for each seed
"""

import argparse
import pathlib
from typing import Any

import keras
import numpy as np
from people_parts import handwriting, measured

import maml_keras as mk


def for_all(train: Any, validation: Any, epochs: int) -> keras.Model:
    """One model for all, trained on all drawings, at its best epoch and rate."""
    tried = []
    for rate in (3e-4, 1e-3):
        model = measured.network()
        model.compile(keras.optimizers.Adam(rate), loss="mse", metrics=["mae"])
        stop = keras.callbacks.EarlyStopping(
            "val_mae", mode="min", patience=3, restore_best_weights=True
        )
        history = model.fit(
            train.x,
            train.y,
            batch_size=64,
            epochs=epochs,
            validation_data=(validation.x, validation.y),
            callbacks=[stop],
            verbose=0,
        )
        tried.append((min(history.history["val_mae"]), model))
    return min(tried, key=lambda pair: pair[0])[1]


def shifted(model: keras.Model, validation: Any, test: Any) -> tuple[Any, str]:
    """One model plus a part of its mean error on the person's support set."""

    def errors(batch: Any, part: float) -> Any:
        task, query_y = batch
        missed = task["support_y"] - _predicted(model, task["support_x"])
        shift = part * np.mean(missed, axis=1, keepdims=True)
        wrong = np.abs(query_y - _predicted(model, task["query_x"]) - shift)
        return handwriting.UNIT * wrong.mean(axis=(1, 2))

    parts = np.linspace(0, 1, 21)
    best = min(parts, key=lambda part: errors(validation[0], part).mean())
    return errors(test[0], best), f"{best:.0%} of it"


def _predicted(model: keras.Model, x: Any) -> Any:
    flat = model.predict(np.reshape(x, [-1, *x.shape[2:]]), batch_size=512, verbose=0)
    return flat.reshape([*x.shape[:2], -1])


def meta_trained(train: Any, validation: Any, meta_steps: int) -> mk.MAML:
    """Meta-trained on training people, with the better of two inner rates."""
    tried = []
    for rate in (0.03, 0.1):
        inner = mk.InnerLoop("mse", mk.SGD(rate), steps=3)
        maml = mk.MAML(measured.network(), inner)
        maml.compile(keras.optimizers.Adam(1e-3))
        people = mk.data.Clients(*train, shots=measured.SHOTS, queries=measured.QUERIES)
        episodes = mk.data.episodes(people, batch_size=16, seed=1)
        maml.fit(episodes, steps_per_epoch=meta_steps, verbose=2)
        result = mk.evaluate_episodes(
            maml, validation, num_tasks=10**6, metric=measured.METRIC, verbose=0
        )
        tried.append((result.mean, maml))
    return min(tried, key=lambda pair: pair[0])[1]


def one_seed(parts: Any, validation: Any, test: Any, options: Any) -> measured.Found:
    """Errors of each test person by method, and what validation people chose."""
    train, others, _ = parts
    inner = mk.InnerLoop("mse", mk.SGD(0.03), steps=measured.STEPS)
    model = for_all(train, others, options.epochs)
    one, own = mk.MAML(model, inner), mk.MAML(measured.network(), inner)
    maml = meta_trained(train, validation, options.meta_steps)
    return {
        "one model for all": (measured.before(one, test), "no adaptation"),
        "its own network alone": measured.at_best(own, validation, test),
        "one model, fine-tuned": measured.at_best(one, validation, test),
        "one model, shifted by its error": shifted(model, validation, test),
        "MAML": measured.at_best(maml, validation, test),
    }


def main(arguments: list[str] | None = None) -> list[measured.Found]:
    """Trains and tests each method with each seed; returns the errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--meta-steps", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    drawings = handwriting.given(options.folder)
    parts = handwriting.dealt(drawings)
    people = [len(np.unique(part.clients)) for part in parts]
    print(f"{len(drawings.images)} drawings ({drawings.source}); people: {people}")
    validation, test = (measured.everyone(part, seed=2) for part in parts[1:])
    found = []
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        found.append(one_seed(parts, validation, test, options))
        measured.report(found, "one model for all")
    return found


if __name__ == "__main__":
    main()
