"""Few-shot classification of a TFDS data set, given by its name.

The default is Omniglot's split `small1`: 5-way 1-shot on new characters. If a data set
is not on this machine, an error says where it was searched; `--download` fetches it.

    python examples/own_tfds.py
    python examples/own_tfds.py --name cifar100 --split train+test --size 32 --download
"""

import argparse

import keras

import maml_keras as mk


def main(arguments: list[str] | None = None) -> mk.Evaluation:
    """Trains and evaluates; returns the evaluation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="omniglot")
    parser.add_argument("--split", default="small1")
    parser.add_argument("--size", type=int, default=28, help="pixels of a side")
    parser.add_argument("--download", action="store_true")
    parser.add_argument("--meta-steps", type=int, default=300)
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    try:
        pool = mk.data.from_tfds(
            options.name,
            split=options.split,
            size=(options.size, options.size),
            download=options.download,
        )
    except mk.data.DatasetNotFoundError as error:
        raise SystemExit(str(error)) from None
    print(pool)
    train, _, test = mk.data.split_classes(pool, train=0.8, validation=0, test=0.2)
    tasks, new_tasks = (
        mk.data.NWayKShot(part, ways=5, shots=1, queries=5) for part in (train, test)
    )

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = mk.models.conv4(ways=5, shape=pool.examples.shape[1:], filters=16)
    maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.4), steps=1))
    maml.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
    episodes = mk.data.episodes(tasks, batch_size=8, seed=1)
    maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)

    new = mk.data.episodes(new_tasks, batch_size=50, seed=2)
    result = mk.evaluate_episodes(maml, new, steps=3, num_tasks=200)
    print(f"\non {test.num_classes} classes it has never seen:\n{result.table()}")
    return result


if __name__ == "__main__":
    main()
