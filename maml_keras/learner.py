"""A built Keras model as a pure function of its weights."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from maml_keras import batch_norm as batch_norm_policies
from maml_keras.batch_norm import BatchNormPolicy
from maml_keras.exact_moments import exact_moments
from maml_keras.recurrence import unrolled


class Output(NamedTuple):
    """What one pass of a learner returns.

    Attributes:
        predictions: the model's output.
        penalty: scalar, the model's own losses (regularisers, `add_loss`).
        state: list of tensors, the non-trainable variables after the pass.
    """

    predictions: Any
    penalty: Any
    state: list[Any]


class Learner:
    """`predictions, penalty, state' = learner(weights, state, x)`; no side effects.

    Nothing of the model is copied, renamed or assigned: its variables are read
    through a `keras.StatelessScope`. Normalisation is differentiable to second order
    (see `exact_moments`) and batch norm follows one stated policy.

    Args:
        model: any built `keras.Model`.
        batch_norm: `"transductive"`, `"running"` or a `BatchNormPolicy`.

    Raises:
        TypeError: if `model` is no `keras.Model`.
        ValueError: if it is not built, has nothing to train, or holds a raw
            `tf.Variable`, which Keras cannot exchange for adapted weights.
    """

    def __init__(
        self, model: keras.Model, *, batch_norm: str | BatchNormPolicy = "transductive"
    ) -> None:
        _check_model(model)
        self.model = model
        self.batch_norm = batch_norm_policies.get(batch_norm)
        self._named_unused: set[str] = set()

    @property
    def variables(self) -> list[Any]:
        """The trainable variables: what is meta-learned."""
        return list(self.model.trainable_variables)

    @property
    def state_variables(self) -> list[Any]:
        """The non-trainable variables: moving statistics, seeds, frozen weights."""
        return list(self.model.non_trainable_variables)

    @property
    def num_seeds(self) -> int:
        """How many random number generators the model holds."""
        return sum(map(is_seed, self.state_variables))

    def weights(self) -> list[tf.Tensor]:
        """The current value of every trainable variable."""
        return [tf.convert_to_tensor(v.value) for v in self.variables]

    def state(self, seeds: Any = None) -> list[tf.Tensor]:
        """The current value of every non-trainable variable.

        Args:
            seeds: None, or int32 `[num_seeds, 2]`, not negative, to start the
                random number generators from.
        """
        values = [tf.convert_to_tensor(v.value) for v in self.state_variables]
        if seeds is None:
            return values
        rows = iter(range(self.num_seeds))
        return [
            tf.cast(seeds[next(rows)], v.dtype) if is_seed(v) else value
            for v, value in zip(self.state_variables, values)
        ]

    def advance(self, state: list[Any], after: list[Any]) -> list[Any]:
        """`state` with the random number generators where they stand in `after`.

        Support passes move the generators on, so that every step draws a fresh
        dropout mask, and leave moving statistics alone.
        """
        return [
            new if is_seed(v) else old
            for v, old, new in zip(self.state_variables, state, after)
        ]

    def moved(self, state: list[Any], after: list[Any]) -> dict[int, Any]:
        """The entries of `after`, by index, that passes assigned; seeds left out."""
        return {
            i: new
            for i, (v, old, new) in enumerate(zip(self.state_variables, state, after))
            if new is not old and not is_seed(v)
        }

    def __call__(
        self, weights: list[Any], state: list[Any], x: Any, *, training: bool
    ) -> Output:
        """One pass.

        Args:
            weights: a tensor for each of `variables`.
            state: a tensor for each of `state_variables`.
            x: the model's input, `[examples, ...]`.
            training: bool, whether dropout and the like are active. Batch norm
                follows the learner's policy.
        """
        mapping = [*zip(self.variables, weights), *zip(self.state_variables, state)]
        with (
            keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope,
            exact_moments(),
            unrolled(),
            self.batch_norm.scope(training=training),
        ):
            predictions = self.model(x, training=training)
            losses = self.model.losses
        after = [scope.get_current_value(v) for v in self.state_variables]
        wide = keras.backend.result_type("float32", *(loss.dtype for loss in losses))
        penalty = tf.add_n([tf.zeros([], wide), *(tf.cast(t, wide) for t in losses)])
        return Output(predictions, penalty, after)

    def batch_statistics(self, weights: list[Any], x: Any) -> list[tf.Tensor]:
        """The state in which moving statistics are those of the batch `x`.

        Args:
            weights: a tensor for each of `variables`.
            x: the model's input, `[examples, ...]`.

        Returns:
            A tensor for each of `state_variables`; all but the moving statistics of
            `BatchNormalization` layers are as they were.
        """
        momenta = {
            id(v): layer.momentum
            for layer in _layers(self.model)
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
            for v in (layer.moving_mean, layer.moving_variance)
        }
        state = self.state()
        if not momenta:
            return state
        after = self(weights, state, x, training=False).state
        # A pass moves a statistic to momentum * old + (1 - momentum) * batch.
        return [
            old
            if id(v) not in momenta or momenta[id(v)] >= 1.0
            else (new - momenta[id(v)] * old) / (1.0 - momenta[id(v)])
            for v, old, new in zip(self.state_variables, state, after)
        ]

    def filled(self, gradients: list[Any], variables: list[Any]) -> list[tf.Tensor]:
        """Gradients with zeros for None, after one warning that names the unused."""
        unused = [
            v.path
            for v, g in zip(variables, gradients)
            if g is None and v.path not in self._named_unused
        ]
        if unused:
            self._named_unused.update(unused)
            warnings.warn(
                "These trainable variables do not influence the query loss, and stay "
                f"as they are: {', '.join(unused)}. Use them in the model's `call`, or "
                "freeze them with `trainable = False`.",
                stacklevel=2,
            )
        return [
            tf.zeros(v.shape, v.dtype) if g is None else tf.convert_to_tensor(g)
            for v, g in zip(variables, gradients)
        ]


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    return list(model._flatten_layers())


def is_seed(variable: Any) -> bool:
    """True for the state of a random number generator, such as dropout's."""
    # `keras.random.SeedGenerator` names its state so; int64 on TensorFlow.
    return variable.name == "seed_generator_state" and tuple(variable.shape) == (2,)


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a `keras.Model`. Received: "
            f"model={model!r} of type {type(model).__name__}."
        )
    unbuilt = [layer.name for layer in _layers(model) if not layer.built]
    if unbuilt:
        raise ValueError(
            f"`model` must be built. Model '{model.name}' has unbuilt layers: "
            f"{', '.join(unbuilt)}. Call it once on a batch of data, or give it a "
            "`keras.Input`, before you wrap it."
        )
    if not model.trainable_variables:
        raise ValueError(
            f"`model` must have trainable variables. Model '{model.name}' has none. "
            "Set `trainable = True` on the layers that should be meta-learned."
        )
    for layer in _layers(model):
        for name, value in vars(layer).items():
            if not name.startswith("_") and _holds_raw_variable(value):
                raise ValueError(
                    f"`model` must keep its state in Keras variables. Layer "
                    f"'{layer.name}' holds a raw tf.Variable in attribute '{name}', "
                    "which cannot be adapted. Create it with `self.add_weight(...)`."
                )


def _holds_raw_variable(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    leaves = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(leaf, tf.Variable) for leaf in leaves)
