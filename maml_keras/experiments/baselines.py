"""Baselines for meta-learning: random weights, joint pretraining and an oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras import data
from maml_keras.data.few_shot import with_rotations
from maml_keras.data.pipeline_options import untuned
from maml_keras.execution import fused_steps
from maml_keras.experiments.preset import Families, Preset
from maml_keras.inner.loop import InnerLoop
from maml_keras.inner.rules import SGD
from maml_keras.learner.losses import LossIdentifier, PureLoss
from maml_keras.outer.maml import MAML


def train_jointly(
    model: keras.Model,
    loss: LossIdentifier,
    episodes: Any,
    *,
    iterations: int,
    learning_rate: float = 1e-3,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains one network on the examples of all tasks together, without adaptation.

    `min_theta mean_i loss(support_i and query_i; theta)`. With random sinusoids the
    best answer is the mean of all curves. To compare the trained network with a
    meta-learned one, wrap it in `MAML` and evaluate both.

    Args:
        model: a built model; its weights are trained in place.
        loss: any Keras loss identifier, a `keras.losses.Loss` or `f(y_true, y_pred)`.
        episodes: an endless `tf.data.Dataset` of batches `(task, query_y)`.
        iterations: int, gradient steps, each on all examples of one batch.
        learning_rate: float, of Adam.
        verbose: as in `keras.Model.fit`.
        callbacks: as in `keras.Model.fit`.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400, section 5.1
    """

    def pooled(task: dict[str, Any], query_y: Any) -> tuple[Any, Any]:
        return (
            _joined(task["support_x"], task["query_x"]),
            _joined(task["support_y"], query_y),
        )

    model.compile(
        keras.optimizers.Adam(learning_rate),
        loss,
        steps_per_execution=fused_steps.steps_of(iterations),
    )
    data = episodes.map(pooled, num_parallel_calls=tf.data.AUTOTUNE)
    model.fit(
        data.prefetch(2),
        steps_per_epoch=iterations,
        shuffle=False,
        verbose=verbose,
        callbacks=list(callbacks),
    )


def random_initialisation(
    preset: Preset,
    *,
    seed: int = 0,
    data_dir: Any = None,
    download: bool = False,
    verbose: str | int = "auto",
    **_: Any,
) -> tuple[MAML, Families]:
    """The preset's network with fresh weights of Keras's default size, untrained.

    Args:
        preset: gives the network, the inner loop and the tasks.
        seed: int, draws the weights.
        data_dir: str, folder of the TFDS data sets.
        download: bool, whether TFDS may download.
        verbose: 0 for silence, else a progress bar while data is prepared.

    Returns:
        A model to evaluate, and the task families to evaluate it on.
    """
    keras.utils.set_random_seed(seed)
    maml = preset.build()
    # The papers initialise with tiny weights, which hardly move in ten steps: they
    # would make a baseline that is too weak.
    glorot = keras.initializers.GlorotUniform(seed=seed)
    for variable in maml.model.trainable_variables:
        if variable.path.endswith("kernel"):
            variable.assign(glorot(variable.shape, variable.dtype))
    families = preset.families(data_dir=data_dir, download=download, verbose=verbose)
    return maml, families


def joint_pretraining(
    preset: Preset,
    *,
    iterations: int | None = None,
    seed: int = 0,
    data_dir: Any = None,
    download: bool = False,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[MAML, Families]:
    """One network trained on all training tasks together; evaluation fine-tunes it.

    For regression, the network learns the examples of all tasks without adaptation.
    For classes, it learns to tell all training classes apart, and then a fresh head
    replaces the trained one.

    Args:
        preset: gives the network, the data and the inner loop.
        iterations: int, gradient steps; None for the preset's meta-steps.
        seed: int, draws weights and data.
        data_dir: str, folder of the TFDS data sets.
        download: bool, whether TFDS may download.
        verbose: as in `keras.Model.fit`.
        callbacks: as in `keras.Model.fit`.

    Returns:
        A model to evaluate, and the task families to evaluate it on.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400, section 5.1
    """
    keras.utils.set_random_seed(seed)
    families = preset.families(data_dir=data_dir, download=download, verbose=verbose)
    iterations = preset.iterations if iterations is None else iterations
    maml = preset.build(iterations=iterations)
    if isinstance(families.train, data.NWayKShot):
        _pretrain_on_classes(
            maml, preset, families.train, iterations, seed, verbose, callbacks
        )
    else:
        train_jointly(
            maml.model,
            maml.inner.loss.identifier,
            data.episodes(families.train, batch_size=preset.tasks, seed=1_000 + seed),
            iterations=iterations,
            verbose=verbose,
            callbacks=callbacks,
        )
    return maml, families


def sinusoid_oracle(
    preset: Preset,
    *,
    iterations: int | None = None,
    seed: int = 0,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **where: Any,
) -> tuple[MAML, Families]:
    """A network whose inputs include amplitude and phase: the bound for any learner.

    Args:
        preset: a sinusoid preset.
        iterations: int, gradient steps; None for the preset's meta-steps.
        seed: int, draws weights and data.
        verbose: as in `keras.Model.fit`.
        callbacks: as in `keras.Model.fit`.

    Returns:
        A model whose inner learning rate is 0, so that its adaptation curve is flat,
        and task families whose inputs hold the parameters.

    Raises:
        ValueError: if the preset's tasks are not sinusoids.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400, section 5.1
    """
    families = _oracle_families(preset, **where)
    keras.utils.set_random_seed(seed)
    model = preset.model(inputs=3)
    train_jointly(
        model,
        "mse",
        data.episodes(families.train, batch_size=preset.tasks, seed=1_000 + seed),
        iterations=preset.iterations if iterations is None else iterations,
        verbose=verbose,
        callbacks=callbacks,
    )
    # The oracle does not adapt, so its inner rate is zero.
    return MAML(model, InnerLoop("mse", SGD(0.0))), families


BASELINES: dict[str, Callable[..., tuple[MAML, Families]]] = {
    "random": random_initialisation,
    "pretrained": joint_pretraining,
    "oracle": sinusoid_oracle,
}


def families(name: str, preset: Preset, **where: Any) -> Families:
    """The task families that a baseline is evaluated on.

    Args:
        name: str, a key of `BASELINES`.
        preset: gives the tasks.
        **where: `data_dir`, `download` and `verbose`, as in `Preset.families`.

    Raises:
        ValueError: if the baseline does not suit the preset's tasks.
    """
    if BASELINES[name] is sinusoid_oracle:
        return _oracle_families(preset, **where)
    return preset.families(**where)


def _oracle_families(preset: Preset, **where: Any) -> Families:
    """The preset's sinusoids, with amplitude and phase among the inputs."""
    oracles = []
    # A loss of classes excludes sinusoids, so the data of classes is not even loaded.
    if not PureLoss(preset.loss()).is_sparse_categorical:
        oracles = [
            data.SinusoidOracle(family)
            for family in preset.families(**where)
            if isinstance(family, data.Sinusoid)
        ]
    if not oracles:
        raise ValueError(
            "The baseline 'oracle' needs a preset of sinusoids, whose parameters it "
            f"reads. Received: preset '{preset.name}'. Leave the oracle out."
        )
    return Families(*oracles)


def _pretrain_on_classes(
    maml: MAML,
    preset: Preset,
    family: data.NWayKShot,
    iterations: int,
    seed: int,
    verbose: str | int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    pool = family.pool
    examples, classes = pool.examples, pool.num_classes
    labels = np.repeat(np.arange(classes), pool.counts)
    if family.rotate_classes:
        # Episodes treat each rotation of a class as a new class; so does this one.
        examples = with_rotations(examples)
        labels = np.concatenate([labels + turn * classes for turn in range(4)])
        classes *= 4
    model = preset.model(ways=classes)
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images = tf.data.Dataset.from_tensor_slices((examples, labels))
    scale = 255.0 if examples.dtype == np.uint8 else 1.0
    batches = (
        images.shuffle(len(labels), seed=seed)
        .repeat()
        .batch(128)
        .map(lambda x, y: (tf.cast(x, tf.float32) / scale, y))
        .prefetch(2)
    )
    model.fit(
        untuned(batches),
        steps_per_epoch=iterations,
        shuffle=False,  # The dataset is shuffled already.
        verbose=verbose,
        callbacks=list(callbacks),
    )
    # The body takes the trained values; the head keeps its fresh ones.
    for ours, theirs in zip(maml.model.variables, model.variables):
        if ours.shape == theirs.shape and "head" not in ours.path:
            ours.assign(theirs)


def _joined(support: Any, query: Any) -> Any:
    both = tf.concat([support, query], axis=1)
    return tf.reshape(both, tf.concat([[-1], tf.shape(both)[2:]], axis=0))
