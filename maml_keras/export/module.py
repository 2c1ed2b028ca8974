"""The module that becomes a SavedModel: an initialisation and functions to adapt it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.step_progress import StepReport
from maml_keras.data.preparation import AsIs, Preparation
from maml_keras.export import graph_checks, signature
from maml_keras.inner.loop import InnerLoop
from maml_keras.learner import masks
from maml_keras.learner.learner import Learner


class ExportedLearner(tf.__internal__.tracking.AutoTrackable):
    """The variables of an export, and the functions that read and change them.

    The variables are copies, so saving changes nothing in the model.

    Args:
        learner: the model whose weights are the initialisation.
        inner: the inner loop that `adapt` and `fine_tune` run.
        x_spec: nest of `tf.TensorSpec` of the inputs.
        y_spec: nest of `tf.TensorSpec` of the targets.
        preparation: None, or what makes the inputs and targets from raw data, which
            the functions then take.
        done: called after each of the `PARTS` functions is compiled.
    """

    PARTS = 6

    def __init__(
        self,
        learner: Learner,
        inner: InnerLoop,
        x_spec: Any,
        y_spec: Any,
        *,
        preparation: Preparation | None = None,
        done: Callable[[], None],
    ) -> None:
        preparation = preparation or AsIs(x_spec, y_spec)
        # Tracked here, so that the SavedModel holds them.
        self.lookup_tables = preparation.tables()
        self._preparation = _untracked(preparation)
        self._learner, self._inner = _untracked(learner), _untracked(inner)
        self.trainable_variables = [
            tf.Variable(value, name=variable.name)
            for value, variable in zip(learner.weights(), learner.variables)
        ]
        self.non_trainable_variables = [
            tf.Variable(value, name=variable.name, trainable=False)
            for value, variable in zip(learner.state(), learner.state_variables)
        ]
        self.rule_variables = [
            tf.Variable(v.value, name=v.name, trainable=v.trainable)
            for v in inner.variables
        ]
        # Gradient steps from the initialisation to the present weights.
        self.steps_taken = tf.Variable(0, name="steps_taken", trainable=False)
        # The progress of a call of `fine_tune`, read by a progress bar.
        self.progress = tf.Variable([0.0, 0.0], name="progress", trainable=False)
        self._name_what_adapts(learner, inner)
        changing = [*self.trainable_variables, *self._settled.values()]
        self.snapshot = Snapshot([*changing, self.steps_taken])
        # A resource does not track its variables, so the copies are tracked here.
        self.initial_values = self.snapshot.copies
        self._compile(x_spec, y_spec, done)

    def _name_what_adapts(self, learner: Learner, inner: InnerLoop) -> None:
        """Names the variables of which each task has its own values."""
        variables = [*learner.variables, *learner.state_variables]
        names = dict(zip(map(id, variables), _unique([v.path for v in variables])))
        chosen = inner.selected(learner, list(range(len(learner.variables))))
        replaced = {id(v) for v in inner.start_from.replaces(learner.model)}
        set_by_start = (i for i, v in enumerate(learner.variables) if id(v) in replaced)
        self._adapted = {
            names[id(variables[i])]: i for i in sorted({*chosen, *set_by_start})
        }
        settled = {id(v) for v in learner.settled_variables()}
        self._settled_places = {
            names[id(v)]: i
            for i, v in enumerate(learner.state_variables)
            if id(v) in settled
        }
        places = self._settled_places.items()
        self._settled = {n: self.non_trainable_variables[i] for n, i in places}

    def _compile(self, x_spec: Any, y_spec: Any, done: Callable[[], None]) -> None:
        """Compiles the functions, each with its checks and named arguments."""
        inner = self._inner()
        weights = {
            name: tf.TensorSpec(self.trainable_variables[i].shape, self._dtype(i), name)
            for name, i in self._adapted.items()
        }
        for name, variable in self._settled.items():
            weights[name] = tf.TensorSpec(variable.shape, variable.dtype, name)
        preparation = self._preparation()
        x, support_x, query_x = (
            signature.named(preparation.x_spec, name)
            for name in ("x", "support_x", "query_x")
        )
        y, support_y = (
            signature.named(preparation.y_spec, name) for name in ("y", "support_y")
        )
        count = tf.TensorSpec([], tf.int32, "steps")
        how = [count, tf.TensorSpec([], tf.float32, "learning_rate")]
        steps = inner.steps
        learned = inner.rule.fixed_rate is None
        rate = graph_checks.AS_LEARNED if learned else inner.rule.fixed_rate

        def compiled(name: str, function: Any, signature: list[Any]) -> Any:
            made = tf.function(function, input_signature=signature, autograph=False)
            setattr(self, name, made)
            outputs = made.get_concrete_function().structured_outputs
            done()
            return outputs

        # The inner loop and the prediction are one graph each, which the functions
        # call: a copy in every function would make the file several times as large.
        def shared(function: Any, signature: list[Any]) -> Any:
            return tf.function(function, input_signature=signature, autograph=False)

        network = [signature.named(x_spec, "x"), signature.named(y_spec, "y")]
        loop = shared(self._adapt, [*network, *how])
        # `fine_tune` has its own graph of the inner loop, which reports its progress:
        # the other functions must not write to any variable.
        report = StepReport(self.progress).write
        reported = shared(
            functools.partial(self._adapt, report=report), [*network, *how]
        )
        answer = shared(self._predict, [weights, network[0], count])

        def inputs(name: str, x: Any) -> Any:
            return graph_checks.inputs(name, x, preparation.inputs)

        def predicted(weights: Any, x: Any, steps: Any) -> Any:
            return preparation.restored(answer(weights, x, steps)[0])

        # These functions are closures, because the defaults of steps and rate must be
        # part of the signature of a tf.function.
        def serve(x: Any) -> Any:
            taken = tf.convert_to_tensor(self.steps_taken)
            return predicted(self._in_place(), inputs("x", x), taken)

        answers = compiled("serve", serve, [x])

        def checked(
            names: Any, x: Any, y: Any, steps: Any, rate: Any, *, loop: Any = loop
        ) -> Any:
            x, y = graph_checks.support(
                names,
                x,
                y,
                loss=inner.loss,
                answers=answers,
                preparation=preparation,
            )
            how = graph_checks.settings(steps, rate, learned=learned)
            return graph_checks.adapted(loop(x, y, *how)), x, y

        def adapt(
            support_x: Any,
            support_y: Any,
            steps: Any = steps,
            learning_rate: Any = rate,
        ) -> Any:
            names = "support_x", "support_y"
            return checked(names, support_x, support_y, steps, learning_rate)[0]

        def predict_with(weights: Any, x: Any, steps: Any = steps) -> Any:
            weights = graph_checks.given(weights)
            with tf.control_dependencies([graph_checks.not_negative(steps)]):
                return predicted(weights, inputs("x", x), steps)

        def adapt_and_predict(
            support_x: Any,
            support_y: Any,
            query_x: Any,
            steps: Any = steps,
            learning_rate: Any = rate,
        ) -> Any:
            query_x = inputs("query_x", query_x)
            names = "support_x", "support_y"
            weights, *_ = checked(names, support_x, support_y, steps, learning_rate)
            return predicted(weights, query_x, steps)

        def fine_tune(
            x: Any, y: Any, steps: Any = steps, learning_rate: Any = rate
        ) -> Any:
            weights, x, y = checked(
                ("x", "y"), x, y, steps, learning_rate, loop=reported
            )
            taken = self.steps_taken + steps
            predictions, known = answer(weights, x, taken)
            predictions = masks.put_back(preparation.restored(predictions), known)
            loss = graph_checks.loss(inner.loss(preparation.restored(y), predictions))
            # All weights and the loss are checked before any weight is written.
            with tf.control_dependencies([loss, *weights.values()]):
                for name, i in self._adapted.items():
                    self.trainable_variables[i].assign(tf.identity(weights[name]))
                for name, variable in self._settled.items():
                    variable.assign(tf.identity(weights[name]))
                self.steps_taken.assign(taken)
            return loss

        compiled("adapt", adapt, [support_x, support_y, *how])
        compiled("predict_with", predict_with, [weights, x, count])
        three = [support_x, support_y, query_x]
        compiled("adapt_and_predict", adapt_and_predict, [*three, *how])
        loss = compiled("fine_tune", fine_tune, [x, y, *how])
        compiled("reset", self.snapshot.restore, [])

        defaults = {"steps": steps, "learning_rate": rate}
        described = {
            "serve": ([x], {}, answers),
            "adapt": ([support_x, support_y, *how], defaults, weights),
            "predict_with": ([weights, x, count], defaults, answers),
            "adapt_and_predict": ([*three, *how], defaults, answers),
            "fine_tune": ([x, y, *how], defaults, loss),
            "reset": ([], {}, tf.TensorSpec([], tf.bool)),
        }
        self.table = _untracked(signature.table(described))
        self._arguments = _untracked(
            {"serve": [x], "adapt_and_predict": [*three, *how]}
        )

    def signatures(self) -> dict[str, Any]:
        """The signatures for a server, with named outputs."""
        names = {"serving_default": "serve", "adapt_and_predict": "adapt_and_predict"}

        def with_names(name: str) -> Any:
            def named(*arguments: Any) -> dict[str, Any]:
                return signature.outputs_named(getattr(self, name)(*arguments))

            specs = self._arguments()[name]
            return tf.function(named, input_signature=specs, autograph=False)

        return {public: with_names(name) for public, name in names.items()}

    def _adapt(
        self, x: Any, y: Any, steps: Any, learning_rate: Any, report: Any = None
    ) -> dict[str, Any]:
        """The weights and statistics of a task after some steps, by name."""
        learner = self._learner()
        state = [tf.convert_to_tensor(v) for v in self.non_trainable_variables]
        learned = zip(self._inner().variables, self.rule_variables)
        with keras.StatelessScope([(v, tf.convert_to_tensor(t)) for v, t in learned]):
            point = self._inner().adapt(
                learner,
                [tf.convert_to_tensor(v) for v in self.trainable_variables],
                state,
                x,
                y,
                steps=steps,
                learning_rate=learning_rate,
                report=report,
            )
        settled = learner.settled(point.weights, state, x, training=False, step=steps)
        return {
            **{name: point.weights[i] for name, i in self._adapted.items()},
            **{name: settled[i] for name, i in self._settled_places.items()},
        }

    def _in_place(self) -> dict[str, Any]:
        """The present values of the variables that adapt, by name."""
        adapted = {n: self.trainable_variables[i] for n, i in self._adapted.items()}
        variables = {**adapted, **self._settled}
        return {name: tf.convert_to_tensor(v) for name, v in variables.items()}

    def _predict(self, weights: dict[str, Any], x: Any, steps: Any) -> tuple[Any, Any]:
        """Predictions, and their masks as `masks.taken` gives them."""
        values = [tf.convert_to_tensor(v) for v in self.trainable_variables]
        state = [tf.convert_to_tensor(v) for v in self.non_trainable_variables]
        for name, i in self._adapted.items():
            values[i] = weights[name]
        for name, i in self._settled_places.items():
            state[i] = weights[name]
        output = self._learner().answer(values, state, x, training=False, step=steps)
        found = output.predictions
        return graph_checks.predictions(found), masks.taken(found)

    def _dtype(self, index: int) -> Any:
        return self.trainable_variables[index].dtype


def _untracked(value: Any) -> Any:
    # A SavedModel leaves out attributes that are not trackable, such as functions.
    return lambda: value


def _unique(names: list[str]) -> list[str]:
    unique: list[str] = []
    taken = set(names)
    for name in names:
        other = name
        if name in unique:
            numbered = (f"{name}_{number}" for number in itertools.count(2))
            other = next(n for n in numbered if n not in taken)
        taken.add(other)
        unique.append(other)
    return unique


class Snapshot(tf.saved_model.experimental.TrackableResource):
    """The initialisation, kept for `reset` without a second copy on disk.

    The copies are empty in the file. When TensorFlow has loaded a SavedModel and
    restored its variables, it runs `_initialize`, which fills the copies.

    Args:
        variables: list of `tf.Variable`.
    """

    def __init__(self, variables: list[Any]) -> None:
        super().__init__(device="")
        self.variables = variables
        self.copies = [
            tf.Variable(
                tf.zeros([0], v.dtype), shape=tf.TensorShape(None), trainable=False
            )
            for v in variables
        ]
        self._resource_handle = self._create_resource()

    def _create_resource(self) -> Any:
        return tf.raw_ops.VarHandleOp(
            dtype=tf.bool, shape=[], shared_name="maml_keras_initialisation"
        )

    def _initialize(self) -> Any:
        for variable, copy in zip(self.variables, self.copies):
            copy.assign(variable)
        return tf.constant(True)

    def restore(self) -> Any:
        """Sets the variables back to the loaded values; returns True."""
        for variable, copy in zip(self.variables, self.copies):
            variable.assign(tf.ensure_shape(copy.read_value(), variable.shape))
        return tf.constant(True)
