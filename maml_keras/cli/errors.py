"""What a user can mend is one line and an exit code; a bug is a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Ends the program with 1 after a mistake and with 130 after an interruption."""
    try:
        yield
    except (ValueError, FileNotFoundError, FileExistsError, ImportError) as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted; `maml-keras train` goes on with --resume", err=True)
        raise typer.Exit(130) from error
