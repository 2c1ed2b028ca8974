"""The program `maml-keras`: a separate package, so that help starts no TensorFlow."""

from maml_keras_cli.app import app, main

__all__ = ["app", "main"]
