"""The inner loop: turns a task's support set into a sequence of weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from maml_keras.backend import rematerialized_loop
from maml_keras.backend.autograph import as_written
from maml_keras.inner import loss_scale, mini_batches, traced_steps
from maml_keras.inner.rules import UpdateRule
from maml_keras.inner.selectors import Selector, all_weights
from maml_keras.inner.starts import Initialisation, Start
from maml_keras.learner.learner import Learner
from maml_keras.learner.losses import LossIdentifier, PureLoss


class Point(NamedTuple):
    """The state of the inner loop after some steps.

    Attributes:
        weights: list of tensors `phi_k`, one for each trainable variable.
        state: list of tensors, one for each non-trainable variable.
        rule_state: the state of the update rule.
        anchor: list of tensors, the adapting weights of `phi_0`, to which a proximal
            loss pulls back; empty without a proximal loss.
    """

    weights: list[Any]
    state: list[Any]
    rule_state: Any
    anchor: list[Any]


@keras.saving.register_keras_serializable(package="maml_keras")
class InnerLoop:
    """Gradient steps on the support set, differentiable in the initialisation.

    `phi_0 = theta`, `phi_{k+1} = rule(phi_k, grad loss(support; phi_k))`

    Args:
        loss: any Keras loss identifier, a `keras.losses.Loss`, or a function
            `f(y_true, y_pred)`. The model's own losses (regularisers) are added.
        rule: an `UpdateRule`, such as `SGD(0.4)`.
        steps: int, inner steps in training, not negative.
        adapt: a selector of the weights that adapt; None for all weights.
        second_order: bool. False drops the derivative of the inner gradients
            (first-order MAML), which is cheaper, but the meta-gradient is then no
            longer the gradient of the query loss.
        proximal: float, lambda of a term `lambda / 2 * |phi - phi_0|^2` that is added
            to the loss (implicit MAML).
        start: a `Start`, where the loop starts; None for the initialisation itself.
        rematerialize: bool. True recomputes each step during differentiation instead
            of keeping its activations. The numbers stay the same, memory hardly grows
            with the steps, and time grows by about a third. This pays from about five
            steps on.
        batch_size: int, how many support examples each inner step sees, as in Reptile;
            None for all of them. The support set is shuffled and dealt out in parts,
            in training, adaptation, evaluation and exports alike. The start and the
            statistics of batch norm for the queries still see the whole support set.
            Padding is never dealt.
        batch_seed: int, draws the parts.
        epochs: int, how many passes over its support set a task makes, as the clients
            of federated averaging do: a task with n examples takes `ceil(epochs n /
            min(batch_size, n))` steps and then keeps its weights. None for `steps`
            steps of every task. Needs `batch_size`; `steps` is then the most that a
            task takes, and training refuses a number that is too small for the largest
            support set.

    Raises:
        TypeError: if `rule`, `adapt` or `start` is of another kind.
        ValueError: if `steps` is negative or not an integer, if `batch_size` or
            `epochs` is not a whole number above 0, if there are `epochs` without a
            `batch_size`, or if `proximal` is negative or not finite.

    Reference: Finn et al., 2017, https://arxiv.org/abs/1703.03400

    >>> from maml_keras import SGD
    >>> InnerLoop("mse", SGD(0.01), steps=5).steps
    5
    """

    def __init__(
        self,
        loss: LossIdentifier,
        rule: UpdateRule,
        *,
        steps: int = 1,
        adapt: Selector | None = None,
        second_order: bool = True,
        proximal: float = 0.0,
        start: Start | None = None,
        rematerialize: bool = False,
        batch_size: int | None = None,
        batch_seed: int = 0,
        epochs: int | None = None,
    ) -> None:
        if not isinstance(rule, UpdateRule):
            keras_own = isinstance(rule, keras.optimizers.Optimizer)
            raise TypeError(
                "`rule` must be an UpdateRule, such as `maml_keras.SGD(0.01)`. "
                f"Received: rule={rule!r} of type {type(rule).__name__}."
                + (" Pass Keras optimizers to `compile`." if keras_own else "")
            )
        if adapt is not None and not isinstance(adapt, Selector):
            raise TypeError(
                "`adapt` must be a selector, such as `last_layer()`. Received: "
                f"adapt={adapt!r} of type {type(adapt).__name__}."
            )
        if start is not None and not isinstance(start, Start):
            raise TypeError(
                "`start` must be a Start, such as `PrototypicalHead()`. Received: "
                f"start={start!r} of type {type(start).__name__}."
            )
        if not 0.0 <= float(proximal) < float("inf"):
            raise ValueError(
                "`proximal` must be a finite number, not negative. Received: "
                f"proximal={proximal}."
            )
        _check_whole("batch_size", batch_size, "support examples", "all of them")
        _check_whole("epochs", epochs, "passes", "`steps` steps of every task")
        if epochs is not None and batch_size is None:
            raise ValueError(
                "`epochs` needs a `batch_size`. Received: "
                f"epochs={epochs}, batch_size=None. Without parts a step is a pass, so "
                f"pass steps={epochs} alone."
            )
        check_steps(steps)
        self.loss = loss if isinstance(loss, PureLoss) else PureLoss(loss)
        self.rule = rule
        self.steps = int(steps)
        self.adapt_selector = adapt or all_weights()
        self.second_order = bool(second_order)
        self.proximal = float(proximal)
        self.start_from = start or Initialisation()
        self.rematerialize = bool(rematerialize)
        self.batch_size = None if batch_size is None else int(batch_size)
        self.batch_seed = int(batch_seed)
        self.epochs = None if epochs is None else int(epochs)

    def prepare(self, learner: Learner) -> None:
        """Creates the learned variables of the rule; refuses a model that does not fit.

        Raises:
            ValueError: if the start, the loss or the rule does not fit the model.
        """
        self.start_from.check(learner.model)
        if self.start_from.needs_classes and not self.loss.is_sparse_categorical:
            raise ValueError(
                f"{type(self.start_from).__name__} needs class numbers as targets. "
                "Give the inner loop a sparse categorical cross-entropy. Received: "
                f"loss={self.loss.identifier!r}."
            )
        self.rule.prepare(self.selected(learner, learner.variables), self.steps)

    @property
    def learned_layers(self) -> list[keras.layers.Layer]:
        """The layers that meta-training trains: the rule, and what the start learns."""
        learned = self.start_from.learned
        return [self.rule] if learned is None else [self.rule, learned]

    @property
    def trainable_variables(self) -> list[Any]:
        """The learned variables of the rule, then those of the start."""
        return [v for layer in self.learned_layers for v in layer.trainable_variables]

    @property
    def variables(self) -> list[Any]:
        """All variables of the rule, then those of the start."""
        return [v for layer in self.learned_layers for v in layer.variables]

    def first_order(self) -> InnerLoop:
        """The same loop, with its inner gradients as constants."""
        loop = copy.copy(self)
        loop.second_order = False
        return loop

    def start(
        self,
        learner: Learner,
        weights: list[Any],
        state: list[Any],
        x: Any,
        y: Any,
        weight: Any = None,
        *,
        training: bool,
    ) -> Point:
        """The first point of a trajectory.

        Args:
            learner: the model as a pure function.
            weights: list of tensors, the initialisation theta.
            state: list of tensors, the non-trainable variables.
            x: support inputs `[examples, ...]`.
            y: support targets `[examples, ...]`.
            weight: None, or weights of the support examples `[examples]`; zero for
                padding.
            training: bool, whether dropout is active.
        """
        support = (x, y) if weight is None else (x, y, weight)
        weights, state = self.start_from(
            learner, weights, state, *support, training=training
        )
        chosen = self.selected(learner, weights)
        anchor = chosen if self.proximal else []
        return Point(weights, state, self.rule.start(chosen), anchor)

    def support_loss(
        self,
        learner: Learner,
        weights: list[Any],
        state: list[Any],
        x: Any,
        y: Any,
        weight: Any = None,
        *,
        step: Any,
        training: bool,
    ) -> tuple[Any, Any]:
        """The loss of a support pass without the proximal term, and the pass itself.

        `loss(support; phi) + penalty(phi)`, with the loss `sum(w_i l_i) / sum(w_i)` if
        the examples have weights.
        """
        output = learner(
            weights,
            state,
            x,
            training=training,
            step=step,
            moving=False,
            weight=weight,
        )
        output = output._replace(predictions=loss_scale.widened(output.predictions))
        loss = self.loss(y, output.predictions)
        return loss + tf.cast(output.penalty, loss.dtype), output

    @as_written
    def step(
        self,
        learner: Learner,
        point: Point,
        x: Any,
        y: Any,
        weight: Any = None,
        *,
        step: Any,
        training: bool,
        learning_rate: Any = None,
    ) -> Point:
        """One inner step on the support set `x`, `y`.

        Args:
            learner: the model as a pure function.
            point: the current point of the loop.
            x: support inputs `[examples, ...]`.
            y: support targets `[examples, ...]`.
            weight: None, or weights of the support examples `[examples]`; zero for
                padding.
            step: int or int tensor, counted from 0.
            training: bool, whether dropout is active.
            learning_rate: None, or a scalar that overrides the rule's rate.
        """
        support = x, y, weight
        return self._stepped(learner, point, support, step, training, learning_rate)[0]

    def _stepped(
        self,
        learner: Learner,
        point: Point,
        support: tuple[Any, Any, Any],
        step: Any,
        training: bool,
        learning_rate: Any,
    ) -> tuple[Point, Any]:
        """The point after a step, and the support loss before it."""
        whole = support
        if self.batch_size is not None:
            support = mini_batches.part(
                support, step, size=self.batch_size, seed=self.batch_seed
            )
        chosen = self.selected(learner, point.weights)
        half = loss_scale.computes_in_float16(learner)
        with tf.GradientTape(half, watch_accessed_variables=False) as tape:
            tape.watch(chosen)
            weights = self.merged(learner, point.weights, chosen)
            loss, output = self.support_loss(
                learner, weights, point.state, *support, step=step, training=training
            )
        if half:
            found = loss_scale.gradient(tape, loss, chosen, output.predictions)
        else:
            found = tape.gradient(loss, chosen)
        # Embeddings give IndexedSlices; a weight that the loss ignores gives None.
        gradients = [
            tf.zeros_like(w) if g is None else tf.convert_to_tensor(g)
            for w, g in zip(chosen, found)
        ]
        if not self.second_order:
            gradients = [tf.stop_gradient(g) for g in gradients]
        # Add the derivative of the proximal term, which is known in closed form.
        gradients = [
            g + tf.cast(self.proximal, g.dtype) * (w - a)
            for g, w, a in zip(gradients, chosen, point.anchor)
        ] or gradients
        moved, rule_state = self.rule.update(
            chosen, gradients, point.rule_state, step=step, learning_rate=learning_rate
        )
        _check_form(self.rule, point.rule_state, rule_state)
        # As in Keras's optimizers, a weight that the loss ignores stays. Keeping even
        # the same tensor shows a gradient tape that nothing depends on the weight.
        chosen = [w if g is None else m for w, g, m in zip(chosen, found, moved)]
        stepped = Point(
            self.merged(learner, point.weights, chosen),
            learner.advance(point.state, output.state),
            rule_state,
            point.anchor,
        )
        if self.epochs is not None:
            goes_on = step < self._own_steps(mini_batches.present(whole))
            stepped = tf.nest.map_structure(
                lambda new, old: tf.where(goes_on, new, old), stepped, point
            )
        return stepped, loss

    def _own_steps(self, examples: Any) -> Any:
        """The steps of a task with this many examples, if there are `epochs`."""
        assert self.batch_size is not None
        assert self.epochs is not None
        return mini_batches.steps_of(examples, size=self.batch_size, epochs=self.epochs)

    def _check_enough_steps(self, x: Any) -> None:
        """Refuses support sets whose epochs take more than `steps` steps."""
        examples = tf.nest.flatten(x)[0].shape[0]
        if self.epochs is None or examples is None:
            return
        needed = self._own_steps(examples)
        if needed > self.steps:
            raise ValueError(
                "`steps` must be enough for the epochs of the largest support set. "
                f"Received: steps={self.steps}, but {self.epochs} epochs of {examples} "
                f"examples in parts of {self.batch_size} are {needed} steps. Pass "
                f"InnerLoop(steps={needed})."
            )

    @as_written
    def trajectory(
        self,
        learner: Learner,
        weights: list[Any],
        state: list[Any],
        x: Any,
        y: Any,
        weight: Any = None,
        *,
        steps: int | None = None,
        training: bool = False,
        learning_rate: Any = None,
    ) -> list[Point]:
        """The points `phi_0 .. phi_K`, each differentiable in the initialisation.

        Args:
            learner: the model as a pure function.
            weights: list of tensors, the initialisation theta.
            state: list of tensors, the non-trainable variables.
            x: support inputs `[examples, ...]`.
            y: support targets `[examples, ...]`.
            weight: None, or weights of the support examples `[examples]`; zero for
                padding.
            steps: int, K; None for as many as in training.
            training: bool, whether dropout is active.
            learning_rate: None, or a scalar that overrides the rule's rate. Nothing is
                differentiated in this scalar.
        """
        if steps is None:
            self._check_enough_steps(x)
            steps = self.steps
        support = (x, y) if weight is None else (x, y, weight)
        first = self.start(learner, weights, state, *support, training=training)
        if not steps:
            return [first]
        variables = self.rule.trainable_variables
        given = [] if learning_rate is None else [learning_rate]

        def step(k: Any, point: Point, learned: list[Any], fixed: Any) -> Point:
            support, given = fixed
            rate = given[0] if given else None
            how: dict[str, Any] = {"training": training, "learning_rate": rate}
            # This step may be traced and differentiated outside the current scope, so
            # it opens its own scope.
            with keras.StatelessScope(list(zip(variables, learned))):
                return self.step(learner, point, *support, step=k, **how)

        learned = [tf.convert_to_tensor(v.value) for v in variables]
        points = (
            rematerialized_loop.points if self.rematerialize else traced_steps.points
        )
        return points(step, first, learned, (support, given), steps=steps)

    @as_written
    def adapt(
        self,
        learner: Learner,
        weights: list[Any],
        state: list[Any],
        x: Any,
        y: Any,
        weight: Any = None,
        *,
        steps: Any,
        learning_rate: Any = None,
        report: Callable[[Any, Any], Any] | None = None,
    ) -> Point:
        """The last point after `steps` steps, a number known only at run time.

        The steps are a loop in the graph, so one compiled function serves any number
        of steps. The loop can be differentiated, but `trajectory` is faster for that.

        Args:
            learner: the model as a pure function.
            weights: list of tensors, the initialisation theta.
            state: list of tensors, the non-trainable variables.
            x: support inputs `[examples, ...]`.
            y: support targets `[examples, ...]`.
            weight: None, or weights of the support examples `[examples]`; zero for
                padding.
            steps: int tensor.
            learning_rate: None, or a scalar that overrides the rule's rate.
            report: None, or a function `f(steps taken, support loss)` that returns an
                operation, which runs after each step.
        """
        support = x, y, weight
        first = self.start(learner, weights, state, *support, training=False)

        def body(k: Any, point: Point) -> tuple[Any, Point]:
            stepped, loss = self._stepped(
                learner, point, support, k, False, learning_rate
            )
            reports = [report(k + 1, loss)] if report else []
            with tf.control_dependencies(reports):
                return tf.identity(k + 1), stepped

        steps = tf.cast(steps, tf.int32)
        _, last = tf.while_loop(
            lambda k, point: k < steps, body, (tf.constant(0), first)
        )
        return Point(*last)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        return {
            "loss": self.loss.serialize(),
            "rule": keras.saving.serialize_keras_object(self.rule),
            "steps": self.steps,
            "adapt": keras.saving.serialize_keras_object(self.adapt_selector),
            "second_order": self.second_order,
            "proximal": self.proximal,
            "start": keras.saving.serialize_keras_object(self.start_from),
            "rematerialize": self.rematerialize,
            "batch_size": self.batch_size,
            "batch_seed": self.batch_seed,
            "epochs": self.epochs,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> InnerLoop:
        """The inner loop that `get_config` described."""
        return cls(
            PureLoss.deserialize(config["loss"]),
            keras.saving.deserialize_keras_object(config["rule"]),
            steps=config["steps"],
            adapt=keras.saving.deserialize_keras_object(config["adapt"]),
            second_order=config["second_order"],
            proximal=config["proximal"],
            start=keras.saving.deserialize_keras_object(config["start"]),
            rematerialize=config["rematerialize"],
            # Files of earlier versions have no parts.
            batch_size=config.get("batch_size"),
            batch_seed=config.get("batch_seed", 0),
            epochs=config.get("epochs"),
        )

    def selected(self, learner: Learner, weights: list[Any]) -> list[Any]:
        """The entries of `weights` that adapt; one entry per `learner.variables`."""
        return [w for w, chosen in zip(weights, self._mask(learner)) if chosen]

    def merged(
        self, learner: Learner, weights: list[Any], chosen: list[Any]
    ) -> list[Any]:
        """`weights` with the entries that adapt replaced by `chosen`."""
        rest = iter(chosen)
        return [next(rest) if c else w for w, c in zip(weights, self._mask(learner))]

    def _mask(self, learner: Learner) -> list[bool]:
        of_model = self.adapt_selector.select(learner.model)
        # Learned variables of a batch-norm policy, which come last, do not adapt.
        return of_model + [False] * (len(learner.variables) - len(of_model))


def check_steps(steps: Any) -> None:
    """Refuses a number of inner steps that is negative or not an integer."""
    if isinstance(steps, bool) or int(steps) != steps or steps < 0:
        raise ValueError(
            f"`steps` must be an integer, 0 or more. Received: steps={steps!r}."
        )


def _check_whole(name: str, value: Any, what: str, otherwise: str) -> None:
    """Refuses what is neither None nor a whole number above 0."""
    if value is None:
        return
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ValueError(
            f"`{name}` must be a whole number of {what} above 0, or None for "
            f"{otherwise}. Received: {name}={value!r}."
        )


def _check_form(rule: UpdateRule, before: Any, after: Any) -> None:
    """Refuses a rule state that changes its form, which a graph loop cannot carry."""

    def form(state: Any) -> Any:
        leaves = tf.nest.map_structure(tf.convert_to_tensor, state)
        return tf.nest.map_structure(lambda t: (t.dtype.name, t.shape), leaves)

    if str(form(before)) != str(form(after)):
        raise ValueError(
            f"`{type(rule).__name__}.update` must return a state with the same nest, "
            "shapes and types as the state that `start` makes. "
            f"Received: {form(after)} for {form(before)}."
        )
