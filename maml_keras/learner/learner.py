"""A built Keras model as a pure function of its weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from maml_keras.backend.attention import heads_first
from maml_keras.backend.autograph import as_written
from maml_keras.backend.cross_entropy import exact_cross_entropy
from maml_keras.backend.einsum_dense import as_products
from maml_keras.backend.layer_norm import written_out
from maml_keras.backend.moments import exact_moments
from maml_keras.backend.projective_transforms import exact_projections
from maml_keras.backend.recurrent import unrolled
from maml_keras.backend.resizing import exact_resizing
from maml_keras.learner import (
    batch_norm_policies,
    model_checks,
    moving_statistics,
)
from maml_keras.learner import (
    weights as example_weights,
)
from maml_keras.learner.batch_norm_policy import BatchNormPolicy


class Output(NamedTuple):
    """The result of one pass of a learner.

    Attributes:
        predictions: the model's output.
        penalty: scalar, the sum of the model's own losses (regularisers, `add_loss`).
        state: list of tensors, the non-trainable variables after the pass.

    >>> Output(tf.ones([3, 1]), tf.constant(0.0), []).predictions.shape
    TensorShape([3, 1])
    """

    predictions: Any
    penalty: Any
    state: list[Any]


class Learner:
    """`predictions, penalty, state' = learner(weights, state, x)`; no side effects.

    A learner does not copy, rename or assign the variables of the model: it reads them
    through a `keras.StatelessScope`. Normalisation is differentiable to second order
    (see `exact_moments`), and batch norm follows one stated policy.

    Args:
        model: any built `keras.Model`.
        batch_norm: the name of a policy, or a `BatchNormPolicy`.
        steps: int, inner steps in training, for a policy that counts them.

    Raises:
        TypeError: if `model` is not a `keras.Model`.
        ValueError: if the model is not built, has no trainable variables, or holds a
            raw `tf.Variable`, which Keras cannot replace by adapted weights.

    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    >>> learner = Learner(model)
    >>> twice = [2.0 * v for v in learner.variables]
    >>> output = learner(twice, [], np.ones([3, 1]), training=False)
    >>> output.predictions.shape  # The variables of `model` are as before.
    TensorShape([3, 1])
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        batch_norm: str | BatchNormPolicy = "transductive",
        steps: int = 1,
    ) -> None:
        model_checks.check(model)
        self.model = model
        self.batch_norm = batch_norm_policies.get(batch_norm)
        self.batch_norm.prepare(model, steps)
        self._named_unused: set[str] = set()
        self._assigned: set[int] = set()
        self._body: keras.Model | None = None
        # How often the last pass assigned each variable, by `id` of the variable.
        self._updates: Mapping[int, int] = {}

    @property
    def variables(self) -> list[Any]:
        """The trainable variables of the model, and those of the batch-norm policy."""
        return [*self.model.trainable_variables, *self.batch_norm.learned()]

    @property
    def state_variables(self) -> list[Any]:
        """The non-trainable variables: moving statistics, seeds, frozen weights."""
        return [*self.model.non_trainable_variables, *self.batch_norm.statistics()]

    @property
    def assigned_variables(self) -> list[Any]:
        """The `state_variables` that a pass has assigned so far."""
        return [self.state_variables[i] for i in sorted(self._assigned)]

    @property
    def num_seeds(self) -> int:
        """How many random number generators the model holds."""
        return sum(map(is_seed, self.state_variables))

    def weights(self) -> list[tf.Tensor]:
        """The current value of each trainable variable."""
        return [tf.convert_to_tensor(v.value) for v in self.variables]

    def state(self, seeds: Any = None) -> list[tf.Tensor]:
        """The current value of each non-trainable variable.

        Args:
            seeds: None, or int32 `[num_seeds, 2]`, not negative, as the state of the
                random number generators.
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
        """`state` with the entries that a support pass updates taken from `after`.

        Support passes update the random number generators, so that each step draws a
        fresh dropout mask, and the statistics of the batch-norm policy. Support passes
        do not update the model's moving statistics.
        """
        carried = {id(v) for v in self.batch_norm.statistics()}
        return [
            new if is_seed(v) or id(v) in carried else old
            for v, old, new in zip(self.state_variables, state, after)
        ]

    def moved(self, state: list[Any], after: list[Any]) -> dict[int, Any]:
        """The entries of `after`, by index, that passes assigned, without seeds."""
        return {
            i: new
            for i, (v, old, new) in enumerate(zip(self.state_variables, state, after))
            # `new is not old` does not suffice: a branch or a recomputed pass returns
            # a new tensor also for an entry that no layer assigned. Tracing noted the
            # assigned entries.
            if new is not old and i in self._assigned and not is_seed(v)
        }

    @as_written
    def __call__(
        self,
        weights: list[Any],
        state: list[Any],
        x: Any,
        *,
        training: bool,
        step: Any = 0,
        moving: bool = True,
        weight: Any = None,
    ) -> Output:
        """One pass over a support set.

        Args:
            weights: a tensor for each of `variables`.
            state: a tensor for each of `state_variables`.
            x: the model's input, `[examples, ...]`.
            training: bool, whether dropout and similar layers are active. Batch norm
                follows the learner's policy.
            step: int or int tensor, inner steps taken so far.
            moving: bool, whether the state after the pass needs updated moving
                statistics of the model. An inner step does not need them (`advance`).
            weight: None, or `[examples]`. Examples of weight zero are padding, which no
                batch-norm policy sees. The predictions carry the weights.
        """
        scope = self.batch_norm.scope(
            training=training,
            step=step,
            moving=moving,
            present=example_weights.present(weight),
        )
        return self._pass(
            self.model, weights, state, x, scope, training=training, weight=weight
        )

    @as_written
    def query(
        self,
        weights: list[Any],
        state: list[Any],
        support_x: Any,
        x: Any,
        *,
        training: bool,
        step: Any,
        support_weight: Any = None,
        query_weight: Any = None,
    ) -> Output:
        """One pass over a query set.

        Args:
            weights: a tensor for each of `variables`.
            state: a tensor for each of `state_variables`.
            support_x: the support inputs, for a policy that normalises by them.
            x: the query inputs, `[examples, ...]`.
            training: bool, whether dropout and similar layers are active.
            step: int or int tensor, inner steps taken.
            support_weight: None, or `[support examples]`; zero for padding.
            query_weight: None, or `[query examples]`; zero for padding.
        """
        how: dict[str, Any] = {"training": training, "step": step}
        seen = self.settled(weights, state, support_x, weight=support_weight, **how)
        output = self.answer(weights, seen, x, weight=query_weight, **how)
        if not self.batch_norm.query_sees_support(training=training):
            return output
        # Update the model's moving statistics as a support pass in Keras would.
        momenta = moving_statistics.momenta(self.model)
        variables = self.state_variables
        after = moving_statistics.moved(variables, state, output.state, momenta)
        self._note(state, after)
        return output._replace(state=after)

    def settled(
        self,
        weights: list[Any],
        state: list[Any],
        support_x: Any,
        *,
        training: bool,
        step: Any,
        weight: Any = None,
    ) -> list[Any]:
        """The state for query passes after adaptation to a support set."""
        if not self.batch_norm.query_sees_support(training=training):
            return state
        state = self.batch_statistics(
            weights, state, support_x, training=training, step=step, weight=weight
        )
        if weight is None:
            examples = tf.shape(tf.nest.flatten(support_x)[0])[0]
        else:
            examples = tf.math.count_nonzero(weight)
        own = self.batch_norm.settled(examples)
        return [own.get(id(v), t) for v, t in zip(self.state_variables, state)]

    @as_written
    def answer(
        self,
        weights: list[Any],
        state: list[Any],
        x: Any,
        *,
        training: bool,
        step: Any,
        weight: Any = None,
    ) -> Output:
        """A query pass in a `settled` state; same arguments as `query`."""
        scope = self.batch_norm.scope(
            training=training,
            step=step,
            query=True,
            present=example_weights.present(weight),
        )
        return self._pass(
            self.model, weights, state, x, scope, training=training, weight=weight
        )

    def settled_variables(self) -> list[Any]:
        """The `state_variables` that `settled` sets outside training."""
        if not self.batch_norm.query_sees_support(training=False):
            return []
        momenta = moving_statistics.momenta(self.model)
        settled = momenta.keys() | self.batch_norm.settled(1).keys()
        return [v for v in self.state_variables if id(v) in settled]

    @property
    def couples_queries(self) -> bool:
        """True if a query's prediction after adaptation depends on other queries."""
        return self.batch_norm.couples_queries and any(
            isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
            for layer in self.model._flatten_layers()
        )

    def features(
        self,
        weights: list[Any],
        state: list[Any],
        x: Any,
        *,
        training: bool,
        weight: Any = None,
    ) -> tuple[Any, list[Any]]:
        """The inputs of the model's last layer, in a support pass before any step.

        Returns:
            Features `[examples, ...]`, and the state after the pass. Padding, of weight
            zero in `weight`, counts in no statistic.

        Raises:
            ValueError: if the model is not a graph of layers, so that the inputs of
                its last layer are unknown.
        """
        if self._body is None:
            self._body = _body(self.model)
        scope = self.batch_norm.scope(
            training=training, moving=False, present=example_weights.present(weight)
        )
        output = self._pass(
            self._body, weights, state, x, scope, training=training, weight=weight
        )
        return output.predictions, output.state

    def _pass(
        self,
        model: keras.Model,
        weights: list[Any],
        state: list[Any],
        x: Any,
        batch_norm: Any,
        *,
        training: bool,
        weight: Any = None,
    ) -> Output:
        mapping = [*zip(self.variables, weights), *zip(self.state_variables, state)]
        with (
            moving_statistics.CountingScope(
                state_mapping=mapping, collect_losses=True
            ) as scope,
            exact_moments(),
            exact_resizing(),
            exact_projections(),
            exact_cross_entropy(),
            unrolled(),
            heads_first(),
            written_out(),
            as_products(),
            batch_norm,
        ):
            given = [scope.get_current_value(v) for v in self.variables]
            predictions = model(x, training=training)
            losses = model.losses
        if weight is not None:
            _check_own_losses(scope)
            predictions = example_weights.weighed(predictions, weight)
        after = [scope.get_current_value(v) for v in self.state_variables]
        self._note(state, after)
        self._updates = scope.updates
        _check_seeds(scope, [v for v, _ in mapping])
        _check_unwritten(scope, self.variables, given)
        wide = keras.backend.result_type("float32", *(loss.dtype for loss in losses))
        penalty = tf.add_n([tf.zeros([], wide), *(tf.cast(t, wide) for t in losses)])
        return Output(predictions, penalty, after)

    def _note(self, state: list[Any], after: list[Any]) -> None:
        """Remembers which entries a pass assigned."""
        self._assigned |= {
            i for i, (old, new) in enumerate(zip(state, after)) if new is not old
        }

    def batch_statistics(
        self,
        weights: list[Any],
        state: list[Any],
        x: Any,
        *,
        training: bool = False,
        step: Any = 0,
        weight: Any = None,
    ) -> list[tf.Tensor]:
        """`state` with the moving statistics set to the statistics of the batch `x`.

        Args:
            weights: a tensor for each of `variables`.
            state: a tensor for each of `state_variables`.
            x: the model's input, `[examples, ...]`.
            training: bool, whether dropout and similar layers are active.
            step: int or int tensor, inner steps taken.
            weight: None, or `[examples]`; zero for padding.

        Returns:
            A tensor for each of `state_variables`. Only the moving statistics of
            `BatchNormalization` layers and the random number generators, which the
            pass advances, differ from `state`.
        """
        momenta = moving_statistics.momenta(self.model)
        variables = self.state_variables
        while momenta:
            blank = moving_statistics.blank(variables, state, momenta)
            after = self(
                weights, blank, x, training=training, step=step, weight=weight
            ).state
            unmoved = momenta.keys() - self._updates.keys()
            if not unmoved:
                break
            # The pass may read statistics that it does not update, so these must not
            # be blank.
            momenta = {key: m for key, m in momenta.items() if key not in unmoved}
        else:
            return state
        found = moving_statistics.of_batch(variables, after, momenta, self._updates)
        return [
            new if id(v) in momenta or is_seed(v) else old
            for v, old, new in zip(variables, state, found)
        ]

    def folded(self, weights: list[Any], state: list[Any], steps: Any) -> list[Any]:
        """Values of `model.variables` with which the plain model computes the same.

        Args:
            weights: a tensor for each of `variables`.
            state: a tensor for each of `state_variables`.
            steps: int or int tensor, inner steps taken.
        """
        variables = [*self.variables, *self.state_variables]
        values = {id(v): t for v, t in zip(variables, [*weights, *state])}
        values = self.batch_norm.folded(values, steps)
        return [values[id(v)] for v in self.model.variables]

    def filled(self, gradients: list[Any], variables: list[Any]) -> list[tf.Tensor]:
        """Gradients with zeros for None; warns once of each unused variable."""
        unused = [
            v.path
            for v, g in zip(variables, gradients)
            if g is None and v.path not in self._named_unused
        ]
        if unused:
            self._named_unused.update(unused)
            warnings.warn(
                "These trainable variables do not influence the query loss, so their "
                f"gradient is zero: {', '.join(unused)}. Use them in the model's "
                "`call`, or freeze them with `trainable = False`. Otherwise weight "
                "decay still changes them.",
                stacklevel=2,
            )
        return [
            tf.zeros(v.shape, v.dtype) if g is None else tf.convert_to_tensor(g)
            for v, g in zip(variables, gradients)
        ]


def _body(model: keras.Model) -> keras.Model:
    try:
        return keras.Model(model.inputs, model.layers[-1].input)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            "A head from the support set needs the input of the last layer, so the "
            "model must be Sequential or functional. Received: "
            f"'{model.name}' of class {type(model).__name__}."
        ) from error


def _check_seeds(scope: Any, variables: list[Any]) -> None:
    """Refuses a layer that draws from Keras's global generator.

    The global generator is not a variable of the model, so no pass advances it: each
    step of each task would see the same noise.
    """
    known = {id(v) for v in variables}
    for key, value in scope.state_mapping.items():
        if key not in known and value.dtype.is_integer and value.shape == (2,):
            raise ValueError(
                "A layer draws random numbers without a generator of its own. These "
                "numbers would be the same in each step and each task. Give the layer "
                "a generator: `self.seeds = keras.random.SeedGenerator(1)` in "
                "`__init__`, and `keras.random.dropout(x, 0.5, seed=self.seeds)`."
            )


def _check_own_losses(scope: Any) -> None:
    """Refuses losses that layers add in a pass, because they count padding, too."""
    if scope.losses:
        raise ValueError(
            "A layer adds a loss of its activations (`add_loss` or an "
            "`activity_regularizer`), which would count padding. Received: a task with "
            "weights. Leave this loss out, or draw tasks of one size."
        )


def _check_unwritten(scope: Any, variables: list[Any], given: list[Any]) -> None:
    """Refuses a layer that assigns its own weights: only the inner loop may do so."""
    for variable, value in zip(variables, given):
        if scope.get_current_value(variable) is not value:
            raise ValueError(
                f"A layer assigns its trainable weight '{variable.path}' when it is "
                "called, as `SpectralNormalization` does. In a task the inner loop "
                "sets this weight, so the assigned value would be lost. Compute the "
                "value from the weight, and do not assign the weight."
            )


def is_seed(variable: Any) -> bool:
    """True for the state of a random number generator, such as dropout's."""
    # The name that `keras.random.SeedGenerator` gives to its state.
    return variable.name == "seed_generator_state" and tuple(variable.shape) == (2,)
