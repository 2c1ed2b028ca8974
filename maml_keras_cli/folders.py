"""Where results go: into folders that are new, or that a user wants to go on with."""

from __future__ import annotations

import contextlib
import pathlib
import shlex
from collections.abc import Iterator

GO_ON = "or go on with an interrupted run by `--resume`"


@contextlib.contextmanager
def claimed_folder(
    program: str, out: pathlib.Path | None, default: pathlib.Path, *, resume: bool
) -> Iterator[pathlib.Path]:
    """A new folder for a run, or with `resume` the one to go on with.

    Args:
        program: the command, for what an interruption says.
        out: what the user chose, or None.
        default: the folder where the user did not choose: this one, or the first of
            `default-2`, `default-3`, .. that is free.
        resume: take the folder that is there; of several defaults the newest.

    Raises:
        FileExistsError: if `out` holds something and `resume` is False.
        FileNotFoundError: if there is nothing to resume.
    """
    ours = not resume and not (out and out.exists())
    if resume:
        folder = _begun(out) if out else _newest(default)
    else:
        folder = new_path(out, remedy=GO_ON) if out else _claimed(default)
    try:
        yield folder
    except KeyboardInterrupt as error:
        if not (folder / "config.toml").exists():
            raise
        quoted = shlex.quote(str(folder))
        raise KeyboardInterrupt(
            f"Go on with `maml-keras {program} --config {quoted}/config.toml --out "
            f"{quoted} --resume`."
        ) from error
    finally:
        if ours:
            # If nothing was written the name is free again.
            with contextlib.suppress(OSError):
                folder.rmdir()


def new_path(
    path: pathlib.Path, *, option: str = "--out", remedy: str = "or remove it"
) -> pathlib.Path:
    """The path, if there is nothing yet.

    Args:
        path: where the user wants something written.
        option: what the user calls it.
        remedy: what to do other than to choose another.

    Raises:
        FileExistsError: if there is, with what to do.
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
        # Making it is the claim: of two runs that start together one goes on to -2.
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("numbers end")


def _begun(out: pathlib.Path) -> pathlib.Path:
    """The folder, if a run began there: a mistyped one would train from nothing."""
    if not (out / "config.toml").exists():
        raise FileNotFoundError(
            "`--resume` needs a run to go on with. Received: --out "
            f"{out}, without config.toml. Name its folder, or leave out `--resume`."
        )
    return out


def _newest(default: pathlib.Path) -> pathlib.Path:
    from maml_keras.experiments.run_folder import numbers

    # Some may have been deleted since, and one that is there may hold no run.
    there = [p for p in numbers(default) if (p / "config.toml").exists()]
    if not there:
        raise FileNotFoundError(
            f"`--resume` needs a run to go on with. Received: none in {default}. Name "
            "its folder with `--out`."
        )
    return there[-1]
