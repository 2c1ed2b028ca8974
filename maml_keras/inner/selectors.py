"""Selectors: which weights the inner loop adapts."""

from __future__ import annotations

import abc
import re
from collections.abc import Callable
from typing import Any

import keras

from maml_keras.backend.configured import Configured


class Selector(Configured, abc.ABC):
    """Chooses, among a model's trainable variables, those that adapt to a task.

    >>> class Biases(Selector):
    ...     def select(self, model):
    ...         return [v.name == "bias" for v in model.trainable_variables]
    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    >>> Biases().select(model)
    [False, True]
    """

    @abc.abstractmethod
    def select(self, model: keras.Model) -> list[bool]:
        """One bool for each of `model.trainable_variables`, True if it adapts."""

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


@keras.saving.register_keras_serializable(package="maml_keras")
class AllWeights(Selector):
    """All trainable variables adapt (MAML)."""

    def select(self, model: keras.Model) -> list[bool]:
        return [True] * len(model.trainable_variables)


@keras.saving.register_keras_serializable(package="maml_keras")
class LastLayer(Selector):
    """Only the last layer that has trainable weights adapts (ANIL)."""

    def select(self, model: keras.Model) -> list[bool]:
        last = {id(v) for v in _last_layer_variables(model)}
        return [id(v) in last for v in model.trainable_variables]


@keras.saving.register_keras_serializable(package="maml_keras")
class AllButLastLayer(Selector):
    """All weights adapt except those of the last trainable layer (BOIL)."""

    def select(self, model: keras.Model) -> list[bool]:
        selected = [not chosen for chosen in LastLayer().select(model)]
        return _at_least_one(selected, model, self)


@keras.saving.register_keras_serializable(package="maml_keras")
class AllButBatchNorm(Selector):
    """All weights adapt except scale and offset of batch norm."""

    def select(self, model: keras.Model) -> list[bool]:
        kept = {
            id(v)
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
            for v in layer.trainable_variables
        }
        selected = [id(v) not in kept for v in model.trainable_variables]
        return _at_least_one(selected, model, self)


@keras.saving.register_keras_serializable(package="maml_keras")
class Matching(Selector):
    """The variables whose path matches a regular expression adapt.

    Args:
        pattern: str, searched for in `variable.path`, such as `"dense_1/kernel"`.
    """

    def __init__(self, pattern: str) -> None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"`pattern` must be a regular expression. Received: "
                f"pattern={pattern!r} ({error})."
            ) from error
        self.pattern = pattern

    def select(self, model: keras.Model) -> list[bool]:
        selected = [
            re.search(self.pattern, v.path) is not None
            for v in model.trainable_variables
        ]
        return _at_least_one(selected, model, self)

    def get_config(self) -> dict[str, Any]:
        return {"pattern": self.pattern}


@keras.saving.register_keras_serializable(package="maml_keras")
class Satisfying(Selector):
    """The variables for which a function returns True adapt.

    Args:
        predicate: function of a `keras.Variable`, returns a bool. To save a model with
            this selector, register the function with Keras.
    """

    def __init__(self, predicate: Callable[[Any], bool]) -> None:
        if not callable(predicate):
            raise TypeError(
                "`predicate` must be a function of a variable, such as "
                f"`lambda v: 'bias' in v.path`. Received: {predicate!r}."
            )
        self.predicate = predicate

    def select(self, model: keras.Model) -> list[bool]:
        selected = [bool(self.predicate(v)) for v in model.trainable_variables]
        return _at_least_one(selected, model, self)

    def get_config(self) -> dict[str, Any]:
        return {"predicate": keras.saving.serialize_keras_object(self.predicate)}

    def __repr__(self) -> str:
        return f"Satisfying({getattr(self.predicate, '__name__', self.predicate)})"


def all_weights() -> AllWeights:
    """All trainable variables adapt: MAML, https://arxiv.org/abs/1703.03400.

    >>> import maml_keras as mk
    >>> mk.all_weights().select(mk.models.mlp())
    [True, True, True, True, True, True]
    """
    return AllWeights()


def last_layer() -> LastLayer:
    """Only the head adapts: ANIL (Raghu et al., 2020), arXiv 1909.09157.

    The head is the last layer with trainable variables in the order of `model.layers`.
    If your model has another order, name the head with `matching`.

    >>> import maml_keras as mk
    >>> mk.last_layer().select(mk.models.mlp())
    [False, False, False, False, True, True]
    """
    return LastLayer()


def all_but_last_layer() -> AllButLastLayer:
    """Only the body adapts: BOIL (Oh et al., 2021), arXiv 2008.08882.

    >>> import maml_keras as mk
    >>> mk.all_but_last_layer().select(mk.models.mlp())
    [True, True, True, True, False, False]
    """
    return AllButLastLayer()


def all_but_batch_norm() -> AllButBatchNorm:
    """All weights adapt except scale and offset of batch norm, which are meta-learned.

    The code of MAML and MAML++ does so, too.

    >>> layers = [keras.Input([2]), keras.layers.BatchNormalization()]
    >>> model = keras.Sequential([*layers, keras.layers.Dense(1)])
    >>> all_but_batch_norm().select(model)
    [False, False, True, True]
    """
    return AllButBatchNorm()


def matching(pattern: str) -> Matching:
    r"""The variables whose path matches a regular expression adapt.

    Args:
        pattern: str, searched for in `variable.path`.

    Returns:
        A selector.

    Raises:
        ValueError: if `pattern` is not a regular expression, or, at use, if no
            variable matches.

    >>> matching(r"head/(kernel|bias)$")
    Matching(pattern='head/(kernel|bias)$')
    """
    return Matching(pattern)


def satisfying(predicate: Callable[[Any], bool]) -> Satisfying:
    """The variables for which a function returns True adapt.

    Args:
        predicate: function of a `keras.Variable`, returns a bool.

    Returns:
        A selector.

    Raises:
        TypeError: if `predicate` cannot be called.
        ValueError: at use, if the function chooses no variable.

    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    >>> satisfying(lambda v: "bias" in v.path).select(model)
    [False, True]
    """
    return Satisfying(predicate)


def _last_layer_variables(model: keras.Model) -> list[Any]:
    trainable = {id(v) for v in model.trainable_variables}
    for layer in reversed(model.layers):
        if isinstance(layer, keras.Model) and layer.layers:
            found = _last_layer_variables(layer)
        else:
            found = list(layer.trainable_variables)
        found = [v for v in found if id(v) in trainable]
        if found:
            return found
    raise ValueError(
        "The model must have a last layer with trainable variables. Received: "
        f"'{model.name}', whose layers have none. Choose the weights with "
        "`matching(regex)`."
    )


def _at_least_one(
    selected: list[bool], model: keras.Model, selector: Selector
) -> list[bool]:
    if not any(selected):
        paths = ", ".join(v.path for v in model.trainable_variables)
        raise ValueError(
            f"`adapt` must choose at least one trainable weight. Received: {selector}, "
            f"which chooses none of: {paths}."
        )
    return selected
