"""Pools on disk: prepared once, read by later calls."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import pathlib
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from maml_keras.data.disk_pool import open_pool, to_disk
from maml_keras.data.pool import Pool

# What a pool may have beside its classes.
OPTIONAL = ("groups", "example_groups")

logger = logging.getLogger(__name__)

# Errors from reading a missing or damaged archive; the archive is then built again. A
# damaged header can ask for a password (RuntimeError) or for an unknown method.
DAMAGED = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


def cached(
    name: str,
    key: Mapping[str, Any],
    prepare: Callable[[], Pool],
    cache_dir: str | os.PathLike[str] | None = None,
) -> Pool:
    """The pool of an earlier call, or else a new one, which is then kept.

    A damaged file is made again. A warning in the log says if the pool cannot be kept.

    Args:
        name: str, the beginning of the file's name.
        key: everything that the pool depends on, as JSON can hold it.
        prepare: function that makes the pool.
        cache_dir: the directory. Defaults to the environment variable
            MAML_KERAS_CACHE, then to ~/.cache/maml_keras.
    """
    path = _path(name, key, cache_dir, ".npz")
    pool = _read(path)
    if pool is None:
        pool = prepare()
        _write(path, pool)
    return pool


def cached_on_disk(
    name: str,
    key: Mapping[str, Any],
    prepare: Callable[[], Pool],
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    verbose: str | int = 0,
) -> Pool:
    """A pool on disk, which is written by the first call with its key.

    A damaged copy is written again. If the pool cannot be kept, a warning is in the
    log, and what `prepare` returns is returned.

    Args:
        name: str, as in `cached`.
        key: as in `cached`.
        prepare: function that makes a pool, whose examples need not fit in memory.
        cache_dir: as in `cached`.
        verbose: 0 for silence, else a progress bar once two seconds have passed.
    """
    path = _path(name, key, cache_dir, ".pool")
    try:
        return open_pool(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except ValueError:  # A damaged copy.
        shutil.rmtree(path, ignore_errors=True)
    pool = prepare()
    try:
        return to_disk(pool, path, verbose=verbose)
    except FileExistsError:  # Another process was faster.
        return open_pool(path)
    except OSError as error:
        _warn(path, error)
        return pool


def _path(
    name: str,
    key: Mapping[str, Any],
    cache_dir: str | os.PathLike[str] | None,
    suffix: str,
) -> pathlib.Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    directory = cache_dir or os.environ.get("MAML_KERAS_CACHE")
    root = pathlib.Path(directory or "~/.cache/maml_keras").expanduser()
    return root / f"{name}-{digest[:16]}{suffix}"


def _warn(path: pathlib.Path, error: OSError) -> None:
    logger.warning(
        "The data could not be cached in %r: %s. Pass a writable cache_dir. "
        "Otherwise the next call prepares the data again.",
        str(path.parent),
        error,
    )


def _read(path: pathlib.Path) -> Pool | None:
    """The cached pool, or None if the cache is missing or damaged."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as saved:
            pool = Pool(
                saved["examples"],
                counts=saved["counts"],
                class_names=saved["class_names"].tolist(),
                **{name: saved[name].tolist() for name in OPTIONAL if name in saved},
            )
            whole = str(saved["fingerprint"]) == pool.fingerprint()
    except DAMAGED:
        return None
    return pool if whole else None


def _write(path: pathlib.Path, pool: Pool) -> None:
    # Write under another name first, so that no reader sees half a file. `tempfile`
    # does not fit: only the owner may read its files, but users may share a cache.
    partial = path.with_name(f"{path.stem}-{uuid.uuid4().hex}.partial")
    known = {name: getattr(pool, name) for name in OPTIONAL}
    extra: dict[str, Any] = {
        name: np.array(value) for name, value in known.items() if value is not None
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "xb") as file:
            np.savez_compressed(
                file,
                examples=pool.examples,
                counts=pool.counts,
                class_names=np.array(pool.class_names),
                fingerprint=np.array(pool.fingerprint()),
                **extra,
            )
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        _warn(path, error)
