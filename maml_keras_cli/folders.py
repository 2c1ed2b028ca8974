"""Folders for results: a new folder, or the folder of a run to resume."""

from __future__ import annotations

import contextlib
import pathlib
import shlex
from collections.abc import Iterator

RESUME = "or continue an interrupted run with `--resume`"


@contextlib.contextmanager
def claimed_folder(
    program: str, out: pathlib.Path | None, default: pathlib.Path, *, resume: bool
) -> Iterator[pathlib.Path]:
    """A new folder for a run, or with `resume` the folder of the run to continue.

    Args:
        program: the command, for the message after an interruption.
        out: the folder that the user chose, or None.
        default: the folder if the user did not choose one. A new run takes this name,
            or the first free one of `default-2`, `default-3`, ...; with `resume`, the
            newest of these folders is taken.
        resume: continue a run that has begun.

    The folder is locked: no other process may train into it meanwhile.

    Raises:
        BlockingIOError: if another process trains into the folder.
        FileExistsError: if `out` holds something and `resume` is False.
        FileNotFoundError: if there is nothing to resume.
    """
    from maml_keras.experiments import run_lock

    is_new = not resume and not (out and out.exists())
    if resume:
        folder = _with_run(out) if out else _newest(default)
    elif out is None:
        folder = _claimed(default)
    else:
        # A folder is checked once it is locked, so that two runs cannot both find it
        # empty.
        folder = out if out.is_dir() else new_path(out, remedy=RESUME)
    try:
        with run_lock.held(folder):
            if not resume and not run_lock.is_empty(folder):
                new_path(folder, remedy=RESUME)
            yield folder
    except KeyboardInterrupt as error:
        if not (folder / "config.toml").exists():
            raise
        quoted = shlex.quote(str(folder))
        # SIGTERM is a class of its own.
        raise type(error)(
            f"Continue with `maml-keras {program} --config {quoted}/config.toml --out "
            f"{quoted} --resume`."
        ) from error
    finally:
        if is_new:
            # A new folder that stayed empty is removed, so that its name is free again.
            with contextlib.suppress(OSError):
                folder.rmdir()


def new_path(
    path: pathlib.Path, *, option: str = "--out", remedy: str = "or remove it"
) -> pathlib.Path:
    """The path, if it does not exist or is an empty folder.

    Args:
        path: the path that the user chose for a result.
        option: the option that names the path, for the error.
        remedy: what else the user can do, for the error.

    Raises:
        FileExistsError: if the path holds something.
    """
    empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not empty:
        raise FileExistsError(
            f"`{option}` must be a new path. Received: {path}, which holds something. "
            f"Choose another, {remedy}."
        )
    return path


def export_folder(path: pathlib.Path) -> pathlib.Path:
    """The export at a path: the folder itself, or the `export` of a run."""
    inside = path / "export"
    return inside if (inside / "saved_model.pb").exists() else path


def _claimed(default: pathlib.Path) -> pathlib.Path:
    from maml_keras.experiments.run_folder import numbered

    for folder in numbered(default):
        # `mkdir` claims the name: if two runs start together, the second gets "-2".
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("numbers end")


def _with_run(out: pathlib.Path) -> pathlib.Path:
    """The folder, if it holds a run: with a mistyped name, a new run would begin."""
    if not (out / "config.toml").exists():
        raise FileNotFoundError(
            f"`--resume` needs a run to continue. Received: --out {out}, without "
            "config.toml. Give the folder of the run, or leave out `--resume`."
        )
    return out


def _newest(default: pathlib.Path) -> pathlib.Path:
    from maml_keras.experiments.run_folder import numbers

    # The numbers may have gaps, and a folder may hold no run.
    found = [p for p in numbers(default) if (p / "config.toml").exists()]
    if not found:
        raise FileNotFoundError(
            f"`--resume` needs a run to continue. Received: no run in {default}. Give "
            "the folder of the run with `--out`."
        )
    return found[-1]
