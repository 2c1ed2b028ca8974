"""Wraps every command: sets TensorFlow and logging up, and turns errors into lines."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import typer

MISTAKE, INTERRUPTED, TERMINATED = 1, 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM came: the command ends as by Ctrl-C, with another exit code."""


def in_process(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its process prepared and its errors printed as one line.

    An error that a user can fix ends with one line and exit code 1, Ctrl-C with exit
    code 130, SIGTERM with 143. A bug of the program keeps its traceback. With
    `--verbose`, every error keeps its traceback.
    """

    @functools.wraps(command)
    def run(**options: Any) -> None:
        quiet, verbose = options.get("quiet", False), options.get("verbose", False)
        if quiet and verbose:
            raise typer.BadParameter("--quiet and --verbose exclude each other.")
        # TensorFlow's C++ code prints messages about processors and missing GPUs.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
        try:
            with _logging(quiet, verbose), _warnings(quiet), _sigterm_as_ctrl_c():
                _set_tensorflow()
                command(**options)
        except BrokenPipeError:
            raise  # The reader, such as `head`, closed the pipe: typer prints nothing.
        except KeyboardInterrupt as error:
            terminated = isinstance(error, Terminated)
            word = "terminated" if terminated else "interrupted"
            typer.echo(f"{word}. {error}".rstrip(), err=True)
            raise typer.Exit(TERMINATED if terminated else INTERRUPTED) from error
        except Exception as error:
            if verbose or not isinstance(error, _mistakes()):
                raise
            typer.echo(f"error: {_line(error)}", err=True)
            raise typer.Exit(MISTAKE) from error

    return run


def _mistakes() -> tuple[type[Exception], ...]:
    """Errors that a user can fix: wrong options, damaged files, a full disk."""
    if "tensorflow" not in sys.modules:
        return ValueError, OSError, ImportError
    import tensorflow as tf

    return ValueError, OSError, ImportError, tf.errors.OpError


def _line(error: Exception) -> str:
    """The message of an error in one line that is harmless for a terminal."""
    from maml_keras.backend.printable import printable

    # TensorFlow puts the names of its graph's nodes before a message.
    text = re.sub(r"\{\{.*?\}\}", "", getattr(error, "message", None) or str(error))
    return printable(" ".join(text.split()))


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Ends the command on SIGTERM as on Ctrl-C, so that a run says how to resume."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets the main thread alone set what a signal does.
        return

    def end(number: int, frame: Any) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def _logging(quiet: bool, verbose: bool) -> Iterator[None]:
    """Sends the library's log to the terminal, from the level that the user chose."""
    logger = logging.getLogger("maml_keras")
    level, propagate = logger.level, logger.propagate
    logger.setLevel(
        logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    )
    # Without a handler, Python prints warnings but not the messages below that level.
    handler = logging.StreamHandler()
    if verbose:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@contextlib.contextmanager
def _warnings(quiet: bool) -> Iterator[None]:
    """Prints each warning as one line, without the place in the code."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if not quiet:
            typer.echo(f"warning: {' '.join(str(message).split())}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _set_tensorflow() -> None:
    if "tensorflow" in sys.modules:
        return  # Another program runs this process and has set its threads.
    from maml_keras.backend.threads import use_one_thread_per_task

    use_one_thread_per_task()
