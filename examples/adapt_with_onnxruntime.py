"""Adapts a file that learns to a task, with ONNX Runtime and NumPy alone.

    maml-keras export saved_models/omniglot --format onnx --adapt --out learner.onnx
    python examples/adapt_with_onnxruntime.py learner.onnx task.npz

`task.npz` holds `support_x`, `support_y`, `query_x` and `query_y`, as the file takes
them. Without it, the task is points of a sinusoid, for a file that was made from the
export `saved_models/sinusoid`.
"""

import argparse
import json

import numpy as np
import onnxruntime


def sinusoid():
    """Ten points of a sinusoid to learn from, and 50 to predict."""
    few = np.random.default_rng(0).uniform(-5, 5, [10, 1]).astype("float32")
    many = np.linspace(-5, 5, 50, dtype="float32")[:, None]
    return {
        "support_x": few,
        "support_y": 2 * np.sin(few - 1),
        "query_x": many,
        "query_y": 2 * np.sin(many - 1),
    }


def score(predictions, y):
    """The accuracy for class numbers, else the mean squared error."""
    if y.dtype.kind in "iu":
        return "accuracy", float(np.mean(predictions.argmax(axis=-1) == y))
    return "mean squared error", float(np.mean(np.square(predictions - y)))


def main(arguments=None):
    """Prints the score before and after adaptation; returns both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("learner", help="file that `mk.convert(adapt=True)` wrote")
    parser.add_argument("task", nargs="?", help=".npz file with a task")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, help="default: the card's")
    options = parser.parse_args(arguments)

    session = onnxruntime.InferenceSession(options.learner)
    card = json.loads(session.get_modelmeta().custom_metadata_map["card"])
    rate = options.learning_rate
    if rate is None:
        defaults = card["functions"]["adapt_and_predict"]["arguments"]
        rate = defaults["learning_rate"]["default"]

    task = dict(np.load(options.task)) if options.task else sinusoid()
    targets = task.pop("query_y")
    if task["support_y"].dtype.kind in "iu":
        task["support_y"] = task["support_y"].astype("int32")
    print(
        f"support examples {len(task['support_x'])}, queries {len(task['query_x'])}, "
        f"steps {options.steps}"
    )
    found = []
    for steps in (0, options.steps):
        how = {
            "steps": np.array(steps, "int32"),
            "learning_rate": np.array(rate, "float32"),
        }
        (predictions,) = session.run(["predictions"], {**task, **how})
        if np.isnan(predictions).any():
            raise SystemExit("The task is bad input, or adaptation has diverged.")
        name, value = score(predictions, targets)
        found.append(value)
    before, after = found
    print(f"{name} before adaptation {before:.3f}, after {after:.3f}")
    return found


if __name__ == "__main__":
    main()
