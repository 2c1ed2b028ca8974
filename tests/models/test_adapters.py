"""Low-rank adapters on frozen networks (LoRA)."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_identical, maml, nested, regression, subclassed

from maml_keras import (
    MAML,
    SGD,
    InnerLoop,
    LowRank,
    LowRankAttention,
    MetaSGD,
    check_meta_gradient,
    fine_tune,
    matching,
    with_low_rank_adapters,
)

pytestmark = pytest.mark.journey

layers = keras.layers


def pretrained():
    x = keras.Input([4, 3])
    h = layers.EinsumDense("abc,cd->abd", output_shape=(None, 6), bias_axes="d")(x)
    h = layers.GlobalAveragePooling1D()(h)
    h = layers.BatchNormalization()(h)
    h = layers.Dense(8, activation="tanh")(h)
    return keras.Model(x, layers.Dense(2)(h))


def with_noise(model):
    """Sets the adapters to random values, so that they change the output."""
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(size=variable.shape))
    return model


def test_fresh_adapters_do_not_change_predictions():
    model, x = pretrained(), regression((4, 3))[0]["query_x"][0]
    adapted = with_low_rank_adapters(model, 2)
    np.testing.assert_allclose(adapted(x), model(x), rtol=1e-5, atol=1e-6)  # float32


def test_one_matrix_starts_random_and_the_other_at_zero():
    adapted = with_low_rank_adapters(pretrained(), 2)
    for variable in adapted.trainable_variables:
        zero = variable.path.endswith("low_rank_b")
        assert (np.abs(variable).max() == 0.0) == zero
    # If both matrices were zero, their gradients would always be zero.
    _, gradients = maml(adapted, batch_norm="frozen").compute_meta_gradients(
        regression((4, 3))
    )
    for variable, gradient in zip(adapted.trainable_variables, gradients):
        if variable.path.endswith("low_rank_b"):
            assert np.abs(gradient).max() > 1e-4


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (6.0, 3.0)])
def test_the_change_is_scaled_by_alpha_over_rank(alpha, scale):
    model = keras.Sequential([keras.Input([3]), layers.Dense(5)])
    adapted = with_noise(with_low_rank_adapters(model, 2, alpha=alpha))
    x = tf.random.stateless_normal([2, 3], [0, 1])
    a, b = (v.numpy() for v in adapted.trainable_variables)
    np.testing.assert_allclose(adapted(x) - model(x), scale * x @ a @ b, rtol=1e-3)


def test_only_the_adapters_are_trainable():
    adapted = with_low_rank_adapters(pretrained(), 2)
    shapes = [tuple(v.shape) for v in adapted.trainable_variables]
    assert shapes == [(3, 2), (2, 6), (6, 2), (2, 8), (8, 2), (2, 2)]


@pytest.mark.parametrize(
    ("equation", "x_shape", "kernel"),
    [
        ("abc,cd->abd", (2, 4, 3), (3, 5)),
        ("abc,cde->abde", (2, 4, 3), (3, 2, 5)),
        ("abcd,cde->abe", (2, 4, 3, 2), (3, 2, 5)),
        ("ab,cb->ac", (2, 3), (5, 3)),  # Sums over the last axis of the kernel.
        ("...x,xy->...y", (2, 4, 3), (3, 5)),
    ],
)
def test_einsum_adapter_adds_the_product_to_the_kernel(equation, x_shape, kernel):
    output = {"abd": (4, 5), "abde": (4, 2, 5), "abe": (4, 5), "ac": (5,), "...y": (5,)}
    shape = output[equation.split("->")[1]]
    base = layers.EinsumDense(equation, output_shape=shape)
    x = tf.random.stateless_normal(x_shape, [0, 1])
    base(x)
    assert tuple(base.kernel.shape) == kernel
    layer = LowRank(base, 2, alpha=6.0)
    layer(x)
    with_noise(layer)
    a, b = layer.low_rank_a.numpy(), layer.low_rank_b.numpy()
    expected = tf.einsum(equation, x, base.kernel.numpy() + 3.0 * a @ b)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-3, atol=1e-4)  # float32


def test_dense_adapter_adds_the_product_to_the_kernel():
    base = layers.Dense(5, activation="relu", bias_initializer="ones")
    x = tf.random.stateless_normal([2, 3], [0, 1])
    base(x)
    layer = with_noise(LowRank(base, 2))
    layer(x)
    with_noise(layer)
    moved = base.kernel.numpy() + layer.low_rank_a.numpy() @ layer.low_rank_b.numpy()
    np.testing.assert_allclose(layer(x), tf.nn.relu(x @ moved + 1.0), rtol=1e-4)


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


def test_unfrozen_projections_stay_unfrozen(tmp_path):
    x = keras.Input([4, 3])
    h = layers.MultiHeadAttention(num_heads=2, key_dim=2, name="attention")(x, x)
    adapted = with_low_rank_adapters(keras.Model(x, h), rank=2)
    attention = adapted.get_layer("attention")
    frozen = len(adapted.trainable_variables)
    attention._output_dense.layer.trainable = True
    assert len(adapted.trainable_variables) == frozen + 2
    adapted.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [v.path for v in loaded.trainable_variables] == [
        v.path for v in adapted.trainable_variables
    ]


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


def attentive(mask=False):
    x = keras.Input([5], dtype="int32")
    h = layers.Embedding(7, 6, mask_zero=mask)(x)
    h = layers.MultiHeadAttention(2, 3, name="attention")(h, h)
    h = layers.LayerNormalization()(h)
    h = layers.GlobalAveragePooling1D()(h)
    return keras.Model(x, layers.Dense(2, name="head")(h))


def tokens():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 7, [2, 6, 5])
    y = generator.normal(size=[2, 6, 2]).astype("float32")
    task = {"support_x": x[:, :4], "support_y": y[:, :4], "query_x": x[:, 4:]}
    return task, y[:, 4:]


@pytest.mark.parametrize("mask", [False, True])
def test_the_projections_of_attention_get_adapters(mask, tmp_path):
    model, x = attentive(mask), tokens()[0]["query_x"][0]
    paper = lambda layer: layer.name in ("query", "value")  # noqa: E731
    adapted = with_low_rank_adapters(model, 2, layers=paper)
    np.testing.assert_allclose(adapted(x), model(x), rtol=1e-5, atol=1e-6)
    # A and B of two projections, beside all variables of the original, each once.
    learned = [v.path for v in adapted.trainable_variables]
    assert len(learned) == 4
    assert all("low_rank" in path for path in learned)
    assert len(adapted.variables) == len(model.variables) + 4
    # Adding A @ B to the kernels by hand gives the same change.
    moved = with_noise(adapted)
    by_hand = keras.models.clone_model(model)
    by_hand.set_weights(model.get_weights())
    for attribute in ("_query_dense", "_value_dense"):
        low_rank = getattr(moved.get_layer("attention"), attribute)
        change = np.tensordot(low_rank.low_rank_a, low_rank.low_rank_b, axes=1)
        kernel = getattr(by_hand.get_layer("attention"), attribute).kernel
        kernel.assign_add(change)
    np.testing.assert_allclose(moved(x), by_hand(x), rtol=1e-4, atol=1e-4)
    moved.save(tmp_path / "moved.keras")
    loaded = keras.saving.load_model(tmp_path / "moved.keras")
    np.testing.assert_allclose(loaded(x), moved(x), rtol=1e-6)
    assert [v.path for v in loaded.trainable_variables] == learned


def test_gradients_through_adapted_attention_are_right():
    adapted = with_noise(with_low_rank_adapters(attentive(), 2))
    checks = check_meta_gradient(maml(adapted, steps=2), tokens(), verbose=0)
    assert all(check.decided for check in checks)
    assert len(checks) == 10  # Four projections and the head, A and B of each.


def test_masks_go_through_adapters():
    x = keras.Input([5], dtype="int32")
    h = layers.Embedding(7, 6, mask_zero=True)(x)
    h = layers.Dense(4)(h)
    model = keras.Model(x, layers.Dense(2)(layers.LSTM(3)(h)))
    padded = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0]])
    adapted = with_low_rank_adapters(model, 2)
    np.testing.assert_allclose(adapted(padded), model(padded), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_an_adapter_has_the_precision_of_its_layer(dtype):
    layer = keras.layers.Dense(4, dtype=dtype)
    layer.build([None, 3])
    adapter = LowRank(layer)
    assert adapter.dtype_policy.name == dtype
    x = tf.ones([2, 3], dtype)
    assert_identical(adapter(x), layer(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapted": ["gate"]}, "use_gate=True"),
        ({"rank": 0}, "`rank` must be positive"),
    ],
)
def test_impossible_attention_adapters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LowRankAttention(num_heads=2, key_dim=2, **options)


def test_an_unknown_projection_is_refused():
    with pytest.raises(ValueError, match="`adapted` must hold names out of"):
        LowRankAttention(num_heads=1, key_dim=2, adapted=["querry"])


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


def test_an_activity_regularizer_is_kept():
    dense = keras.layers.Dense(2, activity_regularizer="l2")
    model = keras.Sequential([keras.Input([3]), dense])
    adapted, x = with_low_rank_adapters(model), np.ones([4, 3], "float32")
    model(x), adapted(x)
    assert float(model.losses[0]) > 0.0
    np.testing.assert_allclose(adapted.losses[0], model.losses[0], rtol=1e-5)


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
