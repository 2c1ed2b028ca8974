"""Networks of keras.applications and KerasHub, meta-trained through low-rank adapters.

The weights are random, because no test may download any. So the pretrained networks of
these tests are small, and their batch norm has the statistics of random images.
"""

import importlib.util
import inspect
import json
import pathlib
import re

import keras
import numpy as np
import pytest

import maml_keras as mk
from benchmarks import pretrained
from benchmarks import pretrained_networks as networks

pytestmark = pytest.mark.journey

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs/howto/adapters.md"
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
WAYS = 3
HAS_HUB = importlib.util.find_spec("keras_hub") is not None
needs_hub = pytest.mark.skipif(
    not HAS_HUB, reason="KerasHub is not installed: pip install keras-hub"
)
NETWORKS = ["mobilenet", pytest.param("bert", marks=needs_hub)]


def images(count, seed):
    """Images `[2 tasks, 3 count, 32, 32, 3]`: noise around an image of each class."""
    generator = np.random.default_rng(seed)
    classes = np.random.default_rng(0).uniform(-1, 1, [2, WAYS, 32, 32, 3])
    noise = generator.normal(size=[2, WAYS * count, 32, 32, 3])
    return (np.tile(classes, [1, count, 1, 1, 1]) + 0.1 * noise).astype("float32")


def texts(count, seed):
    """Texts of eight words: a first token, five words of the class, and others."""
    generator = np.random.default_rng(seed)
    words = generator.integers(10, 50, [2, WAYS * count, 8])
    words[:, :, 0] = 9
    words[:, :, 1:6] = np.tile(np.arange(WAYS), count)[:, None]
    return {
        "token_ids": words.astype("int32"),
        "segment_ids": np.zeros(words.shape, "int32"),
        # The last word of each text is padding.
        "padding_mask": np.tile(np.arange(8) < 7, [2, WAYS * count, 1]).astype("int32"),
    }


def labels(count):
    return np.tile(np.arange(WAYS), [2, count])


def batch(name):
    draw = images if name == "mobilenet" else texts
    task = {"support_x": draw(1, 1), "support_y": labels(1), "query_x": draw(2, 2)}
    return task, labels(2)


def first(inputs):
    """The inputs of the first task."""
    return keras.tree.map_structure(lambda a: a[0], inputs)


def original(name):
    """A small network with random weights, under a new head for three classes."""
    if name == "bert":
        network = networks.bert(
            WAYS,
            vocabulary_size=50,
            num_layers=2,
            num_heads=2,
            hidden_dim=16,
            intermediate_dim=32,
            max_sequence_length=8,
        )
        # BERT's first weights are so small that classes hardly differ.
        for variable in network.trainable_variables[:-2]:
            if variable.name in ("kernel", "embeddings"):
                variable.assign(10 * variable)
        return network
    network = networks.mobilenet(32, 0.1, WAYS)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            # Between the kinks of ReLU6, so that the random layers keep the classes
            # apart, as trained layers do.
            if layer.name != "Conv_1_bn":
                layer.beta.assign(np.full(layer.beta.shape, 2.0))
    network(np.concatenate(images(4, 3)), training=True)
    return network


def adapted(name, network=None):
    make = getattr(networks, f"adapted_{name}")
    return make(network or original(name))


# Inner and outer rates. MobileNet has 35 adapted layers and 1,280 features of size one.
RATES = {"mobilenet": (1e-4, 1e-3), "bert": (0.1, 0.03)}


def learner(name, model, steps=2):
    inner = mk.InnerLoop(LOSS, mk.SGD(RATES[name][0]), steps=steps)
    return mk.MAML(model, inner, batch_norm="frozen", task_map="parallel")


def is_seed(variable):
    """Whether a variable is the state of a generator, which Keras does not save."""
    return variable.name == "seed_generator_state"


def is_learned(variable):
    return variable.name.startswith("low_rank") or variable.path.startswith("head/")


@pytest.mark.parametrize("name", NETWORKS)
def test_new_adapters_change_no_prediction(name):
    network, x = original(name), first(batch(name)[0]["query_x"])
    model = adapted(name, network)
    expected = network(x)
    assert np.std(expected, axis=0).min() > 1e-3  # The inputs matter.
    # float32, and another order of additions in products than in convolutions.
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    assert [v.path for v in model.trainable_variables] == [
        v.path for v in model.variables if is_learned(v)
    ]
    assert any(v.name == "low_rank_a" for v in model.trainable_variables)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_meta_gradient_of_adapters_and_head_is_exact(name):
    model = adapted(name)
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        # At first B is zero, and so is the gradient of A.
        variable.assign_add(0.1 * generator.normal(size=variable.shape))
    maml = learner(name, model, steps=1)
    checks = mk.check_meta_gradient(maml, batch(name), verbose=0)
    assert len(checks) == len(model.trainable_variables)
    decided = [check for check in checks if check.decided]
    # MobileNet's activation has kinks, at which differences do not converge.
    assert len(decided) > (0.9 if name == "mobilenet" else 0.999) * len(checks)
    assert sum(abs(check.analytic) > 1e-6 for check in decided) > 0.5 * len(checks)


@pytest.mark.parametrize("name", NETWORKS)
def test_adapters_and_head_are_meta_trained_end_to_end(name, tmp_path, capsys):
    model, tasks = adapted(name), batch(name)
    start = {v.path: v.numpy() for v in model.variables}
    maml = learner(name, model)
    adapts = maml.inner.selected(maml.learner, maml.learner.variables)
    assert [v.path for v in adapts] == [v.path for v in model.trainable_variables]
    optimizer = keras.optimizers.Adam(RATES[name][1])
    maml.compile(optimizer, metrics=["accuracy"], jit_compile=False)
    history = maml.fit(*tasks, batch_size=2, epochs=12, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    for variable in model.variables:
        if is_learned(variable) or is_seed(variable):
            continue
        np.testing.assert_array_equal(variable, start[variable.path])
    for variable in model.trainable_variables:
        assert np.any(variable.numpy() != start[variable.path]), variable.path

    # An adapted copy differs from the model in adapters and head only.
    task = first(tasks[0])
    copy = maml.adapt(task["support_x"], task["support_y"])
    for ours, theirs in zip(model.variables, copy.variables):
        if not is_seed(ours):
            same = np.array_equal(ours, theirs)
            assert same != is_learned(ours), ours.path

    capsys.readouterr()
    maml.summary(expand_nested=True)
    shown = capsys.readouterr().out
    learned = sum(v.numpy().size for v in model.trainable_variables)
    assert f"Trainable params: {learned:,} " in shown
    assert "head (Dense)" in shown

    maml.save(tmp_path / "maml.keras")
    loaded = keras.saving.load_model(tmp_path / "maml.keras")
    for ours, theirs in zip(maml.variables, loaded.variables, strict=True):
        if not is_seed(ours):
            np.testing.assert_array_equal(ours, theirs)
    expected = maml.predict(tasks[0], verbose=0)
    np.testing.assert_allclose(
        loaded.predict(tasks[0], verbose=0), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_exports_adapt_as_the_model(name, tmp_path):
    maml, tasks = learner(name, adapted(name)), batch(name)[0]
    expected = maml.predict(tasks, verbose=0)[0]
    maml.export(tmp_path / "export", verbose=0)
    task = first(tasks)
    support = task["support_x"], task["support_y"]
    tuned = mk.fine_tune(tmp_path / "export", *support, steps=2)
    found = tuned.predict(task["query_x"], verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_keras_merges_its_own_adapters_when_it_saves(tmp_path):
    # This is why the page warns of `enable_lora`: with two zero matrices every
    # gradient of the adapters is zero, for good.
    layer = keras.layers.Dense(3, use_bias=False)
    model = keras.Sequential([keras.Input([2]), layer])
    layer.enable_lora(1)
    layer.lora_kernel_b.assign([[1.0, 2.0, 3.0]])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.array([[1.0, 2.0]], "float32")
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-5)
    for variable in loaded.trainable_variables:
        np.testing.assert_array_equal(variable, np.zeros(variable.shape))


BLOCK = re.compile(r"(?:<!-- not run: ([^\n]+) -->\n)?```python\n(.*?)```", re.DOTALL)


def test_the_page_has_the_table_of_the_results():
    found = json.loads(pretrained.RESULTS.read_text("utf-8"))
    assert pretrained.table(found) in PAGE.read_text("utf-8")


def test_the_page_has_the_functions_that_are_measured():
    for function in (networks.rebuilt, networks.as_dense):
        assert inspect.getsource(function) in PAGE.read_text("utf-8")


@needs_hub
def test_the_page_runs_with_kerashub():
    from benchmarks.adapted_encoder import AdaptedEncoder

    page = PAGE.read_text("utf-8")
    assert inspect.getsource(AdaptedEncoder) in page
    code = "\n".join(b for reason, b in BLOCK.findall(page) if reason != "downloads")
    exec(compile(code, PAGE, "exec"), {"__name__": "page"})
