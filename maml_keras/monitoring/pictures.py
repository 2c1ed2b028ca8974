"""Views that draw pictures: fits, episodes with their predictions, heat maps."""

from __future__ import annotations

from typing import Any, final

import keras
import numpy as np
import tensorflow as tf

from maml_keras.evaluation.trace import InnerTrace, predictions_along
from maml_keras.monitoring import figures
from maml_keras.monitoring.look import Look
from maml_keras.monitoring.views import Board, View
from maml_keras.outer.maml import MAML

__all__ = ["Episodes", "Fits", "NormMap", "RateMap"]

POINTS = 100


@final
class Fits(View):
    """Fits of a few fixed regression tasks, step by step: the image `fits`.

    The tasks must map one number to one number, as sinusoids do. The curve between the
    examples is drawn, too, unless the model has batch norm: then the prediction for
    one input depends on the others.

    >>> from maml_keras import Watch
    >>> watch = Watch("logs", [], pictures=[Fits()])
    """

    def write(self, look: Look, board: Board, maml: MAML) -> None:
        trace = look.traces[look.main]
        if not _is_curve(trace):
            return
        e = trace.examples
        image = figures.fits(
            (e["support_x"][..., 0], _flat(e["support_y"])),
            (e["query_x"][..., 0], _flat(e["query_y"])),
            *_along_a_line(maml, trace),
            title=_title(look),
        )
        with board.part(look.main):
            tf.summary.image("fits", image[None])


@final
class Episodes(View):
    """A fixed episode with its predictions before and after: the image `episode`.

    The tasks must hold images with class numbers or one-hot rows. Each class has a
    row. A green frame marks a right prediction; a red frame marks a wrong one and
    shows the predicted class.

    >>> from maml_keras import Watch
    >>> watch = Watch("logs", [], pictures=[Episodes()])
    """

    def write(self, look: Look, board: Board, maml: MAML) -> None:
        trace = look.traces[look.main]
        if trace.chance is None or not _are_images(trace.examples):
            return
        e = {name: array[0] for name, array in trace.examples.items()}
        classes = e["predictions"].argmax(axis=-1)  # [K + 1, queries]
        image = figures.episode(
            (e["support_x"], _classes(e["support_y"])),
            (e["query_x"], _classes(e["query_y"])),
            {figures.after(k): classes[k] for k in (0, trace.steps)},
            title=_title(look),
        )
        with board.part(look.main):
            tf.summary.image("episode", image[None])


@final
class NormMap(View):
    """Gradient and update norms, layers by inner steps: the image `inner_norms`.

    >>> from maml_keras import Watch
    >>> watch = Watch("logs", [], pictures=[NormMap()])
    """

    def write(self, look: Look, board: Board, maml: MAML) -> None:
        trace = look.traces[look.main]
        kept = ~trace.diverged.any(axis=1)
        if not kept.any() or not trace.steps:
            return
        tables = {
            "norm of the inner gradient": trace.gradient_norms[kept].mean(axis=0),
            "norm of the update": trace.update_norms[kept].mean(axis=0),
        }
        image = figures.heat_maps(tables, trace.layers, log=True, title=_title(look))
        with board.part(look.main):
            tf.summary.image("inner_norms", image[None])


@final
class RateMap(View):
    """Learned rates, layers by inner steps: the image `inner_rates`.

    >>> from maml_keras import Watch
    >>> watch = Watch("logs", [], pictures=[RateMap()])
    """

    def write(self, look: Look, board: Board, maml: MAML) -> None:
        if look.rates is None:
            return
        image = figures.heat_maps(
            {"learned inner rate": look.rates.table},
            look.rates.layers,
            log=False,
            title=f"after {look.iteration:,} meta-steps",
        )
        with board.part():
            tf.summary.image("inner_rates", image[None])


def _title(look: Look) -> str:
    return f"{look.main} tasks after {look.iteration:,} meta-steps"


def _is_curve(trace: InnerTrace) -> bool:
    e = trace.examples
    return (
        trace.chance is None
        and _are_arrays(e)
        and e["query_x"].shape[2:] == (1,)
        and e["predictions"].shape[3:] in ((), (1,))
        and e["predictions"].dtype.kind == "f"
    )


def _are_images(examples: dict[str, Any]) -> bool:
    """Whether the examples are images with one class each."""
    if not _are_arrays(examples):
        return False
    x, y = examples["query_x"], examples["query_y"]
    one = y.shape[2:] in ((), (1,), examples["predictions"].shape[3:])
    return bool(one and x.ndim == 5 and x.shape[-1] in (1, 3))


def _classes(y: Any) -> Any:
    """Class numbers of targets `[n]`, `[n, 1]` or one-hot `[n, classes]`."""
    return y.argmax(axis=-1) if y.ndim == 2 and y.shape[1] > 1 else y.ravel()


def _are_arrays(examples: dict[str, Any]) -> bool:
    """Whether there is one input and one output; several cannot be drawn."""
    return all(isinstance(array, np.ndarray) for array in examples.values())


def _along_a_line(maml: MAML, trace: InnerTrace) -> tuple[Any, Any]:
    """x `[tasks, points]`, ascending, and predictions `[tasks, K + 1, points]`."""
    e = trace.examples
    layers = maml.model._flatten_layers()
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers):
        order = np.argsort(e["query_x"][..., 0], axis=1)
        x = np.take_along_axis(e["query_x"][..., 0], order, axis=1)
        y = e["predictions"].reshape(*e["predictions"].shape[:3])
        return x, np.take_along_axis(y, order[:, None], axis=2)
    both = np.concatenate([e["support_x"], e["query_x"]], axis=1)[..., 0]
    share = np.linspace(0.0, 1.0, POINTS, dtype=both.dtype)
    low, high = both.min(axis=1)[:, None], both.max(axis=1)[:, None]
    x = low + share * (high - low)
    task = {key: e[key] for key in ("support_x", "support_y")}
    y = predictions_along(maml, {**task, "query_x": x[..., None]}, steps=trace.steps)
    return x, y.reshape(*y.shape[:3])


def _flat(y: Any) -> Any:
    return y.reshape(*y.shape[:2])
