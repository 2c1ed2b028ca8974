"""Episodes a second of the samplers, and the memory of training from disk.

    python -m benchmarks.samplers                          # four minutes
    python -m benchmarks.samplers --peer-python PATH       # where Grain is installed

Episodes are 5-way 1-shot with 15 queries a class, handed over as float32 arrays in
batches of 32 (in memory) or 4 (from disk). In memory: 1,100 classes of 20 grey bytes
images of 28x28, as Omniglot's training part. From disk: 20,000 colour images of 84x84
in 200 classes, which `to_disk` wrote and which Grain reads from the same file. The
memory is the largest resident size of a process while it trains conv-4 on the images
from disk, above that of a process that trains on two such tasks that it draws once:
so what the data takes, and not the network.

The script writes results/samplers.json. learn2learn's sampler needs PyTorch: it is
measured if the interpreter of the peers has both. An episode for each second of
processor time, of all threads together, hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results" / "samplers.json"
WAYS, SHOTS, QUERIES = 5, 1, 15
# Name: classes, examples of a class, shape of an image, episodes in a batch.
DATA = {
    "memory": (1_100, 20, (28, 28, 1), 32),
    "disk": (200, 100, (84, 84, 3), 4),
}
SECONDS, ROUNDS = 3.0, 3

# What a process measures: it defines `batches()`, an endless iterator.
CLOCK = """
import time
stream = iter(batches())
for _ in range(20):
    next(stream)
rates = []
for _ in range({rounds}):
    begin, used, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begin < {seconds}:
        next(stream)
        done += {batch}
    rates.append(done / (time.perf_counter() - begin))
    rates.append(done / (time.process_time() - used))
print("FOUND", rates)
"""
OURS = """
import numpy as np
import maml_keras as mk
{pool}
tasks = mk.data.NWayKShot(pool, ways=5, shots=1, queries=15)
def batches():
    return mk.data.episodes(tasks, batch_size={batch}, seed=1).as_numpy_iterator()
"""
GRAIN = """
import grain, numpy as np
images = np.load({path!r}, mmap_mode={mode!r})
classes, each = {classes}, {each}
def episode(index):
    draw = np.random.default_rng([1, index])
    chosen = draw.choice(classes, 5, replace=False)
    rows = np.stack([c * each + draw.choice(each, 16, replace=False) for c in chosen])
    def part(rows):
        x = images[rows.ravel()].astype(np.float32) / np.float32(255)
        order = draw.permutation(rows.size)
        return x[order], np.repeat(np.arange(5), rows.shape[1])[order]
    (support_x, support_y), (query_x, query_y) = part(rows[:, :1]), part(rows[:, 1:])
    return dict(support_x=support_x, support_y=support_y, query_x=query_x,
                query_y=query_y)
def batches():
    data = grain.MapDataset.range(10**9).map(episode).batch({batch})
    reading = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    return data.to_iter_dataset(reading)
"""
LEARN2LEARN = """
import numpy as np, torch
from learn2learn.data import MetaDataset, TaskDataset
from learn2learn.data import transforms as t
images = np.load({path!r}, mmap_mode={mode!r})
classes, each = {classes}, {each}
class Images(torch.utils.data.Dataset):
    def __len__(self):
        return len(images)
    def __getitem__(self, row):
        x = torch.from_numpy(images[row].astype(np.float32) / np.float32(255))
        return x, row // each
data = MetaDataset(Images(), labels_to_indices={{
    c: list(range(c * each, c * each + each)) for c in range(classes)}},
    indices_to_labels={{r: r // each for r in range(classes * each)}})
tasks = TaskDataset(data, task_transforms=[
    t.NWays(data, 5), t.KShots(data, 16), t.LoadData(data), t.RemapLabels(data)])
def batches():
    while True:
        yield [tasks.sample() for _ in range({batch})]
"""
MEMORY = """
import keras, itertools, threading, time
import maml_keras as mk
pool = mk.data.open_pool({path!r})
tasks = mk.data.NWayKShot(pool, ways=5, shots=1, queries=15)
episodes = mk.data.episodes(tasks, batch_size=2, seed=1)
if {once}:
    batch = next(iter(episodes))
    episodes = itertools.repeat(batch)
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
largest = 0.0
def watch():
    global largest
    while True:
        largest = max(largest, resident())
        time.sleep(0.01)
threading.Thread(target=watch, daemon=True).start()
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model = mk.models.conv4(ways=5, shape=(84, 84, 3), filters=32)
maml = mk.MAML(model, mk.InnerLoop(loss, mk.SGD(0.01)))
maml.compile("adam", jit_compile=False)
maml.fit((b for b in episodes), steps_per_epoch=10, verbose=0)
print("FOUND", [largest])
"""


def main() -> None:
    """Measures every sampler; prints a table and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable, metavar="PATH")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(pathlib.Path(folder), options.peer_python)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measured(folder: pathlib.Path, peer_python: str) -> dict[str, Any]:
    """Episodes a second by sampler and place, and mebibytes of memory."""
    found: dict[str, Any] = {}
    for name, (classes, each, shape, batch) in DATA.items():
        on_disk = name == "disk"
        path = write(folder / name, classes, each, shape, on_disk)
        array = str(path / "examples-0.npy") if on_disk else str(path)
        given = {
            "batch": batch,
            "classes": classes,
            "each": each,
            "path": array,
            "mode": "r" if on_disk else None,
            "pool": f"pool = mk.data.open_pool({str(path)!r})"
            if on_disk
            else f"pool = mk.data.from_arrays(np.load({array!r}), "
            f"np.repeat(np.arange({classes}), {each}))",
        }
        clock = CLOCK.format(seconds=SECONDS, rounds=ROUNDS, batch=batch)
        for who, code, python in (
            ("maml_keras", OURS, sys.executable),
            ("grain", GRAIN, peer_python),
            ("learn2learn", LEARN2LEARN, peer_python),
        ):
            rates = run(python, code.format(**given) + clock)
            for unit, first in (("s", 0), ("processor s", 1)):
                key = f"{who}, {name}, episodes/{unit}"
                found[key] = (
                    "not installed"
                    if rates is None
                    else round(float(np.median(rates[first::2])), 1)
                )
                sys.stdout.write(f"{key:<44}{found[key]}\n")
                sys.stdout.flush()
        if on_disk:
            from_disk, drawn_once = (
                run(sys.executable, MEMORY.format(path=str(path), once=once))
                for once in (False, True)
            )
            if from_disk and drawn_once:
                found["training from disk, MiB"] = round(from_disk[0])
                found["of these for the data, MiB"] = round(
                    from_disk[0] - drawn_once[0]
                )
                sys.stdout.write(f"memory in MiB: {from_disk[0]}, {drawn_once[0]}\n")
    return found


def write(
    path: pathlib.Path, classes: int, each: int, shape: tuple[int, ...], pool: bool
) -> pathlib.Path:
    """Random images, as a pool on disk or as a NumPy file."""
    x = np.random.default_rng(0).integers(0, 256, [classes * each, *shape], np.uint8)
    if not pool:
        np.save(path.with_suffix(".npy"), x)
        return path.with_suffix(".npy")
    import maml_keras as mk

    y = np.repeat(np.arange(classes), each)
    names = [f"{c:04d}" for c in range(classes)]
    mk.data.to_disk(mk.data.from_arrays(x, y, class_names=names), path, verbose=0)
    return path


def run(python: str, code: str) -> list[float] | None:
    """The numbers that a program prints, or None if it cannot run."""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    if not lines:
        sys.stderr.write(f"{done.stderr.strip().splitlines()[-1:]}\n")
        return None
    numbers: list[float] = json.loads(lines[-1].removeprefix("FOUND"))
    return numbers


if __name__ == "__main__":
    main()
