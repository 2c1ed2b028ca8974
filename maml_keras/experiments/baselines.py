"""Baselines for meta-learning: random weights, pretraining and an oracle."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from maml_keras import data
from maml_keras.data.class_numbers import holds_classes
from maml_keras.experiments import own_settings
from maml_keras.experiments.own_settings import Choice, Grid
from maml_keras.experiments.preset import Families, Preset
from maml_keras.experiments.pretraining import (
    features_of,
    train_jointly,
    train_on_classes,
)
from maml_keras.inner.loop import InnerLoop
from maml_keras.inner.rules import SGD
from maml_keras.inner.selectors import last_layer
from maml_keras.inner.starts import PrototypicalHead
from maml_keras.learner.losses import PureLoss
from maml_keras.outer.maml import MAML


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

    The inner rate and the number of steps are chosen on validation tasks.

    Args:
        preset: gives the network, the inner loop and the tasks.
        seed: int, draws the weights.
        data_dir: str, folder of the TFDS data sets.
        download: bool, whether TFDS may download.
        verbose: 0 for silence, else a progress bar while data is prepared.

    Returns:
        A model to evaluate, and the task families to evaluate it on. The model's
        `inner.steps` is the number of steps that was chosen.
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
    return own_settings.with_own_settings(maml, preset, families), families


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
    replaces the trained one. The inner rate and the number of steps are chosen on
    validation tasks.

    Args:
        preset: gives the network, the data and the inner loop.
        iterations: int, gradient steps; None for the preset's meta-steps.
        seed: int, draws weights and data.
        data_dir: str, folder of the TFDS data sets.
        download: bool, whether TFDS may download.
        verbose: as in `keras.Model.fit`.
        callbacks: as in `keras.Model.fit`.

    Returns:
        A model to evaluate, and the task families to evaluate it on. The model's
        `inner.steps` is the number of steps that was chosen.

    Raises:
        ValueError: if the tasks are of classes whose numbers the training family
            cannot tell (`TaskFamily.class_numbers`).

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400, section 5.1
    """
    maml, families = _pretrained(
        preset,
        iterations=iterations,
        seed=seed,
        verbose=verbose,
        callbacks=callbacks,
        data_dir=data_dir,
        download=download,
    )
    return own_settings.with_own_settings(maml, preset, families), families


def nearest_class_mean(
    preset: Preset,
    *,
    iterations: int | None = None,
    seed: int = 0,
    data_dir: Any = None,
    download: bool = False,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[MAML, Families]:
    """The pretrained network's features; a query gets the class with the nearest mean.

    The network is trained as `joint_pretraining` trains it. No weight adapts to a task.

    Args:
        preset: gives the network and the data; its tasks must be of classes.
        iterations: int, gradient steps; None for the preset's meta-steps.
        seed: int, draws weights and data.
        data_dir: str, folder of the TFDS data sets.
        download: bool, whether TFDS may download.
        verbose: as in `keras.Model.fit`.
        callbacks: as in `keras.Model.fit`.

    Returns:
        A model whose inner learning rate is 0, so that its adaptation curve is flat,
        and the task families to evaluate it on.

    Raises:
        ValueError: if the tasks are not of classes, if the training family cannot tell
            their numbers, or if the network does not end in a dense layer.

    Reference: Snell et al., 2017, https://arxiv.org/abs/1703.05175

    >>> from maml_keras.experiments import get
    >>> nearest_class_mean(get("sinusoid"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: The baseline 'prototypes' needs tasks of classes: class numbers as ...
    """
    _check_prototypes(preset)
    trained, families = _pretrained(
        preset,
        iterations=iterations,
        seed=seed,
        verbose=verbose,
        callbacks=callbacks,
        data_dir=data_dir,
        download=download,
    )
    loop = InnerLoop(preset.loss(), SGD(0.0), steps=0, start=PrototypicalHead())
    return MAML(trained.model, loop, batch_norm=_policy(preset)), families


def linear_probe(
    preset: Preset,
    *,
    iterations: int | None = None,
    seed: int = 0,
    data_dir: Any = None,
    download: bool = False,
    verbose: str | int = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[MAML, Families]:
    """The pretrained network, of which the last layer alone is fitted to a task.

    `min_W loss(support; W f(x)) + regularization / 2 * |W - W_0|^2`, by gradient
    descent. The network is trained as `joint_pretraining` trains it. For classes the
    last layer starts at `W_0 = 0`, which makes this a logistic regression on the
    features; for regression it starts at its trained weights. The rate, the number of
    steps and the regularisation are chosen on validation tasks.

    Args:
        preset: gives the network and the data.
        iterations: int, gradient steps; None for the preset's meta-steps.
        seed: int, draws weights and data.
        data_dir: str, folder of the TFDS data sets.
        download: bool, whether TFDS may download.
        verbose: as in `keras.Model.fit`.
        callbacks: as in `keras.Model.fit`.

    Returns:
        A model to evaluate, and the task families to evaluate it on. The model's
        `inner` has the settings that were chosen.

    Raises:
        ValueError: as `joint_pretraining`.

    Reference: Chen et al., 2019, https://arxiv.org/abs/1904.04232; Tian et al., 2020,
    https://arxiv.org/abs/2003.11539
    """
    trained, families = _pretrained(
        preset,
        iterations=iterations,
        seed=seed,
        verbose=verbose,
        callbacks=callbacks,
        data_dir=data_dir,
        download=download,
    )
    model = trained.model
    if _class_numbers(preset, families.train) is not None:
        chosen = last_layer().select(model)
        for variable in itertools.compress(model.trainable_variables, chosen):
            variable.assign(keras.ops.zeros_like(variable))

    def probe(choice: Choice) -> MAML:
        loop = InnerLoop(
            preset.loss(),
            SGD(choice.learning_rate),
            steps=choice.steps,
            adapt=last_layer(),
            proximal=choice.regularization,
        )
        return MAML(model, loop, batch_norm=_policy(preset))

    grid = grid_of(["linear_probe"], preset)
    first = probe(Choice(preset.inner_rate, preset.inner_steps))
    return probe(own_settings.best(first, families.validation, grid)), families


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
        ValueError: if the preset's tasks are not sinusoids, or its `model` has no
            argument `inputs`.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400, section 5.1

    >>> from maml_keras.experiments import get
    >>> sinusoid_oracle(get("omniglot_small"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: The baseline 'oracle' needs a preset of sinusoids, whose parameters ...
    """
    families = _oracle_families(preset, **where)
    keras.utils.set_random_seed(seed)
    model = preset.model(inputs=3)
    train_jointly(
        model,
        preset.loss(),
        data.episodes(families.train, batch_size=preset.tasks, seed=1_000 + seed),
        iterations=preset.iterations if iterations is None else iterations,
        verbose=verbose,
        callbacks=callbacks,
    )
    # The oracle does not adapt, so its inner rate is zero.
    return MAML(model, InnerLoop(preset.loss(), SGD(0.0))), families


BASELINES: dict[str, Callable[..., tuple[MAML, Families]]] = {
    "random": random_initialisation,
    "pretrained": joint_pretraining,
    "linear_probe": linear_probe,
    "prototypes": nearest_class_mean,
    "oracle": sinusoid_oracle,
}
# Baselines that choose their inner rate and steps on validation tasks.
CHOOSING = {"random", "pretrained", "linear_probe"}
# Among these a linear probe chooses, besides.
REGULARIZATIONS = 0.0, 0.01, 0.1, 1.0


def grid_of(names: Iterable[str], preset: Preset) -> Grid:
    """The settings among which the named baselines choose.

    >>> from maml_keras.experiments import get
    >>> grid_of(["linear_probe"], get("sinusoid")).regularizations
    (0.0, 0.01, 0.1, 1.0)
    """
    pulls = REGULARIZATIONS if "linear_probe" in names else (0.0,)
    return own_settings.grid(preset, pulls)


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


def check(name: str, preset: Preset, **where: Any) -> None:
    """Refuses a baseline that does not suit the preset, before anything is trained.

    Args:
        name: str, a key of `BASELINES`.
        preset: gives the tasks and the network.
        **where: `data_dir`, `download` and `verbose`, as in `Preset.families`.

    Raises:
        ValueError: if the baseline does not suit the preset.
    """
    if name == "oracle":
        _oracle_families(preset, **where)
    if name == "prototypes":
        _check_prototypes(preset)
    if name in ("pretrained", "linear_probe", "prototypes"):
        numbers = _class_numbers(preset, preset.families(**where).train)
        if numbers is not None:
            features_of(preset.build().model)


def _pretrained(
    preset: Preset,
    *,
    iterations: int | None,
    seed: int,
    verbose: str | int,
    callbacks: Sequence[keras.callbacks.Callback],
    **where: Any,
) -> tuple[MAML, Families]:
    """The network after training on all tasks together, with the preset's settings."""
    keras.utils.set_random_seed(seed)
    families = preset.families(**where, verbose=verbose)
    iterations = preset.iterations if iterations is None else iterations
    maml = preset.build(iterations=iterations)
    numbers = _class_numbers(preset, families.train)
    if numbers is not None:
        train_on_classes(
            maml.model,
            numbers,
            iterations=iterations,
            seed=seed,
            verbose=verbose,
            callbacks=callbacks,
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


def _class_numbers(preset: Preset, family: data.TaskFamily) -> data.ClassNumbers | None:
    """The class numbers of the training tasks; None if the tasks are regression.

    The loss shows classes, and so does the family, whatever the loss is.
    """
    return (
        family.class_numbers()
        if _is_of_classes(preset) or holds_classes(family)
        else None
    )


def _policy(preset: Preset) -> Any:
    """The batch-norm policy of MAML in the preset."""
    return preset.variation("maml").options.get("batch_norm", "transductive")


def _is_of_classes(preset: Preset) -> bool:
    loss = PureLoss(preset.loss())
    return loss.is_sparse_categorical or loss.is_categorical


def _check_prototypes(preset: Preset) -> None:
    if not PureLoss(preset.loss()).is_sparse_categorical:
        raise ValueError(
            "The baseline 'prototypes' needs tasks of classes: class numbers as "
            "targets, and a sparse categorical cross-entropy. Received: preset "
            f"'{preset.name}'. Leave the prototypes out; `pretrained` suits "
            "regression."
        )
    PrototypicalHead().check(preset.build().model)


def _oracle_families(preset: Preset, **where: Any) -> Families:
    """The preset's sinusoids, with amplitude and phase among the inputs."""
    families: Sequence[Any] = ()
    # A loss of classes excludes sinusoids, so the data of classes is not even loaded.
    if not _is_of_classes(preset):
        families = preset.families(**where)
    if not families or not all(isinstance(f, data.Sinusoid) for f in families):
        raise ValueError(
            "The baseline 'oracle' needs a preset of sinusoids, whose parameters it "
            f"reads: each family a `Sinusoid`. Received: preset '{preset.name}'. Leave "
            "the oracle out."
        )
    try:
        inspect.signature(preset.model).bind(inputs=3)
    except TypeError as error:
        raise ValueError(
            "The baseline 'oracle' needs a network for three inputs: `preset.model("
            f"inputs=3)`. Received: preset '{preset.name}', whose `model` has no "
            "argument `inputs`. Add it, or leave the oracle out."
        ) from error
    return Families(*map(data.SinusoidOracle, families))
