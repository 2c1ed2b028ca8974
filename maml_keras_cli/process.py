"""What surrounds every command: how TensorFlow is set up, and how errors end."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import typer

MISTAKE, INTERRUPTED = 1, 130


def in_process(command: Callable[..., None]) -> Callable[..., None]:
    """The command, whose errors are one line each and whose process is prepared.

    What a user can mend ends with one line and exit code 1, an interruption with 130;
    a fault of the program's own keeps its traceback, and so does everything under
    `--verbose`.
    """

    @functools.wraps(command)
    def run(**options: Any) -> None:
        quiet, verbose = options.get("quiet", False), options.get("verbose", False)
        if quiet and verbose:
            raise typer.BadParameter("--quiet and --verbose exclude each other.")
        # TensorFlow's C++ part talks of processors, and of GPUs that are not there.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
        try:
            with _logging(quiet, verbose):
                _set_tensorflow()
                command(**options)
        except BrokenPipeError:
            raise  # The reader had enough, as `head` has: typer ends in silence.
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
    """What the library logs goes to the terminal, from the level that was asked for."""
    logger = logging.getLogger("maml_keras")
    level, propagate = logger.level, logger.propagate
    logger.setLevel(
        logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    )
    # Where no handler is, Python's last resort writes warnings, and nothing below.
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


def _set_tensorflow() -> None:
    if "tensorflow" in sys.modules:
        return  # The process belongs to another program, and so do its threads.
    from maml_keras.backend.threads import use_one_thread_per_task

    use_one_thread_per_task()
