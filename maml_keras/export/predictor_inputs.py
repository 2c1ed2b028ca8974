"""The inputs of a network that becomes a file: their names, shapes, and examples."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Random examples on which runtime and Keras are compared.
EXAMPLES = 8


def check_no_text(name: str, format: str, specs: Any) -> None:
    """Refuses inputs of text, which neither ONNX nor LiteRT can look up."""
    texts = [spec.name for spec in keras.tree.flatten(specs) if spec.dtype == tf.string]
    if texts:
        raise ValueError(
            f"Inputs must be numbers in the format '{format}'. Received: '{name}', "
            f"which takes text in {', '.join(texts)}. Write a SavedModel with "
            "`maml.export(path)` or `model.export(path)`, or train with numbers in "
            "place of the names."
        )


def input_specs(model: keras.Model, examples: Any) -> Any:
    """Specs of the inputs for any number of examples, named as in the file."""
    try:
        # A Sequential model has no `input` before it is called.
        sequential = isinstance(model, keras.Sequential)
        inputs = model.inputs[0] if sequential else model.input
    except (AttributeError, TypeError, ValueError) as error:
        if examples is None:
            raise ValueError(
                f"Model '{model.name}' does not tell the shape of its inputs. Pass "
                "`examples`: inputs [examples, ...] on which to compare."
            ) from error
        inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, examples)
    leaves = keras.tree.flatten_with_path(inputs)
    named = [
        tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype, _input_name(path))
        for path, leaf in leaves
    ]
    return keras.tree.pack_sequence_as(inputs, named)


def _input_name(path: tuple[Any, ...]) -> str:
    """`x` for a single input, `x_` with the key or number for several.

    >>> [_input_name(path) for path in [(), ("picture",), (0,)]]
    ['x', 'x_picture', 'x_0']
    """
    return "_".join(["x", *map(str, path)])


def random_inputs(model: keras.Model, specs: Any) -> Any:
    """Random inputs for these specs, the same in every call."""
    generator = np.random.default_rng(0)

    def draw(spec: tf.TensorSpec) -> Any:
        if None in spec.shape[1:]:
            raise ValueError(
                f"Model '{model.name}' takes inputs of any size along an axis: "
                f"{spec.shape}. Pass `examples` of a size that the model meets in use."
            )
        shape = [EXAMPLES, *spec.shape[1:]]
        if spec.dtype.is_floating:
            return generator.normal(size=shape).astype(spec.dtype.as_numpy_dtype)
        return generator.integers(0, 2, shape).astype(spec.dtype.as_numpy_dtype)

    return keras.tree.map_structure(draw, specs)


def fitting_inputs(examples: Any, specs: Any) -> Any:
    """The examples as arrays of the types of these specs; refuses other shapes."""
    keras.tree.assert_same_structure(specs, examples)

    def fit(spec: tf.TensorSpec, array: Any) -> Any:
        array = np.asarray(array)
        if not spec.shape.is_compatible_with(array.shape):
            raise ValueError(
                f"`examples` must have shape {spec.shape} for the input '{spec.name}', "
                f"with any number of examples for None. Received: {array.shape}."
            )
        if not len(array):
            raise ValueError(
                "`examples` must hold at least one example. Received: none."
            )
        return array.astype(spec.dtype.as_numpy_dtype)

    return keras.tree.map_structure(fit, specs, examples)
