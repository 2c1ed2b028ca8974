"""File formats for a learner: how to write its functions, and how to run them."""

from __future__ import annotations

import abc
import functools
import json
import pathlib
import tempfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from maml_keras.export.learner_functions import PURE, LearnerFunctions
from maml_keras.export.runtimes import FORMATS, Format

# What runs a function of a file: arrays by name in, arrays by name out.
Run = Callable[..., dict[str, Any]]
# A version of the ONNX operations that ONNX Runtime has known since 2023.
OPSET = 18


class LearnerFormat(abc.ABC):
    """A file format for learners.

    Attributes:
        kind: the format, with its name, ending, runtime and the packages it needs.
        functions: names of the functions that its files hold.
    """

    kind: Format
    functions: tuple[str, ...]

    @abc.abstractmethod
    def write(
        self,
        functions: LearnerFunctions,
        path: pathlib.Path,
        card: dict[str, Any],
        done: Callable[[], None],
    ) -> list[pathlib.Path]:
        """Writes the file or files.

        Args:
            functions: of the learner.
            path: the file of `adapt_and_predict`.
            card: goes along as metadata.
            done: called after each of `functions`.

        Returns:
            All files that were written.
        """

    @abc.abstractmethod
    def open(self, path: pathlib.Path) -> Run:
        """Opens the files; returns `run(function, **arrays)`."""


class OnnxLearner(LearnerFormat):
    """A file for `adapt_and_predict`, and one each for `adapt` and `predict_with`."""

    kind = FORMATS["onnx"]
    functions = PURE

    def write(
        self,
        functions: LearnerFunctions,
        path: pathlib.Path,
        card: dict[str, Any],
        done: Callable[[], None],
    ) -> list[pathlib.Path]:
        paths = []
        for name in self.functions:
            model = _onnx(functions.pure(name), functions.outputs(name))
            _name_sizes(model)
            for key, text in {"card": _text(card), "function": name}.items():
                entry = model.metadata_props.add()
                entry.key, entry.value = key, text
            paths.append(onnx_file(path, name))
            paths[-1].write_bytes(model.SerializeToString())
            done()
        return paths

    def open(self, path: pathlib.Path) -> Run:
        import onnxruntime

        @functools.cache
        def session(name: str) -> Any:
            return onnxruntime.InferenceSession(str(onnx_file(path, name)))

        def run(name: str, **arrays: Any) -> dict[str, Any]:
            opened = session(name)
            # The file leaves out an input that does not influence the outputs.
            taken = {i.name for i in opened.get_inputs()}
            given = {k: np.asarray(v) for k, v in arrays.items() if k in taken}
            outputs = [o.name for o in opened.get_outputs()]
            return dict(zip(outputs, opened.run(None, given)))

        return run


def onnx_file(path: pathlib.Path, name: str) -> pathlib.Path:
    """The file of a function: `learner.onnx`, or `learner.adapt.onnx` of a pair.

    >>> onnx_file(pathlib.Path("learner.onnx"), "adapt").name
    'learner.adapt.onnx'
    """
    if name == "adapt_and_predict":
        return path
    return path.with_name(f"{path.stem}.{name}{path.suffix}")


def _onnx(function: Any, outputs: list[str]) -> Any:
    """A function as a `ModelProto` with named outputs."""
    from tf2onnx import convert, tf_loader

    concrete = function.get_concrete_function()
    inputs = [t.name for t in concrete.inputs]
    found = [t.name for t in concrete.outputs]
    # A concrete function returns a dict in the order of its sorted keys.
    names = sorted(outputs)
    renamed = {
        t.name: s.name for t, s in zip(concrete.inputs, function.input_signature)
    }
    renamed |= dict(zip(found, names, strict=True))
    with tf.device("/cpu:0"):
        frozen = tf_loader.from_function(concrete, inputs, found)
        # Without tf2onnx's own optimisers, which take most of the time and find little
        # that ONNX Runtime does not find when it loads the file.
        model, _ = convert._convert_common(
            frozen,
            name=concrete.name,
            continue_on_error=True,
            opset=OPSET,
            input_names=inputs,
            output_names=found,
            tensors_to_rename=renamed,
            optimizers={},
            custom_rewriter=[_select_exactly],
        )
    return model


def _select_exactly(graph: Any, nodes: Any) -> Any:
    """Makes tf2onnx select a number, instead of adding products with 0 and 1.

    A NaN or an infinite number that is not selected would make the sum NaN.
    """
    for node in nodes:
        if node.type in ("Select", "SelectV2"):
            node.set_attr("handles_nan", True)
    return nodes


def _name_sizes(model: Any) -> None:
    """Names the numbers of examples, which tf2onnx numbers."""
    for value in (*model.graph.input, *model.graph.output):
        part = "support" if value.name.startswith("support_") else "query"
        for size in value.type.tensor_type.shape.dim[:1]:
            if size.dim_param:
                size.dim_param = part


class LiteRTLearner(LearnerFormat):
    """One file with a signature for each function."""

    kind = FORMATS["litert"]
    functions = (*PURE, "serve", "fine_tune", "reset")

    def write(
        self,
        functions: LearnerFunctions,
        path: pathlib.Path,
        card: dict[str, Any],
        done: Callable[[], None],
    ) -> list[pathlib.Path]:
        module, named = functions.stateful()
        signatures = {}
        for name, function in named.items():
            signatures[name] = function.get_concrete_function()
            done()
        with tempfile.TemporaryDirectory() as folder:
            tf.saved_model.save(module, folder, signatures=signatures)
            converter = tf.lite.TFLiteConverter.from_saved_model(
                folder, signature_keys=list(signatures)
            )
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            converter.experimental_enable_resource_variables = True
            path.write_bytes(converter.convert())
        # Metadata of LiteRT is a zip archive behind the model.
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("card.json", _text(card))
        return [path]

    def open(self, path: pathlib.Path) -> Run:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(path))

        @functools.cache
        def runner(name: str) -> Any:
            return interpreter.get_signature_runner(name)

        def run(name: str, **arrays: Any) -> dict[str, Any]:
            opened = runner(name)
            taken = opened.get_input_details()
            given = {k: np.asarray(v) for k, v in arrays.items() if k in taken}
            return dict(opened(**given))

        return run


def _text(card: dict[str, Any]) -> str:
    return json.dumps(card, ensure_ascii=False)


LEARNER_FORMATS: dict[str, LearnerFormat] = {
    f.kind.name: f for f in (OnnxLearner(), LiteRTLearner())
}
