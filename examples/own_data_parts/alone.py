"""The answers of a server without this library: an export, and TensorFlow alone."""

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np

CLASSES = """
import sys
import numpy as np
import tensorflow as tf
saved = tf.saved_model.load(sys.argv[1])
task = np.load(sys.argv[2])
scores = saved.adapt_and_predict(task["known"], task["classes"], task["new"])
print(*tf.argmax(scores, axis=1).numpy())
"""

ROWS = """
import json, sys
import tensorflow as tf
saved = tf.saved_model.load(sys.argv[1])
known, targets, new = json.load(open(sys.argv[2]))
columns = [{n: tf.constant(v) for n, v in rows.items()} for rows in (known, new)]
found = saved.adapt_and_predict(columns[0], tf.constant(targets), columns[1])
print(*found.numpy().ravel())
"""


def classes(export: pathlib.Path, known: Any, labels: Any, new: Any) -> list[int]:
    """The class numbers of new examples, from a process that has TensorFlow alone.

    Args:
        export: folder of the export; `task.npz` is written beside it.
        known: examples `[examples, ...]` of the task.
        labels: their class numbers `[examples]`.
        new: the examples to answer.
    """
    task = export.with_name("task.npz")
    np.savez(task, known=known, classes=labels, new=new)
    return [int(number) for number in _printed(CLASSES, export, task)]


def rows(export: pathlib.Path, known: tuple[Any, Any], new: Any) -> list[float]:
    """The predictions of new rows, from a process that has TensorFlow alone.

    Args:
        export: folder of the export; `task.json` is written beside it.
        known: raw columns of the task, and their targets `[rows, targets]`.
        new: raw columns of the rows to answer.
    """

    def plain(columns: Any) -> Any:
        return {name: values.tolist() for name, values in columns.items()}

    task = export.with_name("task.json")
    whole = [plain(known[0]), known[1].tolist(), plain(new)]
    task.write_text(json.dumps(whole), encoding="utf-8")
    return [float(number) for number in _printed(ROWS, export, task)]


def _printed(program: str, export: pathlib.Path, task: pathlib.Path) -> list[str]:
    """The words of the last line that a process with the program prints."""
    command = [sys.executable, "-c", program, str(export), str(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()
