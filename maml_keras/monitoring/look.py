"""A look at a model in training: the numbers that views write and diagnoses judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maml_keras.evaluation.trace import InnerTrace
from maml_keras.evaluation.trace_recording import owners
from maml_keras.outer.maml import MAML


@dataclass(frozen=True)
class LearnedRates:
    """The present values of the meta-learned inner rates.

    Attributes:
        layers: paths of the layers that adapt.
        table: `[steps, layers]`, the mean rate of a layer's weights at each inner step;
            one row if the steps share their rates.
        start: `[steps, layers]`, the table at the start of training.
        values: for each layer, all its rates in one array.
    """

    layers: tuple[str, ...]
    table: Any
    start: Any
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """The state of a model after some meta-steps.

    Attributes:
        iteration: int, meta-steps taken.
        traces: an `InnerTrace` by the name of its dataset, such as `"validation"`.
        rates: the learned rates, or None if the rule learns none.
        trained_steps: int, inner steps in training.
        blank_start: bool, whether step 0 has not used the support set and so cannot
            know a task's labels.
        bad_tasks: int, training tasks that `MAML(bad_tasks="skip")` has left out since
            the look before.
        references: an `InnerTrace` on the main dataset of each network without
            meta-training, by what it is; empty if training did not begin here.
        progress: float, the share of the run's epochs that are over.
    """

    iteration: int
    traces: Mapping[str, InnerTrace]
    rates: LearnedRates | None = None
    trained_steps: int = 1
    blank_start: bool = True
    bad_tasks: int = 0
    references: Mapping[str, InnerTrace] = field(default_factory=dict)
    progress: float = 0.0

    @property
    def main(self) -> str:
        """The name of the dataset that is drawn, and whose mean goes to the logs."""
        return main_of(self.traces)


def main_of(parts: Mapping[str, Any]) -> str:
    """The name of the main dataset: `"validation"`, or else the last.

    >>> main_of({"validation": 1, "train": 2}), main_of({"a": 1, "b": 2})
    ('validation', 'b')
    """
    return "validation" if "validation" in parts else list(parts)[-1]


def learned_rates(maml: MAML, start: Any = None) -> LearnedRates | None:
    """The rates that a model has learned, or None if its rule learns none.

    Args:
        maml: the model.
        start: None, or an earlier table of rates to compare with.

    >>> from maml_keras import InnerLoop, MetaSGD, models
    >>> maml = MAML(models.mlp(hidden=[4]), InnerLoop("mse", MetaSGD(0.5)))
    >>> rates = learned_rates(maml)
    >>> len(rates.layers), rates.table.tolist()
    (2, [[0.5, 0.5]])
    """
    rates = [np.asarray(r, dtype=np.float32) for r in maml.rule.learned_rates()]
    if not rates:
        return None
    adapted = maml.inner.selected(maml.learner, maml.learner.variables)
    paths = [v.path for v in adapted]
    layers = owners(paths)
    values = {
        layer: [r for r, path in zip(rates, paths) if owners([path]) == (layer,)]
        for layer in layers
    }
    means = [
        # The mean is over all weights of a layer, not over its variables.
        np.concatenate([r.reshape(len(r), -1) for r in values[layer]], axis=1).mean(1)
        for layer in layers
    ]
    table = np.stack(means, axis=1)
    return LearnedRates(
        layers,
        table,
        table if start is None else start,
        {layer: np.concatenate([r.ravel() for r in v]) for layer, v in values.items()},
    )
