"""Wraps every command: sets TensorFlow and logging up, and turns errors into lines."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import typer

MISTAKE, INTERRUPTED = 1, 130


def in_process(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its process prepared and its errors printed as one line.

    An error that a user can fix ends with one line and exit code 1, an interruption
    with exit code 130. A bug of the program keeps its traceback. With `--verbose`,
    every error keeps its traceback.
    """

    @functools.wraps(command)
    def run(**options: Any) -> None:
        quiet, verbose = options.get("quiet", False), options.get("verbose", False)
        if quiet and verbose:
            raise typer.BadParameter("--quiet and --verbose exclude each other.")
        # TensorFlow's C++ code prints messages about processors and missing GPUs.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
        try:
            with _logging(quiet, verbose), _warnings(quiet):
                _set_tensorflow()
                command(**options)
        except BrokenPipeError:
            raise  # The reader, such as `head`, closed the pipe: typer prints nothing.
        except (ValueError, OSError, ImportError) as error:
            if verbose:
                raise
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(MISTAKE) from error
        except KeyboardInterrupt as error:
            typer.echo(f"interrupted. {error}".rstrip(), err=True)
            raise typer.Exit(INTERRUPTED) from error

    return run


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
