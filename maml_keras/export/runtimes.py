"""File formats of other runtimes: how to write a file, and how to run it."""

from __future__ import annotations

import abc
import functools
import importlib
import pathlib
import tempfile
import warnings
from importlib import metadata
from typing import Any

import keras
import tensorflow as tf

from maml_keras.backend.overrides import ScopedOverride
from maml_keras.backend.recurrent import unrolled


def _gelu(
    _: None, original: Any, features: Any, approximate: bool = False, name: Any = None
) -> Any:
    if approximate:
        return original(features, approximate=True, name=name)
    # TensorFlow's `gelu` uses `erfc`, which ONNX does not have.
    return 0.5 * features * (1.0 + tf.math.erf(features * 0.5**0.5))


_exact_gelu = ScopedOverride(tf.nn, "gelu", _gelu)


class Format(abc.ABC):
    """A file format for networks that only predict.

    Attributes:
        name: str, as in `convert(format=)`.
        suffix: str, ending of its files.
        runtime: str, the package that runs its files.
        modules: the module that writes a file, and the module that runs it.
        extra: str, this library's extra that installs both.
        limits: str, networks that the format cannot hold, for error messages.
    """

    name: str
    suffix: str
    runtime: str
    modules: tuple[str, str]
    extra: str
    limits: str

    @abc.abstractmethod
    def write(self, network: keras.Model, specs: Any, path: pathlib.Path) -> None:
        """Writes a network that takes inputs of these `tf.TensorSpec`."""

    @abc.abstractmethod
    def run(self, path: pathlib.Path, x: Any, names: list[str]) -> list[Any]:
        """The predictions of the file in its own runtime.

        Args:
            path: the file.
            x: arrays by the names of `write`'s specs.
            names: Keras's names of the outputs, in the order of the result.
        """

    def require(self, *, runtime: bool) -> None:
        """Imports the modules that the format needs.

        Raises:
            ImportError: if one is missing; the message says what to install.
        """
        for module in self.modules[: 2 if runtime else 1]:
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise ImportError(
                    f"The format '{self.name}' needs {module.partition('.')[0]}. "
                    f"Install it with `pip install 'maml_keras[{self.extra}]'`. "
                    f"({error})"
                ) from error

    @property
    def version(self) -> str:
        """The runtime and its version."""
        return f"{self.runtime} {metadata.version(self.runtime)}"


class Onnx(Format):
    """ONNX files, for ONNX Runtime and others; Keras writes them with tf2onnx."""

    name = "onnx"
    suffix = ".onnx"
    runtime = "onnxruntime"
    modules = "tf2onnx", "onnxruntime"
    extra = "onnx"
    limits = "Operations that tf2onnx does not know have no form in ONNX."

    def write(self, network: keras.Model, specs: Any, path: pathlib.Path) -> None:
        with warnings.catch_warnings(), _exact_gelu.scope():
            # Keras reads `numpy.object`, which makes NumPy warn.
            warnings.simplefilter("ignore", FutureWarning)
            network.export(
                str(path), format="onnx", verbose=False, input_signature=[specs]
            )

    def run(self, path: pathlib.Path, x: Any, names: list[str]) -> list[Any]:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        # The file leaves out an input that does not influence the predictions.
        taken = {i.name for i in session.get_inputs()}
        return list(session.run(None, {k: v for k, v in x.items() if k in taken}))


class LiteRT(Format):
    """LiteRT files (once TensorFlow Lite), for phones, browsers and small boards."""

    name = "litert"
    suffix = ".tflite"
    runtime = "ai-edge-litert"
    modules = "tensorflow.lite", "ai_edge_litert.interpreter"
    extra = "litert"
    limits = (
        "LiteRT has fewer operators than TensorFlow. It takes recurrent layers only "
        "without a mask and with a known number of time steps, at most 64. Try '.onnx'."
    )

    def write(self, network: keras.Model, specs: Any, path: pathlib.Path) -> None:
        # Keras 3.15 exports LiteRT files in this way; Keras 3.12 cannot. Two things
        # differ here. Only LiteRT's own operators are used, because its Python
        # interpreter runs no others. Loops over time are unrolled, because LiteRT
        # cannot run them for any number of examples.
        archive = keras.export.ExportArchive()
        archive.track(network)
        call = functools.partial(network.__call__, training=False)
        with tempfile.TemporaryDirectory() as folder:
            with unrolled():  # Each of these two calls may trace the network.
                archive.add_endpoint("serve", call, input_signature=[specs])
                archive.write_out(folder, verbose=False)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            converter.experimental_enable_resource_variables = True
            path.write_bytes(converter.convert())

    def run(self, path: pathlib.Path, x: Any, names: list[str]) -> list[Any]:
        from ai_edge_litert.interpreter import Interpreter

        # The variable keeps the interpreter alive; the runner does not.
        interpreter = Interpreter(model_path=str(path))
        found = interpreter.get_signature_runner()(**x)
        return [found.get(n, found.get(f"output_{i}")) for i, n in enumerate(names)]


FORMATS: dict[str, Format] = {f.name: f for f in (Onnx(), LiteRT())}
