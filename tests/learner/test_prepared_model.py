"""A network between a preparation's inputs and outputs."""

import keras
import numpy as np

from maml_keras.data import TablePreparation, from_table
from maml_keras.learner.prepared_model import around


def test_a_model_takes_raw_columns_and_predicts_in_their_unit():
    data = {
        "shop": list("aabb"),
        "floor area": [1.0, 3.0, 1.0, 3.0],
        "kind": ["x", "y", "x", "x"],
        "sales": [10.0, 30.0, 10.0, 30.0],
    }
    table = from_table(data, task="shop", inputs=["floor area", "kind"], target="sales")
    preparation = TablePreparation.fit(table)
    network = keras.Sequential([keras.Input([3]), keras.layers.Dense(1)])
    network.set_weights([np.array([[2.0], [0.5], [-0.5]]), np.zeros(1)])
    model = around(network, preparation)
    x, _ = preparation.raw({"floor area": [3.0, 2.0], "kind": ["y", "x"]})
    # Mean and deviation are 2 and 1 of the area, 20 and 10 of the sales.
    expected = [[20.0 + 10.0 * (2.0 - 0.5)], [20.0 + 10.0 * 0.5]]
    np.testing.assert_allclose(model(x), expected, rtol=1e-6)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-6)
    assert [w.path for w in model.weights] == [w.path for w in network.weights]
    assert around(network, None) is network
