"""Your own model of text, with an embedding and attention.

The texts are in a made-up language of 100 words: 16 topics with 5 words each, and 20
words without a topic. A text has 12 words, 3 of them from its topic, at random places.
A task is to tell three topics apart, from two texts of each topic. Every task draws new
topics and class numbers, so before adaptation the best accuracy is one in three.

    python examples/text_model.py    # half a minute
"""

import argparse
from typing import Any

import keras
import tensorflow as tf

import maml_keras as mk

WAYS, SHOTS, QUERIES, WORDS = 3, 2, 5, 12


class Topics(mk.data.TaskFamily):
    """Texts as word numbers `[examples, 12]`, with the numbers of their topics."""

    def sample(self, seed: Any) -> Any:
        """One task: 6 support and 15 query texts."""
        seeds = [tf.random.fold_in(seed, i) for i in range(4)]
        order = tf.argsort(tf.random.stateless_uniform([16], seeds[0]))
        topics = order[:WAYS]
        labels = tf.tile(tf.range(WAYS), [SHOTS + QUERIES])
        shape = [WAYS * (SHOTS + QUERIES), WORDS]
        own = tf.random.stateless_uniform(shape, seeds[1], 0, 5, tf.int32)
        own += 5 * tf.gather(topics, labels)[:, None]
        idle = tf.random.stateless_uniform(shape, seeds[2], 80, 100, tf.int32)
        places = tf.argsort(tf.random.stateless_uniform(shape, seeds[3]), axis=1)
        texts = tf.where(places < 3, own, idle)
        support = WAYS * SHOTS
        task = {"support_x": texts[:support], "support_y": labels[:support]}
        return {**task, "query_x": texts[support:]}, labels[support:]


def network() -> keras.Model:
    """Self-attention over the words of a text, then their mean."""
    words = keras.Input([WORDS], dtype="int32")
    h = keras.layers.Embedding(100, 32)(words)
    seen = keras.layers.MultiHeadAttention(num_heads=2, key_dim=16)(h, h)
    h = keras.layers.LayerNormalization()(h + seen)
    h = keras.layers.GlobalAveragePooling1D()(h)
    h = keras.layers.Dense(32, activation="relu")(h)
    return keras.Model(words, keras.layers.Dense(WAYS)(h))


def main(arguments: list[str] | None = None) -> dict[str, mk.Evaluation]:
    """Trains and evaluates; returns the evaluations by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=600)
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = mk.MAML(network(), mk.InnerLoop(loss, mk.SGD(0.4), steps=2))
    new = mk.data.episodes(Topics(), batch_size=50, seed=2)
    how = {"steps": 4, "num_tasks": 200, "verbose": 0}
    results = {"before meta-training": mk.evaluate_episodes(maml, new, **how)}
    maml.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
    episodes = mk.data.episodes(Topics(), batch_size=16, seed=1)
    maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)
    results["after meta-training"] = mk.evaluate_episodes(maml, new, **how)
    for name, result in results.items():
        print(f"\n{name}, on new tasks:\n{result.table()}")
    return results


if __name__ == "__main__":
    main()
