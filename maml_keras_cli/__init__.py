"""The program `maml-keras`, beside the library so that its help needs no TensorFlow."""

from maml_keras_cli.app import app, main

__all__ = ["app", "main"]
