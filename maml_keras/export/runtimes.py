"""Files of other runtimes: how each is written, and how its runtime runs it."""

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
    # TensorFlow's own has `erfc`, which ONNX does not.
    return 0.5 * features * (1.0 + tf.math.erf(features * 0.5**0.5))


_exact_gelu = ScopedOverride(tf.nn, "gelu", _gelu)


class Format(abc.ABC):
    """A file format for networks that only predict.

    Attributes:
        name: str, as in `convert(format=)`.
        suffix: str, how its files end.
        runtime: str, the package that runs it.
        modules: what is imported to write it, and then what to run it.
        extra: str, this library's extra that brings all of them.
        limits: str, what has no form in it, for whoever meets that.
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
        """The file's answers in its own runtime.

        Args:
            path: the file.
            x: arrays by the names of `write`'s specs.
            names: what Keras calls the outputs, in the order to return them in.
        """

    def require(self, *, runtime: bool) -> None:
        """Imports what the format needs.

        Raises:
            ImportError: with what to install.
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
    """For ONNX Runtime and its kin; written by Keras through tf2onnx."""

    name = "onnx"
    suffix = ".onnx"
    runtime = "onnxruntime"
    modules = "tf2onnx", "onnxruntime"
    extra = "onnx"
    limits = "Operations that tf2onnx does not know have no form in ONNX."

    def write(self, network: keras.Model, specs: Any, path: pathlib.Path) -> None:
        with warnings.catch_warnings(), _exact_gelu.scope():
            # Keras looks for `numpy.object`, at which NumPy warns.
            warnings.simplefilter("ignore", FutureWarning)
            network.export(
                str(path), format="onnx", verbose=False, input_signature=[specs]
            )

    def run(self, path: pathlib.Path, x: Any, names: list[str]) -> list[Any]:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        # One without influence on the answer is not among the file's inputs.
        taken = {i.name for i in session.get_inputs()}
        return list(session.run(None, {k: v for k, v in x.items() if k in taken}))


class LiteRT(Format):
    """For LiteRT, once TensorFlow Lite: telephones, browsers, small boards."""

    name = "litert"
    suffix = ".tflite"
    runtime = "ai-edge-litert"
    modules = "tensorflow.lite", "ai_edge_litert.interpreter"
    extra = "litert"
    limits = (
        "LiteRT's own operators are fewer than TensorFlow's; of recurrent layers it "
        "takes those without a mask, up to 64 steps of a known number. Try '.onnx'."
    )

    def write(self, network: keras.Model, specs: Any, path: pathlib.Path) -> None:
        # As Keras 3.15 does it, which Keras 3.12 does not; but with LiteRT's own
        # operators only, as its Python interpreter runs no others, and without loops
        # over time, which have no form there for any number of examples.
        archive = keras.export.ExportArchive()
        archive.track(network)
        call = functools.partial(network.__call__, training=False)
        with tempfile.TemporaryDirectory() as folder:
            with unrolled():  # Traced by either of them.
                archive.add_endpoint("serve", call, input_signature=[specs])
                archive.write_out(folder, verbose=False)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            converter.experimental_enable_resource_variables = True
            path.write_bytes(converter.convert())

    def run(self, path: pathlib.Path, x: Any, names: list[str]) -> list[Any]:
        from ai_edge_litert.interpreter import Interpreter

        # Held by name: the runner does not keep its interpreter alive.
        interpreter = Interpreter(model_path=str(path))
        found = interpreter.get_signature_runner()(**x)
        return [found.get(n, found.get(f"output_{i}")) for i, n in enumerate(names)]


FORMATS: dict[str, Format] = {f.name: f for f in (Onnx(), LiteRT())}
