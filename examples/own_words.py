"""Your own texts: which of three senders wrote it, from two messages of each?

The messages are made here, so nothing is downloaded: each of 40 senders has a topic
with words of its own, uses words of four other topics, too, and fills up with words
that all senders use. A fitted `TextVectorization` makes tokens of them. Senders of
the test tasks are not in the training tasks. The script ends with the answer of
TensorFlow alone to new messages, from the export.

    python examples/own_words.py          # a minute
"""

import argparse
import math
import pathlib
from typing import Any

import keras
import numpy as np
from own_data_parts import alone

import maml_keras as mk

WAYS, SHOTS, QUERIES, TOPICS = 3, 2, 10, 20


def messages(senders: int = 40, each: int = 30) -> tuple[list[str], list[str]]:
    """Texts of 5 to 20 words, and who sent each."""
    generator = np.random.default_rng(0)
    texts, names = [], []
    for sender in range(senders):
        own, *others = generator.choice(TOPICS, 5, replace=False)
        for _ in range(each):
            length = generator.integers(5, 21)
            chances = [0.25, *[0.05] * 4, 0.55]
            topic = generator.choice([own, *others, -1], length, p=chances)
            word = generator.integers(0, 25, length)
            texts.append(" ".join(f"topic{t + 1}word{w}" for t, w in zip(topic, word)))
            names.append(f"sender {sender}")
    return texts, names


def nearest_mean(episodes: Any, words: int) -> str:
    """Accuracy of the sender whose counts of words are nearest."""
    right = []
    for task, query_y in episodes.as_numpy_iterator():
        for support, labels, queries, truth in zip(
            task["support_x"], task["support_y"], task["query_x"], query_y
        ):
            counts = [shares(x, words) for x in (support, queries)]
            means = np.stack([counts[0][labels == c].mean(axis=0) for c in range(WAYS)])
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            right.append((np.argmax(counts[1] @ means.T, axis=1) == truth).mean())
    half = 1.96 * np.std(right, ddof=1) / math.sqrt(len(right))
    return f"{np.mean(right):.1%} ± {half:.1%}"


def shares(tokens: Any, words: int) -> Any:
    """How often each word is in each text, as vectors of length one."""
    counts = np.stack([np.bincount(row[row > 0], minlength=words) for row in tokens])
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def main(arguments: list[str] | None = None) -> dict[str, mk.Evaluation]:
    """Trains, compares, exports and answers; returns the last seed's evaluations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/words"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    texts, senders = messages()

    # From texts to episodes.
    words = keras.layers.TextVectorization()
    words.adapt(texts[: 24 * 30])  # The training senders alone.
    pool = mk.data.from_series(texts, senders, lookup=words)
    pool = pool.prepared_by(mk.data.TextPreparation(words))
    train, _, test = mk.data.split_classes(
        pool, train=list(dict.fromkeys(senders))[:24], validation=0, test=None
    )
    tasks = mk.data.NWayKShot(train, ways=WAYS, shots=SHOTS, queries=QUERIES)
    episodes = mk.data.episodes(tasks, batch_size=8, seed=1)

    new_tasks = mk.data.NWayKShot(test, ways=WAYS, shots=SHOTS, queries=QUERIES)
    new = mk.data.episodes(new_tasks, batch_size=50, seed=2, num_episodes=200)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        model = keras.Sequential(
            [
                keras.Input([None], dtype="int32"),
                keras.layers.Embedding(words.vocabulary_size(), 32, mask_zero=True),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(WAYS),
            ]
        )
        mk.data.check_padding(model, pool)
        maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.4), steps=3))
        results = {"before meta-training": mk.evaluate_episodes(maml, new, verbose=0)}
        maml.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
        maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)
        results["after meta-training"] = mk.evaluate_episodes(maml, new, verbose=0)
        for name, result in results.items():
            print(f"\nseed {seed}, {name}, on new senders:\n{result.table()}")
    print(f"\nnearest counts of words: {nearest_mean(new, words.vocabulary_size())}")

    maml.export(options.out / "export", verbose=0)
    new_senders = test.class_names[:WAYS]
    mine = [[t for t, s in zip(texts, senders) if s == name] for name in new_senders]
    known = [text for own in mine for text in own[:SHOTS]]
    labels = np.repeat(np.arange(WAYS, dtype=np.int32), SHOTS)
    asked = [own[SHOTS + i] for i in range(2) for own in mine][:5]
    answers = alone.classes(options.out / "export", known, labels, asked)
    print("\nfive new messages, as text, answered by TensorFlow alone:")
    for text, answer, truth in zip(asked, answers, [0, 1, 2, 0, 1]):
        print(f"{text[:40]:40} {new_senders[answer]}, in truth {new_senders[truth]}")
    return results


if __name__ == "__main__":
    main()
