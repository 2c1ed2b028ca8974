"""The functions of an export in the form that other runtimes can run."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_keras.export import signature
from maml_keras.export.lowering import lowered
from maml_keras.export.lowering.function import present_value

# The functions that read and change no variable.
PURE = ("adapt", "predict_with", "adapt_and_predict")
# The functions on weights that the file keeps between two calls.
STATEFUL = ("serve", "fine_tune", "reset")


class LearnerFunctions:
    """The functions of an export, as `tf.function` with forward operations only.

    Each function takes its arguments by position, and returns a dict of its outputs by
    name. Instead of raising an error for bad input, it returns NaN.

    Args:
        saved: an export, as `tf.saved_model.load` returns it.
        support: int, the number of support examples; None for any number.
        query: int, the number of queries; None for any number.

    Raises:
        ValueError: if the export takes texts.
    """

    def __init__(
        self, saved: Any, *, support: int | None = None, query: int | None = None
    ) -> None:
        self._saved = saved
        self._sizes = {"support": support, "query": query}
        for spec in self.specs("adapt_and_predict"):
            if spec.dtype == tf.string:
                raise ValueError(
                    "A file that learns cannot prepare text, and this export takes "
                    f"text in '{spec.name}'. Serve the SavedModel, or train on numbers."
                )

    def specs(self, name: str) -> list[tf.TensorSpec]:
        """The arguments of a function, in order, named as on the card."""
        if name == "reset":
            return []
        function = self._concrete(name)
        flat = tf.nest.flatten(function.structured_input_signature)
        examples = {"fine_tune": "support", "serve": "query", "predict_with": "query"}
        weights = self._weight_names() if name == "predict_with" else []

        def sized(spec: tf.TensorSpec) -> tf.TensorSpec:
            if spec.name in weights or not spec.shape.rank:
                return spec
            part = spec.name.partition("_")[0]
            size = self._sizes[examples.get(name, part)]
            return tf.TensorSpec([size, *spec.shape[1:]], spec.dtype, spec.name)

        return [sized(spec) for spec in flat]

    def outputs(self, name: str) -> list[str]:
        """The names of a function's outputs, in the order of its flat outputs."""
        if name == "reset":
            return ["done"]
        if name == "fine_tune":
            return ["loss"]
        if name == "adapt":
            return self._weight_names()
        return list(signature.outputs_named(self._concrete(name).structured_outputs))

    def pure(self, name: str) -> Any:
        """One of `PURE`, which starts from the weights of the export."""
        function, names = self._concrete(name), self.outputs(name)

        def call(*arguments: Any) -> dict[str, Any]:
            found = lowered(function, self._fitted(name, arguments))
            return {
                key: _if_valid(found.valid, value)
                for key, value in zip(names, found.outputs, strict=True)
            }

        return tf.function(call, input_signature=self.specs(name), autograph=False)

    def stateful(self) -> tuple[tf.Module, dict[str, Any]]:
        """A module that holds the variables of `fine_tune`, and all functions by name.

        The functions of `PURE` always start from the weights of the export, those of
        `STATEFUL` from the variables.
        """
        state = self._state()
        first = {key: variable.numpy() for key, variable in state.items()}

        def read(handle: Any) -> Any:
            variable = state.get(id(handle))
            if variable is None:
                return present_value(handle)
            return variable.read_value()

        def serve(*arguments: Any) -> dict[str, Any]:
            found = lowered(self._concrete("serve"), list(arguments), read)
            names = self.outputs("serve")
            return {k: _if_valid(found.valid, v) for k, v in zip(names, found.outputs)}

        def fine_tune(*arguments: Any) -> dict[str, Any]:
            given = self._fitted("fine_tune", arguments)
            found = lowered(self._concrete("fine_tune"), given, read)
            for key, value in found.assigned.items():
                variable = state[key]
                old = variable.read_value()
                # Bad input changes no weight.
                variable.assign(tf.where(found.valid, value, old))
            return {"loss": _if_valid(found.valid, found.outputs[0])}

        def reset() -> dict[str, Any]:
            for key, variable in state.items():
                variable.assign(tf.constant(first[key]))
            return {"done": tf.constant(True)}

        module = tf.Module()
        module.state = list(state.values())
        functions = {name: self.pure(name) for name in PURE}
        for function in (serve, fine_tune, reset):
            name = function.__name__
            functions[name] = tf.function(
                function, input_signature=self.specs(name), autograph=False
            )
        module.functions = functions
        return module, functions

    def defaults(self) -> dict[str, Any]:
        """The default number of steps and learning rate, by the argument's name."""
        spec = self._saved.adapt_and_predict.function_spec.fullargspec
        names = spec.args[len(spec.args) - len(spec.defaults) :]
        return dict(zip(names, spec.defaults))

    def _fitted(self, name: str, arguments: Any) -> list[Any]:
        """The arguments, with as many targets as inputs.

        LiteRT's interpreter takes arrays of any rank, and `[examples, 1]` beside
        `[examples]` would broadcast to a plausible answer.
        """
        specs = self.specs(name)
        first = next(t for t, s in zip(arguments, specs) if s.shape.rank)

        def fitted(value: Any, spec: tf.TensorSpec) -> Any:
            is_target = spec.name.removeprefix("support_").split("_")[0] == "y"
            rest = spec.shape.as_list()[1:] if is_target else [None]
            if name == "predict_with" or None in rest:
                return value
            return tf.reshape(value, tf.concat([tf.shape(first)[:1], rest], 0))

        return [fitted(t, s) for t, s in zip(arguments, specs)]

    def _state(self) -> dict[int, tf.Variable]:
        """A new variable for each one that `fine_tune` writes, by the handle's `id`."""
        graph = self._concrete("fine_tune").graph
        written = {
            node.input[0]
            for node in graph.as_graph_def().node
            if node.op == "AssignVariableOp"
        }
        return {
            id(handle): tf.Variable(present_value(handle))
            for handle, inner in graph.captures
            if inner.op.name in written
        }

    def _weight_names(self) -> list[str]:
        structure = self._concrete("adapt").structured_outputs
        return [path[-1] for path, _ in keras.tree.flatten_with_path(structure)]

    def _concrete(self, name: str) -> Any:
        return getattr(self._saved, name).concrete_functions[0]


def _if_valid(valid: Any, value: Any) -> Any:
    """The value; NaN, or -1 of an integer, if a check of the function failed."""
    nothing = np.nan if value.dtype.is_floating else -1
    return tf.where(valid, value, tf.cast(nothing, value.dtype))
