"""Exports a model, then adapts and fine-tunes it where only TensorFlow is installed.

Trains on sinusoids and exports. Then a second Python process, which imports TensorFlow
but not this library, loads the SavedModel. It adapts to a task without changing the
SavedModel, fine-tunes in place, resets, and trains the variables in its own loop.

    python examples/export_and_fine_tune.py    # half a minute
"""

import argparse
import json
import pathlib
import subprocess
import sys

import keras

import maml_keras as mk

ELSEWHERE = """
import json, math, sys
import tensorflow as tf

m = tf.saved_model.load(sys.argv[1])
x = tf.linspace(-5.0, 5.0, 10)[:, None]         # ten examples of a new sinusoid
y = 3.0 * tf.sin(x - 1.0)
new_x = tf.random.stateless_uniform([100, 1], [0, 1], -5.0, 5.0)
new_y = 3.0 * tf.sin(new_x - 1.0)

def error(predictions):
    return float(tf.reduce_mean(tf.square(predictions - new_y)))

found = {"before": error(m.serve(new_x))}
weights = m.adapt(x, y, steps=5)                # a dict of tensors; m does not change
found["adapt, 5 steps"] = error(m.predict_with(weights, new_x))
found["still before"] = error(m.serve(new_x))
m.fine_tune(x, y, steps=100, learning_rate=0.01)  # changes m
found["fine_tune, 100 steps"] = error(m.serve(new_x))
m.reset()                                       # undoes the change
found["reset"] = error(m.serve(new_x))
for _ in range(100):                            # your own training loop
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(m.serve(x) - y))
    gradients = tape.gradient(loss, m.trainable_variables)
    for variable, gradient in zip(m.trainable_variables, gradients):
        variable.assign_sub(0.01 * gradient)
found["own loop, 100 steps"] = error(m.serve(new_x))
assert "maml_keras" not in sys.modules
print(json.dumps(found))
"""


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains, exports, and returns the errors that the other process measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=5000)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/export"))
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    maml = mk.MAML(mk.models.mlp(), mk.InnerLoop("mse", mk.SGD(0.01), steps=1))
    maml.compile("adam")
    episodes = mk.data.episodes(mk.data.Sinusoid(), batch_size=25, seed=1)
    maml.fit(episodes, steps_per_epoch=options.meta_steps, verbose=2)
    folder = maml.export(options.out, card={"data": "sinusoids"})
    print(f"exported to {folder}: {sorted(p.name for p in folder.iterdir())}")

    # With -I the process sees neither this folder nor PYTHONPATH.
    command = [sys.executable, "-I", "-c", ELSEWHERE, str(folder)]
    other = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(other.stdout.splitlines()[-1])
    print("mean squared error on new points of one new sinusoid, without the library:")
    for name, value in found.items():
        print(f"  {name:<22} {value:.3f}")
    return found


if __name__ == "__main__":
    main()
