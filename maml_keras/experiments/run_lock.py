"""A lock on a run folder, so that two processes never write into the same run."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import platform
from collections.abc import Iterator

import filelock

# The file that the operating system locks. The lock vanishes with its process, but the
# empty file stays: a lock file must not be removed while another process may open it.
LOCK = ".lock"
# Names the process and the machine that hold the lock. The file also guards a network
# folder whose locks one machine does not see from another.
HOLDER = "in_use.json"


@contextlib.contextmanager
def held(folder: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Holds a folder for this process and thread until the block ends.

    A lock of a process that has died on this machine is taken over. A lock of another
    machine is refused, because that process cannot be asked from here. The same thread
    may hold a folder several times.

    Args:
        folder: a folder; a missing one is made, and removed again if it stays empty.

    Returns:
        A context with the folder as a `pathlib.Path`.

    Raises:
        BlockingIOError: if another process, or another thread of this process, holds
            the folder; the message names the process and its machine.
        FileExistsError: if `folder` is a file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with held(pathlib.Path(place) / "run") as run:
    ...         sorted(os.listdir(run))
    ['.lock', 'in_use.json']
    """
    folder = pathlib.Path(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    # One lock object for each path and thread counts how often it is held.
    lock = filelock.FileLock(str(folder.resolve() / LOCK), is_singleton=True)
    if lock.is_locked:
        yield folder
        return
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise BlockingIOError(
            f"{folder} is in use by {_holder(folder)}. Wait until that process has "
            "ended, or choose another folder."
        ) from None
    try:
        _write_holder(folder)
        try:
            yield folder
        finally:
            (folder / HOLDER).unlink(missing_ok=True)
            if is_empty(folder):
                with contextlib.suppress(OSError):
                    (folder / LOCK).unlink()
    finally:
        lock.release()
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()


def is_empty(folder: pathlib.Path) -> bool:
    """True if a folder holds nothing but its lock."""
    return set(os.listdir(folder)) <= {LOCK, HOLDER}


def _write_holder(folder: pathlib.Path) -> None:
    """Writes who holds the lock, which the operating system has given to us."""
    path = folder / HOLDER
    text = json.dumps(
        {
            "process": os.getpid(),
            "machine": platform.node(),
            "since": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        }
    )
    with contextlib.suppress(FileExistsError):
        # Mode "x": on a network folder, only one of two machines makes the file.
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        return
    left = _read(path)
    if left.get("machine", platform.node()) != platform.node():
        raise BlockingIOError(
            f"{folder} is in use by {_holder(folder)}, which cannot be asked from "
            f"{platform.node()}. If that process has ended, remove {path} and try "
            "again."
        )
    # The process on this machine has died: its lock is free.
    path.write_text(text, encoding="utf-8")


def _holder(folder: pathlib.Path) -> str:
    found = _read(folder / HOLDER)
    if not found:
        return "another process"
    return f"process {found['process']} on {found['machine']} since {found['since']}"


def _read(path: pathlib.Path) -> dict[str, str]:
    """The holder; empty if its process died, or has not come to write its name."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: str(found[name]) for name in ("process", "machine", "since")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
