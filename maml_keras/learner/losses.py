"""A Keras loss as a pure function of tensors."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from maml_keras.backend.cross_entropy import exact_cross_entropy
from maml_keras.backend.moments import exact_moments
from maml_keras.backend.projective_transforms import exact_projections
from maml_keras.backend.resizing import exact_resizing
from maml_keras.learner.known_targets import KnownTargets, without_missing
from maml_keras.learner.loss_configs import loss_config
from maml_keras.learner.masks import expanded, reduced, together
from maml_keras.learner.weights import are_weights

ELEMENTWISE = (
    "binary_crossentropy huber huber_loss log_cosh mean_absolute_error "
    "mean_absolute_percentage_error mean_squared_error "
    "mean_squared_logarithmic_error poisson"
).split()

# The name scope of a loss in a graph, by which an error names it.
SCOPE = "loss"

LossIdentifier: TypeAlias = (
    str | keras.losses.Loss | Callable[[Any, Any], Any] | dict[str, Any] | list[Any]
)


class PureLoss:
    """The mean loss over the examples of one task, without state or scaling.

    Under a distribution strategy, `keras.losses.Loss` divides by the number of
    replicas, which would silently shrink inner steps. So `PureLoss` takes the values
    before Keras reduces them, and reduces the values itself.

    Args:
        identifier: any Keras loss identifier (`"mse"`), a `keras.losses.Loss`, or a
            function `f(y_true, y_pred)` that returns a value for each example or a
            scalar. For several outputs: a dict or list of these, which are summed.

    Raises:
        ValueError: if Keras has no loss with the identifier.

    >>> loss = PureLoss("mse")
    >>> float(loss(tf.constant([[1.0], [2.0]]), tf.constant([[1.0], [4.0]])))
    2.0
    """

    def __init__(self, identifier: LossIdentifier) -> None:
        if identifier is None:
            raise ValueError(
                "`loss` must be a Keras loss identifier, a `keras.losses.Loss`, a "
                "function f(y_true, y_pred), or a dict or list of these. "
                "Received: loss=None."
            )
        self.identifier = identifier
        self._parts: Any
        if isinstance(identifier, dict):
            self._parts = {key: PureLoss(part) for key, part in identifier.items()}
        elif isinstance(identifier, (list, tuple)):
            self._parts = [PureLoss(part) for part in identifier]
        else:
            self._parts = None
            self._function = keras.losses.get(identifier)
            # One loss for several outputs applies to each output. But a function gets
            # all outputs at once.
            kinds = (str, keras.losses.Loss, KnownTargets)
            self._per_output = isinstance(identifier, kinds)

    @property
    def name(self) -> str:
        """The name in Keras, such as `mean_squared_error`; `sum` for several losses."""
        if self._parts is not None:
            return "sum"
        function = self._function
        while isinstance(function, functools.partial):
            function = function.func
        own = getattr(function, "name", None) or getattr(function, "__name__", None)
        return str(own or type(function).__name__)

    @property
    def parts(self) -> dict[str, PureLoss] | list[PureLoss] | None:
        """The losses of several outputs, by key or in order; None for a single loss."""
        parts: dict[str, PureLoss] | list[PureLoss] | None = self._parts
        return parts

    @property
    def is_sparse_categorical(self) -> bool:
        """True if targets are class numbers and the last axis of outputs is classes."""
        function = None if self._parts is not None else self._function
        return "sparse_categorical_crossentropy" in self.name or isinstance(
            function, keras.losses.SparseCategoricalCrossentropy
        )

    @property
    def is_categorical(self) -> bool:
        """True if targets are one-hot rows, as wide as the outputs."""
        kinds = (
            keras.losses.CategoricalCrossentropy,
            keras.losses.CategoricalFocalCrossentropy,
        )
        function = None if self._parts is not None else self._function
        by_name = self.name in (
            "categorical_crossentropy",
            "categorical_focal_crossentropy",
        )
        return by_name or isinstance(function, kinds)

    @property
    def decision(self) -> float | None:
        """The prediction from which a binary cross-entropy decides for 1, or None.

        That is 0 for logits and 0.5 for probabilities; None for other losses.
        """
        function = None if self._parts is not None else self._function
        if isinstance(function, KnownTargets):
            return PureLoss(function.function).decision
        kinds = keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy
        if isinstance(function, kinds):
            return 0.0 if function.from_logits else 0.5
        names = "binary_crossentropy", "binary_focal_crossentropy"
        if function is None or self.name not in names:
            return None
        options = getattr(function, "keywords", {})  # A partial function has them.
        return 0.0 if options.get("from_logits") else 0.5

    @property
    def from_logits(self) -> bool:
        """True if a cross-entropy takes logits, False if it takes probabilities."""
        function = None if self._parts is not None else self._function
        if isinstance(function, KnownTargets):
            return PureLoss(function.function).from_logits
        options = getattr(function, "keywords", {})  # A partial function has them.
        return bool(getattr(function, "from_logits", options.get("from_logits", False)))

    @property
    def is_elementwise(self) -> bool:
        """True for losses of Keras that compare each output with a target."""
        return self._parts is None and self._per_output and self.name in ELEMENTWISE

    @property
    def tells_targets(self) -> bool:
        """True if the shape of the targets follows from the shape of the outputs.

        A function of your own may take targets of any width, such as one number for
        a mean and a variance.
        """
        if self._parts is not None:
            parts = (
                self._parts.values() if isinstance(self._parts, dict) else self._parts
            )
            return all(part.tells_targets for part in parts)
        return self.is_elementwise or self.is_categorical or self.is_sparse_categorical

    @property
    def ignored_class(self) -> int | None:
        """The class number whose examples the loss ignores, or None."""
        function = None if self._parts is not None else self._function
        if isinstance(function, functools.partial):
            return function.keywords.get("ignore_class")
        return getattr(function, "ignore_class", None)

    @property
    def takes_missing(self) -> bool:
        """True if the loss leaves out a target of NaN."""
        return self._parts is None and isinstance(self._function, KnownTargets)

    def counted(self, y: Any) -> Any:
        """Targets with 0 in place of each NaN that the loss leaves out.

        Args:
            y: targets `[examples, ...]`, or a nest of such for several outputs.
        """
        if isinstance(self._parts, dict):
            parts = self._parts.items()
            return {**y, **{key: part.counted(y[key]) for key, part in parts}}
        if self._parts is not None:
            return [part.counted(one) for part, one in zip(self._parts, y)]
        if not self.takes_missing:
            return y
        return tf.nest.map_structure(without_missing, y)

    def class_numbers(
        self, y_true: Any, y_pred: Any
    ) -> list[tuple[Any, int, int | None]]:
        """The arrays of class numbers among the targets, with their number of classes.

        Args:
            y_true: targets, `[examples, ...]`, or a nest of such for several outputs.
            y_pred: predictions, or their specs; only the shapes are used.

        Returns:
            A list of `(class numbers, number of classes, ignored class or None)`.
        """
        if self._parts is not None:
            keys = self._parts if isinstance(self._parts, dict) else range(len(y_true))
            return [
                found
                for key in keys
                for found in self._parts[key].class_numbers(y_true[key], y_pred[key])
            ]
        all_at_once = tf.nest.is_nested(y_pred) and not self._per_output
        if all_at_once or not self.is_sparse_categorical:
            return []
        pairs = zip(tf.nest.flatten(y_true), tf.nest.flatten(y_pred))
        return [(y, int(output.shape[-1]), self.ignored_class) for y, output in pairs]

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> tf.Tensor:
        """The scalar loss, at least float32.

        Args:
            y_true: targets `[examples, ...]`.
            y_pred: predictions `[examples, ...]`.
            sample_weight: None or `[examples]`, or a nest of such for several outputs.
                As in Keras, the sum of the weighted values is divided by the number
                of examples, and not by the sum of the weights, unless the reduction
                is `"mean_with_sample_weight"`.
        """
        if self._parts is not None:
            keys = (
                self._parts
                if isinstance(self._parts, dict)
                else range(len(self._parts))
            )
            each = tf.nest.is_nested(sample_weight)
            terms = [
                self._parts[key](
                    y_true[key],
                    y_pred[key],
                    sample_weight[key] if each else sample_weight,
                )
                for key in keys
            ]
            return tf.add_n(terms)
        if self._per_output and tf.nest.is_nested(y_pred):
            leaves = tf.nest.flatten(y_pred)
            weights = tf.nest.flatten(sample_weight)
            if len(weights) != len(leaves):
                weights = [sample_weight] * len(leaves)
            return tf.add_n(
                [
                    self(true, predicted, weight)
                    for true, predicted, weight in zip(
                        tf.nest.flatten(y_true), leaves, weights
                    )
                ]
            )
        masks = [_mask_of(y_pred)]
        y_true, y_pred = _aligned(
            _cast_targets(y_true, y_pred), _at_least_float32(y_pred)
        )
        whole = isinstance(self._function, keras.losses.Loss)
        with (
            tf.name_scope(SCOPE),
            exact_moments(),
            exact_resizing(),
            exact_projections(),
            exact_cross_entropy(),
        ):
            function = self._function.call if whole else self._function
            values = function(y_true, y_pred)
        reduction = self._function.reduction if whole else "mean"
        masks.append(getattr(values, "_keras_mask", None))  # From `ignore_class`.
        return _reduce(_at_least_float32(values), sample_weight, masks, reduction)

    def serialize(self) -> Any:
        """The identifier as plain data, for `get_config`."""
        return loss_config(self.identifier)

    def described(self) -> Any:
        """The result of `serialize`, or None if the loss cannot be written to a file.

        Lambdas and `functools.partial` cannot be written, alone or inside a nest.
        """
        parts = self._parts.values() if isinstance(self._parts, dict) else self._parts
        if any(part.described() is None for part in parts or []):
            return None
        if self.name == "<lambda>":
            return None
        try:
            return json.loads(json.dumps(self.serialize()))
        except (OSError, TypeError, ValueError):
            return None

    @classmethod
    def deserialize(cls, config: Any) -> PureLoss:
        """The loss that `serialize` wrote down."""
        return cls(keras.saving.deserialize_keras_object(config))


def _at_least_float32(x: Any) -> Any:
    return tf.nest.map_structure(
        lambda t: tf.cast(t, tf.float32) if t.dtype.size < 4 else t,
        tf.nest.map_structure(tf.convert_to_tensor, x),
    )


def _cast_targets(y_true: Any, y_pred: Any) -> Any:
    """Casts float targets to the float type of the predictions, as Keras's `fit`."""
    if tf.nest.is_nested(y_true) or tf.nest.is_nested(y_pred):
        return y_true
    y_true, wide = tf.convert_to_tensor(y_true), _at_least_float32(y_pred).dtype
    return tf.cast(y_true, wide) if y_true.dtype.is_floating else y_true


def _aligned(a: Any, b: Any) -> tuple[Any, Any]:
    # As in Keras: for [n, 1] and [n], both become [n, 1]. If the shorter shape has more
    # than one axis, the longer shape loses its last axis.
    if tf.nest.is_nested(a) or tf.nest.is_nested(b):
        return a, b
    a, b = tf.convert_to_tensor(a), tf.convert_to_tensor(b)
    if a.shape.rank is None or b.shape.rank is None or a.shape.rank == b.shape.rank:
        return a, b
    if a.shape.rank < b.shape.rank:
        b, a = _aligned(b, a)
    elif a.shape.rank == b.shape.rank + 1 and a.shape[-1] == 1:
        return (a, b[:, None]) if b.shape.rank == 1 else (a[..., 0], b)
    return a, b


def _reduce(
    values: Any, sample_weight: Any, masks: list[Any], reduction: str
) -> tf.Tensor:
    total = tf.cast(tf.size(values), values.dtype)
    mask = _product([mask for mask in masks if mask is not None], values)
    if mask is not None:
        values, total = values * mask, tf.reduce_sum(mask)
    if sample_weight is not None:
        weight, values = _aligned(tf.cast(sample_weight, values.dtype), values)
        while weight.shape.rank < values.shape.rank:
            weight = tf.expand_dims(weight, -1)
        values = values * weight
        if reduction == "mean_with_sample_weight":
            total = tf.reduce_sum(weight if mask is None else weight * mask)
    if reduction == "sum":
        return tf.reduce_sum(values)
    # The total is zero if all weights are zero.
    return tf.math.divide_no_nan(tf.reduce_sum(values), total)


def _product(masks: list[Any], values: Any) -> Any:
    """The product of masks, one number for each of `values`; None without a mask.

    Raises:
        ValueError: if examples have weights, and the loss has no value for each.
    """
    if not masks:
        return None
    if any(map(are_weights, masks)) and values.shape.rank == 0:
        raise ValueError(
            "A loss must return a value for each example, [examples, ...], so that "
            "examples can have weights. Received: one value for all. Return the values "
            "before their mean, such as `keras.losses.mean_squared_error(y_true, "
            "y_pred)`."
        )
    masks = [tf.cast(mask, values.dtype) for mask in masks]
    product = masks[0]
    for mask in masks[1:]:
        product = together(product, mask)
    rank = values.shape.rank
    if rank is None:
        return product
    return expanded(reduced(product, rank), rank) * tf.ones_like(values)


def _mask_of(y_pred: Any) -> Any:
    """The mask of predictions, or the weights that all of several outputs carry."""
    if not tf.nest.is_nested(y_pred):
        return getattr(y_pred, "_keras_mask", None)
    # A loss of all outputs at once: only weights mean the same in each output.
    found = [getattr(leaf, "_keras_mask", None) for leaf in tf.nest.flatten(y_pred)]
    weights = [mask for mask in found if mask is not None and are_weights(mask)]
    return reduced(weights[0], 1) if weights else None
