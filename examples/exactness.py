"""Errors of meta-gradients through normalisation, with and without exact moments.

Compares the meta-gradient of a small network with central differences, in float64,
along a random direction in each variable, with 2 inner steps. Prints the relative error
for each layer.

    python examples/exactness.py
"""

import contextlib
from unittest import mock

import keras
import numpy as np

import maml_keras as mk

# The module that opens the scopes of exact moments.
PASS = "maml_keras.learner.learner"
LAYERS = {
    "BatchNormalization": [keras.layers.BatchNormalization],
    "LayerNormalization": [keras.layers.LayerNormalization],
    "GroupNormalization": [lambda: keras.layers.GroupNormalization(2)],
    "RMSNormalization": [keras.layers.RMSNormalization],
    "none": [],
}


def main() -> dict[str, tuple[float, float]]:
    """Prints the table; returns the errors (as Keras ships it, here) by layer."""
    print(f"| {'layer':<20} | as Keras ships it | here    |")
    print("|---|---|---|")
    errors = {}
    for name, layers in LAYERS.items():
        with (
            mock.patch(f"{PASS}.exact_moments", contextlib.nullcontext),
            mock.patch(f"{PASS}.written_out", contextlib.nullcontext),
            mock.patch("maml_keras.backend.batch_norm.fits", return_value=False),
        ):
            shipped = error(layers)
        errors[name] = shipped, error(layers)
        print(f"| {name:<20} | {errors[name][0]:<17.1e} | {errors[name][1]:.1e} |")
    return errors


def error(layers: list) -> float:
    """The relative error of the meta-gradient of a network with `layers`."""
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    model = keras.Sequential(
        [keras.Input([3]), keras.layers.Dense(4, activation="tanh")]
        + [layer() for layer in layers]
        + [keras.layers.Dense(2)]
    )
    maml = mk.MAML(model, mk.InnerLoop("mse", mk.SGD(0.1), steps=2))
    task = {
        "support_x": generator.normal(size=[2, 5, 3]),
        "support_y": generator.normal(size=[2, 5, 2]),
        "query_x": generator.normal(size=[2, 7, 3]),
    }
    batch = task, generator.normal(size=[2, 7, 2])
    checks = mk.check_meta_gradient(maml, batch, tolerance=np.inf)
    analytic = np.array([check.analytic for check in checks])
    numeric = np.array([check.numeric for check in checks])
    return float(np.linalg.norm(analytic - numeric) / np.linalg.norm(numeric))


if __name__ == "__main__":
    main()
