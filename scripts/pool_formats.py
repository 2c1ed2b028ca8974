"""Compares file formats for a pool on disk: reads of random images.

    python scripts/pool_formats.py

Each format holds the same 5,000 images of 84x84x3 bytes. The figures are seconds of
processor time for 1,000 tasks of 80 random images each, the best of five rounds in
turn, and the memory of the file that the reads leave mapped into the process.
"""

import os
import pathlib
import tempfile
import time

import h5py
import numpy as np
import psutil
import pyarrow as pa
from array_record.python import array_record_module

IMAGES, SHAPE, TASK, READS = 5000, (84, 84, 3), 80, 100


def npy_map(path, images):
    """A NumPy file as a memory map."""
    np.save(path, images)
    table = np.load(path, mmap_mode="r").view(np.ndarray)
    return lambda rows: table[rows]


def npy_read(path, images):
    """A NumPy file, read by position."""
    np.save(path, images)
    start, size = np.load(path, mmap_mode="r").offset, images[0].nbytes
    number = os.open(path, os.O_RDONLY)

    def read(rows):
        out = np.empty([len(rows), size], np.uint8)
        for image, row in zip(out, rows.tolist()):
            os.preadv(number, [image], start + row * size)
        return out.reshape(len(rows), *SHAPE)

    return read


def hdf5(path, images):
    """An HDF5 file."""
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=images, chunks=(1, *SHAPE))
    table = h5py.File(path, "r")["x"]
    return lambda rows: np.stack([table[row] for row in rows])


def arrow(path, images):
    """An Arrow file as a memory map."""
    kind = pa.binary(images[0].nbytes)
    flat = pa.py_buffer(images.reshape(-1))
    column = pa.Array.from_buffers(kind, len(images), [None, flat])
    batch = pa.record_batch([column], names=["x"])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as out:
        out.write_batch(batch)
    table = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0).column(0)

    def read(rows):
        taken = table.take(pa.array(rows))
        whole = np.frombuffer(taken.buffers()[1], np.uint8)
        return whole.reshape(len(rows), *SHAPE)

    return read


def array_record(path, images):
    """An array_record file."""
    writer = array_record_module.ArrayRecordWriter(
        str(path), "group_size:1,uncompressed"
    )
    for image in images:
        writer.write(image.tobytes())
    writer.close()
    reader = array_record_module.ArrayRecordReader(
        str(path), options="readahead_buffer_size:0,max_parallelism:0"
    )

    def read(rows):
        records = reader.read(rows.tolist())
        return np.stack([np.frombuffer(r, np.uint8).reshape(SHAPE) for r in records])

    return read


FORMATS = {
    "NumPy, read by position": npy_read,
    "NumPy, memory map": npy_map,
    "Arrow, memory map": arrow,
    "HDF5, a chunk an image": hdf5,
    "array_record": array_record,
}


def main() -> None:
    """Prints a line for each format."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, [IMAGES, *SHAPE], np.uint8)
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        reads, grown, spent = {}, {}, {}
        for name, opened in FORMATS.items():
            reads[name] = opened(pathlib.Path(folder, f"{opened.__name__}.npy"), images)
            rows = generator.integers(0, IMAGES, TASK)
            np.testing.assert_array_equal(reads[name](rows), images[rows])
        for name, read in reads.items():
            before = process.memory_info().shared
            for _ in range(READS):
                read(generator.integers(0, IMAGES, TASK))
            grown[name] = (process.memory_info().shared - before) / 2**20
        for _ in range(5):
            for name, read in reads.items():
                start = time.process_time()
                for _ in range(READS):
                    read(generator.integers(0, IMAGES, TASK))
                taken = (time.process_time() - start) * 1000 / READS
                spent[name] = min(taken, spent.get(name, taken))
        for name in FORMATS:
            print(f"{name:26}{spent[name]:8.2f} s{grown[name]:8.0f} MB")


if __name__ == "__main__":
    main()
