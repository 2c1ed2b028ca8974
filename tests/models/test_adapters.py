"""Low-rank adapters on frozen networks (LoRA)."""

import warnings

import keras
import numpy as np
import pytest
from helpers import maml, nested, pretrained, regression, subclassed, with_noise

from maml_keras import (
    MAML,
    SGD,
    InnerLoop,
    LowRank,
    MetaSGD,
    check_meta_gradient,
    fine_tune,
    matching,
    with_low_rank_adapters,
)

pytestmark = pytest.mark.journey

layers = keras.layers


def test_fresh_adapters_do_not_change_predictions():
    model, x = pretrained(), regression((4, 3))[0]["query_x"][0]
    adapted = with_low_rank_adapters(model, 2)
    np.testing.assert_allclose(adapted(x), model(x), rtol=1e-5, atol=1e-6)  # float32


def test_only_the_adapters_are_trainable():
    adapted = with_low_rank_adapters(pretrained(), 2)
    shapes = [tuple(v.shape) for v in adapted.trainable_variables]
    assert shapes == [(3, 2), (2, 6), (6, 2), (2, 8), (8, 2), (2, 2)]


@pytest.mark.parametrize("task_map", ["parallel", "vectorized"])
def test_meta_gradient_of_adapters_is_exact(task_map):
    adapted = with_noise(with_low_rank_adapters(pretrained(), 2))
    learner = maml(adapted, steps=2, batch_norm="frozen", task_map=task_map)
    checks = check_meta_gradient(learner, regression((4, 3)))
    assert len(checks) == 6
    assert all(check.decided for check in checks)


def test_meta_learned_adapters_are_saved(tmp_path):
    adapted = with_low_rank_adapters(pretrained(), 2)
    learner = maml(adapted, batch_norm="frozen")
    learner.compile("adam")
    batch = regression((4, 3))
    learner.fit(*batch, epochs=3, verbose=0)
    learner.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) == 6
    for a, b in zip(loaded.variables, learner.variables):
        np.testing.assert_array_equal(a, b)


def test_nested_models_and_a_choice_of_layers():
    model = nested()
    x = regression()[0]["query_x"][0]
    adapted = with_low_rank_adapters(model, 2)
    assert len(adapted.trainable_variables) == 4
    np.testing.assert_allclose(adapted(x), model(x), rtol=1e-5)
    few = with_low_rank_adapters(
        pretrained(),
        2,
        layers=lambda la: la.units == 8 if isinstance(la, layers.Dense) else False,
    )
    assert len(few.trainable_variables) == 2


def test_a_selector_finds_adapters():
    adapted = with_low_rank_adapters(pretrained(), 2)
    adapted.layers[-1].layer.trainable = True
    inner = InnerLoop("mse", SGD(0.1), adapt=matching("low_rank_[ab]$"))
    learner = MAML(adapted, inner, batch_norm="frozen")
    assert len(learner.inner.selected(learner.learner, learner.learner.variables)) == 6


@pytest.mark.slow
def test_an_unfrozen_layer_stays_unfrozen(tmp_path):
    adapted = with_low_rank_adapters(pretrained(), rank=2)
    adapted.layers[-1].layer.trainable = True
    model = MAML(adapted, InnerLoop("mse", MetaSGD(0.1)))
    model.compile("adam")
    batch = regression((4, 3))
    model.fit(*batch, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    # Compare shapes: a loaded layer is built inside its adapter, so its path differs.
    assert [v.shape for v in loaded.model.trainable_variables] == [
        v.shape for v in adapted.trainable_variables
    ]
    for a in (model, loaded):
        a.fit(*batch, verbose=0)
    for a, b in zip(model.variables, loaded.variables):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    model.export(tmp_path / "export", verbose=0)
    x, y = batch[0]["support_x"][0], batch[0]["support_y"][0]
    tuned = fine_tune(tmp_path / "export", x, y, steps=1)
    expected = model.adapt(x, y, steps=1).predict(x, verbose=0)
    np.testing.assert_allclose(tuned.predict(x, verbose=0), expected, rtol=1e-4)


def test_models_and_layers_that_cannot_get_adapters_are_refused():
    with pytest.raises(ValueError, match="Sequential or functional"):
        with_low_rank_adapters(subclassed())
    with pytest.raises(ValueError, match="None was found among einsum_dense.*, dense"):
        with_low_rank_adapters(pretrained(), layers=lambda layer: False)
    with pytest.raises(TypeError, match="must be a keras.Model. Received: str"):
        with_low_rank_adapters("network.keras")
    bare = keras.Sequential([keras.Input([3]), layers.Flatten()])
    with pytest.raises(ValueError, match="must have a Dense or EinsumDense"):
        with_low_rank_adapters(bare)
    with pytest.raises(TypeError, match="must be a Dense.*Flatten"):
        LowRank(layers.Flatten())
    for rank in (0, 1.5, None, True, float("nan"), "4"):
        message = f"`rank` must be a positive integer.*rank={rank!r}"
        with pytest.raises(ValueError, match=message):
            LowRank(layers.Dense(2), rank)
        with pytest.raises(ValueError, match=f"^{message}"):
            with_low_rank_adapters(pretrained(), rank)
    with pytest.raises(TypeError, match=r"`layers` must be a function.*\['dense'\]"):
        with_low_rank_adapters(pretrained(), layers=["dense"])
    with pytest.raises(ValueError, match="`model` must be built"):
        with_low_rank_adapters(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ValueError, match="no adapters yet.*has: .*_low_rank"):
        with_low_rank_adapters(with_low_rank_adapters(pretrained(), 2))


class Doubled(keras.layers.Dense):
    """Computes more than a product."""

    def call(self, inputs):
        return 2.0 * super().call(inputs)


def test_a_layer_with_its_own_call_gets_no_adapter():
    model = keras.Sequential([keras.Input([3]), Doubled(4), keras.layers.Dense(2)])
    adapted = with_low_rank_adapters(model)
    x = np.random.default_rng(0).normal(size=[5, 3]).astype("float32")
    np.testing.assert_allclose(adapted(x), model(x), rtol=1e-5)
    assert [isinstance(layer, LowRank) for layer in adapted.layers] == [False, True]
    with pytest.raises(TypeError, match="with Keras's `call`"):
        LowRank(model.layers[0])


def test_layers_that_cannot_be_reached_are_named():
    def model(*head):
        x = keras.Input([4, 3])
        h = layers.TimeDistributed(layers.Dense(5), name="each_word")(x)
        h = layers.GlobalAveragePooling1D()(h)
        for layer in head:
            h = layer(h)
        return keras.Model(x, h)

    with pytest.warns(UserWarning, match="each_word are copied without adapters"):
        with_low_rank_adapters(model(layers.Dense(2)))
    with pytest.raises(ValueError, match="None was found. Layers inside each_word"):
        with_low_rank_adapters(model())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with_low_rank_adapters(
            model(layers.Dense(2, name="head")), layers=lambda d: d.name == "head"
        )
        with_low_rank_adapters(pretrained())
