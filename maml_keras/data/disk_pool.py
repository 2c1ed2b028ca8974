"""A pool on disk: NumPy files whose rows are read at random."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pathlib
import shutil
import threading
import uuid
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from maml_keras.backend.documents import NUMBER, TEXT, WHOLE, check, read_json
from maml_keras.backend.progress import Bar
from maml_keras.data import python_reads
from maml_keras.data.pool import Pool
from maml_keras.data.rows import Rows, row_keys, scaled

# Increase the number when the layout below changes.
FORMAT = 1
# Examples are written in pieces of about this many bytes.
PIECE = 2**23
KINDS = {
    "format": WHOLE,
    "class_names": [TEXT],
    "counts": [WHOLE],
    "groups": [TEXT],
    "inputs": {"*": {"file": TEXT, "sha256": TEXT}},
    "example_groups": TEXT,
    "source": {"*": NUMBER},
}


def to_disk(
    pool: Pool, path: str | os.PathLike[str], *, verbose: str | int = "auto"
) -> Pool:
    """Writes a pool to disk, piece by piece, and opens it there.

    The examples become an uncompressed NumPy file, which `numpy.load` reads, too. So a
    pool of `from_folder(..., lazy=True)` is decoded once and never held in memory.

    Args:
        pool: the pool to write.
        path: a folder that does not exist yet.
        verbose: 0 for silence, else a progress bar once two seconds have passed.

    Returns:
        The pool at `path`, as from `open_pool`.

    Raises:
        FileExistsError: if there is something at `path`.
        OSError: if the disk is full or `path` cannot be written.

    >>> import tempfile
    >>> pool = Pool(np.arange(3.0), counts=[1, 2], class_names=["a", "b"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     on_disk = to_disk(pool, pathlib.Path(folder, "numbers.pool"))
    ...     on_disk.examples[[2, 0]].tolist()
    [2.0, 0.0]
    """
    path = pathlib.Path(path)
    taken = (
        f"`path` must not exist yet. Received: {path}. Open the pool there with "
        "`mk.data.open_pool`, or remove it first."
    )
    if path.exists():
        raise FileExistsError(taken)
    # Written under another name first, so that no reader sees half a pool.
    partial = path.with_name(f"{path.name}-{uuid.uuid4().hex}.partial")
    try:
        partial.mkdir(parents=True)
        _write(pool, partial, verbose)
        try:
            os.rename(partial, path)
        except OSError as error:
            if path.exists():  # Another process was faster.
                raise FileExistsError(taken) from error
            raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return open_pool(path)


def open_pool(path: str | os.PathLike[str]) -> Pool:
    """Opens a pool that `to_disk` wrote, without reading its examples.

    An episode reads its examples from the file, at any place. The operating system
    keeps what was read in its cache, which all processes share and which is no memory
    of theirs. `pool.fingerprint()` is that of the same pool in memory, and reads
    nothing, because the file's hash was written beside the examples.

    Args:
        path: the folder.

    Returns:
        A `Pool`, whose `examples` are read when they are asked for.

    Raises:
        FileNotFoundError: if there is no pool at `path`.
        ValueError: if the pool is damaged or of a later version.

    >>> import tempfile
    >>> from maml_keras.data import from_arrays
    >>> pool = from_arrays(np.zeros([4, 2, 2, 1]), [0, 0, 1, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pool")
    ...     to_disk(pool, path).fingerprint() == open_pool(path).fingerprint()
    True
    """
    path = pathlib.Path(path)
    head = path / "pool.json"
    if not head.is_file():
        raise FileNotFoundError(
            f"`path` must be a pool that `mk.data.to_disk` wrote. Received: {path}, "
            f"which {'has no pool.json' if path.exists() else 'does not exist'}."
        )
    written = read_json(head)
    check(head, written, KINDS)
    if written.get("format") != FORMAT:
        raise ValueError(
            f"{head} must be of format {FORMAT}. Received: {written.get('format')!r}. "
            "Write the pool again with `mk.data.to_disk`."
        )
    try:
        inputs = {
            name: DiskRows(path / entry["file"], entry["sha256"])
            for name, entry in written["inputs"].items()
        }
        people = written["example_groups"]
        return Pool(
            inputs.get("", inputs),
            counts=written["counts"],
            class_names=written["class_names"],
            groups=written["groups"],
            example_groups=people and np.load(path / people, allow_pickle=False),
        )
    except (KeyError, TypeError, AttributeError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} must be a whole pool. Received: one without {error}. Write the "
            "pool again with `mk.data.to_disk`."
        ) from error


def _write(pool: Pool, path: pathlib.Path, verbose: str | int) -> None:
    examples = pool.examples
    inputs = examples if isinstance(examples, dict) else {"": examples}
    bar = Bar(pool.num_examples * len(inputs), unit="example", verbose=verbose)
    entries, done = {}, 0
    for number, (name, rows) in enumerate(inputs.items()):
        file = f"examples-{number}.npy"
        step = max(1, PIECE // max(1, _bytes_of_a_row(rows)))
        hashed, keys = hashlib.sha256(), [np.zeros([0], np.int64)]
        with open(path / file, "wb") as opened:
            form = {
                "descr": np.lib.format.dtype_to_descr(np.dtype(rows.dtype)),
                "fortran_order": False,
                "shape": tuple(rows.shape),
            }
            np.lib.format.write_array_header_1_0(opened, form)
            for start in range(0, len(rows), step):
                stop = min(start + step, len(rows))
                piece = np.ascontiguousarray(rows[np.arange(start, stop)])
                hashed.update(piece.data)
                opened.write(piece.data)
                keys.append(row_keys(piece))
                bar.update(done + stop)
        np.save(_keys_of(path / file), np.concatenate(keys))
        done += len(rows)
        entries[name] = {"file": file, "sha256": hashed.hexdigest()}
    bar.finish(done)
    people = None
    if pool.example_groups is not None:
        people = "example_groups.npy"
        np.save(path / people, pool.example_groups)
    head = {
        "format": FORMAT,
        "class_names": pool.class_names,
        "counts": pool.counts.tolist(),
        "groups": pool.groups,
        "example_groups": people,
        "inputs": entries,
    }
    (path / "pool.json").write_text(json.dumps(head), encoding="utf-8")


def _keys_of(file: pathlib.Path) -> pathlib.Path:
    return file.with_name(file.name.replace("examples", "keys"))


def _bytes_of_a_row(rows: Any) -> int:
    size: int = math.prod(rows.shape[1:]) * np.dtype(rows.dtype).itemsize
    return size


# Held while a file is at the place of a read, where reads have no place of their own.
_AT_A_PLACE = threading.Lock()


def read_into(file: Any, into: Any, place: int) -> int:
    """Reads bytes at a place of a file, from any thread.

    Args:
        file: an unbuffered binary file.
        into: uint8 array, which is filled.
        place: int, the first byte to read.

    Returns:
        How many bytes there were.
    """
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [into], place)
    with _AT_A_PLACE:  # Windows: the place of the file belongs to all threads.
        file.seek(place)
        return int(file.readinto(into))


class DiskRows(Rows):
    """Rows of a NumPy file, read by their position.

    Reads by position took 0.48 s for 80,000 images of 84x84x3 bytes, a memory map
    0.34 s. But the pages of a map count as memory of the process, and a file that
    somebody shortens ends a process with a map.

    Args:
        path: the `.npy` file, C-ordered.
        sha256: str, the hash of all rows.
        index: int array `[n]`, the row of the file that each row is; None for all.

    Raises:
        ValueError: if the file is damaged.
    """

    def __init__(
        self, path: pathlib.Path, sha256: str, index: npt.NDArray[Any] | None = None
    ) -> None:
        try:
            form = np.load(path, mmap_mode="r", allow_pickle=False)
            whole = isinstance(form, np.memmap) and form.flags.c_contiguous
        except FileNotFoundError:
            raise
        except (ValueError, EOFError, OSError):
            whole = False
        if not whole:
            raise ValueError(
                f"{path} must be a whole NumPy file. Received: a truncated or damaged "
                "file. Write the pool again with `mk.data.to_disk`."
            )
        self._path, self._sha256, self._index = path, sha256, index
        self._file = io.FileIO(path)
        weakref.finalize(self, self._file.close)
        self._start, self._bytes = int(form.offset), _bytes_of_a_row(form)
        self.dtype = form.dtype
        self.shape = (len(form) if index is None else len(index), *form.shape[1:])

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        rows = np.arange(len(self))[rows] if isinstance(rows, slice) else rows
        rows = np.asarray(rows) if self._index is None else self._index[rows]
        out = np.empty([rows.size, self._bytes], np.uint8)
        for row, into in zip(rows.ravel().tolist(), out, strict=True):
            place = self._start + row * self._bytes
            if row < 0 or read_into(self._file, into, place) < self._bytes:
                raise ValueError(
                    f"{self._path} must hold row {row}. Received: a file that ends "
                    "before this row. Write the pool again with `mk.data.to_disk`."
                )
        return out.view(self.dtype).reshape(*rows.shape, *self.shape[1:])

    def __reduce__(self) -> Any:
        # Another process opens the file again.
        return DiskRows, (self._path, self._sha256, self._index)

    def select(self, rows: npt.NDArray[Any]) -> DiskRows:
        """The given rows of the same file."""
        rows = np.asarray(rows, np.int64)
        index = rows if self._index is None else self._index[rows]
        return DiskRows(self._path, self._sha256, index)

    def gather(self, rows: Any) -> Any:
        """Examples as episodes hold them, as in `Rows.gather`."""
        examples = python_reads.read(
            self.__getitem__, rows, tf.as_dtype(np.dtype(self.dtype))
        )
        return scaled(
            tf.ensure_shape(examples, [*rows.shape, *self.shape[1:]]),
            axes=self.ndim - 1,
        )

    def keys(self) -> npt.NDArray[Any]:
        """The keys that were written beside the file, as in `Rows.keys`."""
        every: npt.NDArray[Any] = np.load(_keys_of(self._path), allow_pickle=False)
        return every if self._index is None else every[self._index]

    def digest(self) -> bytes:
        """The hash of the file, and of the row numbers if they are not all in order."""
        whole = bytes.fromhex(self._sha256)
        if self._index is None:
            return whole
        return hashlib.sha256(whole + self._index.tobytes()).digest()
