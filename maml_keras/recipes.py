"""The published algorithms; each recipe is a composition of a few lines."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import keras

from maml_keras.inner.clipping import ClipByNorm
from maml_keras.inner.learned_rules import MetaCurvature, MetaSGD, PerStepSGD
from maml_keras.inner.loop import InnerLoop
from maml_keras.inner.ridge import RidgeHead
from maml_keras.inner.rules import SGD, Adam, UpdateRule
from maml_keras.inner.selectors import (
    Selector,
    all_but_batch_norm,
    all_but_last_layer,
    last_layer,
    matching,
)
from maml_keras.inner.starts import PrototypicalHead
from maml_keras.learner.losses import LossIdentifier
from maml_keras.models.context_layers import CONTEXT, check_context
from maml_keras.outer.implicit import Implicit
from maml_keras.outer.maml import MAML
from maml_keras.outer.meta_gradients import Backprop, FirstOrder, MetaGradient, Phases
from maml_keras.outer.objectives import MultiStep
from maml_keras.outer.reptile import Reptile

__all__ = [
    "anil",
    "boil",
    "cavia",
    "fomaml",
    "get",
    "imaml",
    "maml",
    "maml_plus_plus",
    "meta_curvature",
    "meta_sgd",
    "proto_maml",
    "prototypical",
    "reptile",
    "ridge",
]

# Each recipe takes a built model, the inner loss, the inner learning rate and the
# number of inner steps; `options` are further arguments of `MAML`. The recipes in
# `CLOSED_FORM` adapt in closed form, so their default is to take no steps.


def maml(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 0.01,
    *,
    steps: int = 1,
    adapt: Selector | None = None,
    **options: Any,
) -> MAML:
    """MAML of second order; all weights adapt unless `adapt` is another selector.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400

    >>> import maml_keras as mk
    >>> maml = mk.recipes.maml(mk.models.mlp(), "mse", 0.01)
    >>> adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    >>> len(adapted), len(maml.learner.variables)  # Weights that adapt, of all.
    (6, 6)
    """
    inner = InnerLoop(loss, SGD(learning_rate), steps=steps, adapt=adapt)
    return MAML(model, inner, **options)


def fomaml(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 0.01,
    *,
    steps: int = 1,
    adapt: Selector | None = None,
    **options: Any,
) -> MAML:
    """First-order MAML: the query gradient at the adapted weights.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400, section 5.2

    >>> import maml_keras as mk
    >>> maml = mk.recipes.fomaml(mk.models.mlp(), "mse", 0.01)
    >>> adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    >>> len(adapted), len(maml.learner.variables)  # Weights that adapt, of all.
    (6, 6)
    """
    inner = InnerLoop(loss, SGD(learning_rate), steps=steps, adapt=adapt)
    return MAML(model, inner, meta_gradient=FirstOrder(), **options)


def anil(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 0.01,
    *,
    steps: int = 1,
    **options: Any,
) -> MAML:
    """ANIL (almost no inner loop): only the last layer adapts.

    Reference: Raghu et al., 2020, https://arxiv.org/abs/1909.09157

    >>> import maml_keras as mk
    >>> maml = mk.recipes.anil(mk.models.mlp(), "mse", 0.01)
    >>> adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    >>> len(adapted), len(maml.learner.variables)  # Weights that adapt, of all.
    (2, 6)
    """
    inner = InnerLoop(loss, SGD(learning_rate), steps=steps, adapt=last_layer())
    return MAML(model, inner, **options)


def boil(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 0.01,
    *,
    steps: int = 1,
    **options: Any,
) -> MAML:
    """BOIL: only the body adapts, the last layer does not.

    Reference: Oh et al., 2021, https://arxiv.org/abs/2008.08882

    >>> import maml_keras as mk
    >>> maml = mk.recipes.boil(mk.models.mlp(), "mse", 0.01)
    >>> adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    >>> len(adapted), len(maml.learner.variables)  # Weights that adapt, of all.
    (4, 6)
    """
    adapt = all_but_last_layer()
    inner = InnerLoop(loss, SGD(learning_rate), steps=steps, adapt=adapt)
    return MAML(model, inner, **options)


def meta_sgd(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 0.01,
    *,
    steps: int = 1,
    **options: Any,
) -> MAML:
    """Meta-SGD: a learned rate for each weight.

    Reference: Li et al., 2017, https://arxiv.org/abs/1707.09835

    >>> import maml_keras as mk
    >>> maml = mk.recipes.meta_sgd(mk.models.mlp(), "mse", 0.01)
    >>> adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    >>> len(adapted), len(maml.learner.variables)  # Weights that adapt, of all.
    (6, 6)
    """
    inner = InnerLoop(loss, MetaSGD(learning_rate), steps=steps)
    return MAML(model, inner, **options)


def maml_plus_plus(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 0.01,
    *,
    steps: int = 5,
    steps_per_epoch: int = 500,
    multi_step_epochs: int = 15,
    first_order_epochs: int = 0,
    batch_norm: str = "per_step",
    **options: Any,
) -> MAML:
    """MAML++: rates per layer and step, a loss at each step, per-step batch norm.

    Batch norm has a scale and an offset for each step, which do not adapt. Each pass,
    also a query pass, normalises by its own batch, as in the paper's code. The policy
    `"per_step_running"` uses the moving statistics that the paper's text describes;
    with it, learned rates may diverge in evaluation.

    During the first `multi_step_epochs` the loss is a weighted sum over all steps,
    later the loss of the last step. During the first `first_order_epochs` the gradient
    is of first order: this is the paper's derivative-order annealing, which its
    released configurations and the presets do not use. For the paper's cosine schedule,
    pass `keras.optimizers.schedules.CosineDecay` to the outer optimizer.

    Reference: Antoniou et al., 2019, https://arxiv.org/abs/1810.09502

    >>> import maml_keras as mk
    >>> maml = mk.recipes.maml_plus_plus(mk.models.mlp(), "mse", 0.01)
    >>> adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    >>> len(adapted), len(maml.learner.variables)  # Weights that adapt, of all.
    (6, 6)
    """
    rule, adapt = PerStepSGD(learning_rate), all_but_batch_norm()
    inner = InnerLoop(loss, rule, steps=steps, adapt=adapt)
    annealed = MultiStep(epochs=multi_step_epochs, steps_per_epoch=steps_per_epoch)
    starts = sorted({0, first_order_epochs, multi_step_epochs})
    phases: list[MetaGradient] = []
    for start in starts:
        order = FirstOrder if start < first_order_epochs else Backprop
        phases.append(order(annealed if start < multi_step_epochs else None))
    phased = Phases(phases, until=[start * steps_per_epoch for start in starts[1:]])
    return MAML(model, inner, meta_gradient=phased, batch_norm=batch_norm, **options)


def reptile(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 0.001,
    *,
    steps: int = 5,
    **options: Any,
) -> MAML:
    """Reptile: moves towards the weights that the inner Adam reaches.

    For the paper's update, compile with `keras.optimizers.SGD(e)`, e up to 1. Reptile
    learns from support sets only, so make them larger than the support sets in tests.

    Reference: Nichol et al., 2018, https://arxiv.org/abs/1803.02999

    >>> import maml_keras as mk
    >>> maml = mk.recipes.reptile(mk.models.mlp(), "mse", 0.001)
    >>> adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    >>> len(adapted), len(maml.learner.variables)  # Weights that adapt, of all.
    (6, 6)
    """
    inner = InnerLoop(loss, Adam(learning_rate, beta_1=0.0), steps=steps)
    return MAML(model, inner, meta_gradient=Reptile(), **options)


def imaml(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 0.1,
    *,
    steps: int = 16,
    proximal: float = 2.0,
    cg_steps: int = 5,
    clip_norm: float | None = None,
    **options: Any,
) -> MAML:
    """Implicit MAML: solves the inner problem and does not differentiate its steps.

    The learning rate must be below `2 / curvature`, where `curvature` is the largest
    curvature of the support loss plus `proximal`. Otherwise the inner loop diverges.
    The meta-gradient does not warn of this, because it depends on the minimum and not
    on the steps. `clip_norm` bounds the norm of the inner gradient without moving the
    minimum.

    Reference: Rajeswaran et al., 2019, https://arxiv.org/abs/1909.04630

    >>> import maml_keras as mk
    >>> maml = mk.recipes.imaml(mk.models.mlp(), "mse", 0.1)
    >>> adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    >>> len(adapted), len(maml.learner.variables)  # Weights that adapt, of all.
    (6, 6)
    """
    rule: UpdateRule = SGD(learning_rate)
    if clip_norm is not None:
        rule = ClipByNorm(rule, clip_norm)
    inner = InnerLoop(loss, rule, steps=steps, proximal=proximal)
    return MAML(model, inner, meta_gradient=Implicit(cg_steps), **options)


def cavia(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 1.0,
    *,
    steps: int = 1,
    **options: Any,
) -> MAML:
    """CAVIA: only context parameters adapt; they start at zero for each task.

    The model must hold a context layer: use `models.mlp(context=5)`, or put a
    `ContextInput` or `ContextFilm` layer into your model.

    Raises:
        ValueError: if the model holds no trainable context layer.

    Reference: Zintgraf et al., 2019, https://arxiv.org/abs/1810.03642

    >>> import maml_keras as mk
    >>> maml = mk.recipes.cavia(mk.models.mlp(context=5), "mse", 1.0)
    >>> adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    >>> len(adapted), len(maml.learner.variables)  # Weights that adapt, of all.
    (1, 7)
    """
    check_context(model)
    adapt = matching(CONTEXT)
    inner = InnerLoop(loss, SGD(learning_rate), steps=steps, adapt=adapt)
    return MAML(model, inner, **options)


def proto_maml(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 0.01,
    *,
    steps: int = 1,
    **options: Any,
) -> MAML:
    """ProtoMAML: the head starts at the prototypes of the classes.

    Reference: Triantafillou et al., 2020, https://arxiv.org/abs/1903.03096

    >>> import maml_keras as mk
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> maml = mk.recipes.proto_maml(mk.models.mlp(outputs=5), loss, 0.01)
    >>> maml.inner.start_from.frees_ways
    True
    """
    start = PrototypicalHead()
    inner = InnerLoop(loss, SGD(learning_rate), steps=steps, start=start)
    return MAML(model, inner, **options)


def prototypical(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 0.0,
    *,
    steps: int = 0,
    **options: Any,
) -> MAML:
    """Prototypical networks: a query gets the class whose mean embedding is nearest.

    The probabilities are a softmax over the negative squared distances. No weight takes
    a step. With steps, gradient descent of the head goes on from the prototypes;
    `proto_maml` lets all weights adapt.

    Reference: Snell et al., 2017, https://arxiv.org/abs/1703.05175

    >>> import maml_keras as mk
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> maml = mk.recipes.prototypical(mk.models.mlp(outputs=5), loss)
    >>> maml.inner.steps
    0
    """
    how: dict[str, Any] = {"adapt": last_layer(), "start": PrototypicalHead()}
    inner = InnerLoop(loss, SGD(learning_rate), steps=steps, **how)
    return MAML(model, inner, **options)


def ridge(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 0.0,
    *,
    steps: int = 0,
    regularization: float = 1.0,
    scale: float = 1.0,
    **options: Any,
) -> MAML:
    """R2-D2: the head is the ridge regression of the support set, in closed form.

    `regularization` and `scale` are the initial values of learned numbers; see
    `RidgeHead`. No weight takes a step. With steps, gradient descent of the head goes
    on from the closed form.

    Reference: Bertinetto et al., 2019, https://arxiv.org/abs/1805.08136

    >>> import maml_keras as mk
    >>> maml = mk.recipes.ridge(mk.models.mlp(), "mse")
    >>> maml.inner.steps, len(maml.start.trainable_variables)
    (0, 3)
    """
    start = RidgeHead(regularization, scale)
    how: dict[str, Any] = {"adapt": last_layer(), "start": start}
    inner = InnerLoop(loss, SGD(learning_rate), steps=steps, **how)
    return MAML(model, inner, **options)


def meta_curvature(
    model: keras.Model,
    loss: LossIdentifier,
    learning_rate: float = 0.01,
    *,
    steps: int = 1,
    **options: Any,
) -> MAML:
    """Meta-Curvature: learned matrices transform the inner gradients.

    Reference: Park and Oliva, 2019, https://arxiv.org/abs/1902.03356

    >>> import maml_keras as mk
    >>> maml = mk.recipes.meta_curvature(mk.models.mlp(), "mse", 0.01)
    >>> adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    >>> len(adapted), len(maml.learner.variables)  # Weights that adapt, of all.
    (6, 6)
    """
    inner = InnerLoop(loss, MetaCurvature(learning_rate), steps=steps)
    return MAML(model, inner, **options)


RECIPES: dict[str, Callable[..., MAML]] = {
    recipe.__name__: recipe
    for recipe in (
        maml,
        fomaml,
        anil,
        boil,
        meta_sgd,
        maml_plus_plus,
        reptile,
        imaml,
        cavia,
        proto_maml,
        meta_curvature,
        prototypical,
        ridge,
    )
}
# Recipes that adapt in closed form, without inner steps.
CLOSED_FORM = frozenset({"prototypical", "ridge"})


def get(name: str) -> Callable[..., MAML]:
    """The recipe with the given name.

    Raises:
        ValueError: if no recipe has the name; the message suggests the nearest name.

    >>> get("anil") is anil
    True
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(
            f"`algorithm` must be one of {', '.join(RECIPES)}. Received: "
            f"{name!r}.{hint}"
        )
    return RECIPES[name]
