"""The command line: maml-keras train | evaluate | compare | adapt | export."""

from maml_keras.cli.app import app, main

__all__ = ["app", "main"]
