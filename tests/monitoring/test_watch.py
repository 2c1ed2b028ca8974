"""`Watch` writes numbers, pictures and findings, and does not change the training."""

import json
import logging
import re
import shutil
import urllib.request

import browser
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG as CONFIG_TAG

import maml_keras as mk
from maml_keras.monitoring.tensorboard_hparams import write_contenders

pytestmark = pytest.mark.journey

FAMILY = mk.data.Sinusoid(shots=5, queries=5)


def tasks(seed, count=20):
    return mk.data.episodes(FAMILY, batch_size=10, seed=seed, num_episodes=count)


def trained(*callbacks, epochs=2, rule=None):
    keras.utils.set_random_seed(0)
    inner = mk.InnerLoop("mse", rule or mk.PerStepSGD(0.01), steps=2)
    maml = mk.MAML(mk.models.mlp(hidden=[8]), inner)
    maml.compile("adam", jit_compile=False)
    history = maml.fit(
        mk.data.episodes(FAMILY, batch_size=4, seed=1),
        steps_per_epoch=3,
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
    )
    return maml, history.history


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with `Watch`: its folder, model, history and callback."""
    logs = tmp_path_factory.mktemp("logs")
    watch = mk.Watch(logs, {"train": tasks(3), "validation": tasks(2)})
    maml, history = trained(watch)
    return logs, maml, history, watch


def events(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def last(found, tag):
    return tf.make_ndarray(found.Tensors(tag)[-1].tensor_proto)


def test_scalars_equal_the_trace(run):
    logs, maml, history, _ = run
    trace = mk.trace_inner_loop(maml, tasks(2))
    found = events(logs / "adaptation/validation")
    for k in range(3):
        tag = f"adaptation/loss/step_{k}"
        assert [p.step for p in found.Tensors(tag)] == [3, 6]  # Meta-steps.
        np.testing.assert_allclose(
            last(found, tag), trace.query_loss[:, k].mean(), 1e-5
        )
        told = found.SummaryMetadata(tag).summary_description
        assert told == "5 queries a task, together; batch norm: transductive"
    gap = (trace.query_loss - trace.support_loss)[:, -1].mean()
    np.testing.assert_allclose(last(found, "gap/loss"), gap, rtol=1e-4)
    norms = trace.gradient_norms.mean(axis=(0, 1))
    for layer, norm in zip(trace.layers, norms):
        np.testing.assert_allclose(last(found, f"inner_gradient/{layer}"), norm, 1e-4)
    np.testing.assert_allclose(history["adapted_loss"][-1], trace.query().mean, 1e-6)
    rates = events(logs / "adaptation")
    tag = f"inner_rate/{trace.layers[1]}/step_2"
    np.testing.assert_allclose(last(rates, tag), maml.rule.rates.numpy()[1, 1])


def layout_of(logs):
    """The layout of the page Custom Scalars, and the scalars' tags by run."""
    layout = layout_pb2.Layout()
    layout.ParseFromString(last(events(logs / "adaptation"), CONFIG_TAG).item())
    folders = {path.parent for path in logs.rglob("events*")}
    return layout, [set(events(folder).Tags()["tensors"]) for folder in folders]


def assert_every_chart_has_its_tags(logs):
    layout, runs = layout_of(logs)
    for category in layout.category:
        for chart in category.chart:
            for tag in chart.multiline.tag:
                found = [t for tags in runs for t in tags if re.search(tag, t)]
                assert found, chart.title
            # TensorBoard says "Missing Tags" of a run unless it has nothing of a
            # chart, and of a chart with several bands even then.
            assert len(chart.margin.series) == (0 if chart.multiline.tag else 1)
            for band in chart.margin.series:
                tags = {band.value, band.lower, band.upper}
                assert {len(tags & tags_of_run) for tags_of_run in runs} == {0, 3}


def test_the_page_of_custom_scalars_misses_no_tags(run, tmp_path):
    logs, maml, *_ = run
    shutil.copytree(logs, tmp_path, dirs_exist_ok=True)
    # Beside the watched run: Keras's own run, and the curve of a baseline.
    keras_run = tf.summary.create_file_writer(str(tmp_path / "train"))
    with keras_run.as_default(step=1):
        tf.summary.scalar("epoch_loss", 1.0)
    result = mk.evaluate_episodes(maml, tasks(2), steps=2, verbose=0)
    baseline = tf.summary.create_file_writer(str(tmp_path / "baseline"))
    mk.monitoring.write_curve(baseline, result, step=6)
    keras_run.close()
    baseline.close()
    assert_every_chart_has_its_tags(tmp_path)


def test_the_page_of_a_run_without_steps_has_no_chart_of_steps(tmp_path):
    trained(mk.Watch(tmp_path, tasks(2), steps=0), epochs=1)
    assert_every_chart_has_its_tags(tmp_path)


def test_tasks_and_norms_are_drawn(run):
    pytest.importorskip("matplotlib")
    logs = run[0]
    for folder, tag in (("validation", "fits"), ("validation", "inner_norms")):
        width, height, png = last(events(logs / "adaptation" / folder), tag)
        pixels = tf.io.decode_png(png).numpy()
        assert pixels.shape[:2] == (int(height), int(width))
        assert pixels.std() > 10  # Not blank.
    assert "inner_rates" in events(logs / "adaptation").Tags()["tensors"]


def test_watch_does_not_change_the_training(run):
    alone, _ = trained()
    for a, b in zip(run[1].variables, alone.variables):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_healthy_run_has_nothing_to_report(run):
    logs, _, _, watch = run
    assert watch.findings == {}
    assert b"Nothing to report" in last(events(logs / "adaptation"), "diagnoses").item()


@pytest.mark.parametrize(("begin", "written"), [(0, True), (1, False)])
def test_a_resumed_run_keeps_its_page_of_findings(begin, written, tmp_path):
    maml, _ = trained(epochs=1)
    watch = mk.Watch(tmp_path, tasks(2), pictures=[])
    maml.fit(
        mk.data.episodes(FAMILY, batch_size=4, seed=1),
        steps_per_epoch=3,
        initial_epoch=begin,
        epochs=begin + 1,
        verbose=0,
        callbacks=[watch],
    )
    tags = events(tmp_path / "adaptation").Tags()["tensors"]
    assert ("diagnoses" in tags) is written


@pytest.mark.parametrize(("verbose", "bar"), [("auto", True), (2, False), (0, False)])
def test_watch_has_a_bar_if_fit_has_one(verbose, bar, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("maml_keras.backend.progress.SECONDS", 0.0)
    watch = mk.Watch(tmp_path, tasks(2), pictures=[])
    maml, _ = trained(epochs=1)
    data = mk.data.episodes(FAMILY, batch_size=4, seed=1)
    maml.fit(data, steps_per_epoch=3, verbose=verbose, callbacks=[watch])
    assert ("/task" in capsys.readouterr().out) is bar


def test_a_finding_is_logged_once_and_is_on_the_page(tmp_path, caplog):
    watch = mk.Watch(tmp_path, tasks(2), pictures=[], share=float("inf"))
    with caplog.at_level(logging.WARNING, logger="maml_keras"):
        trained(watch, epochs=5, rule=mk.SGD(1e-9))  # This rate changes nothing.
    messages = [record.getMessage() for record in caplog.records]
    messages = [text for text in messages if "does not help" in text]
    assert len(messages) == 1
    assert "troubleshooting" in messages[0]
    page = last(events(tmp_path / "adaptation"), "diagnoses").item().decode()
    assert "| 9 | **Adaptation does not help**" in page


def test_without_matplotlib_only_pictures_are_left_out(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("maml_keras.monitoring.figures.can_draw", lambda: False)
    with caplog.at_level(logging.WARNING, logger="maml_keras"):
        trained(mk.Watch(tmp_path, tasks(2)), epochs=1)
    assert [r.getMessage() for r in caplog.records if "matplotlib" in r.getMessage()]
    tags = events(tmp_path / "adaptation/validation").Tags()["tensors"]
    assert "adaptation/loss/step_2" in tags
    assert "fits" not in tags


class Recorder(mk.views.View):
    """Records after how many meta-steps it was used."""

    def __init__(self):
        self.at = []

    def write(self, look, board, maml):
        self.at.append(look.iteration)


@pytest.mark.parametrize(
    ("how", "looks", "drawn"),
    [
        ({"every": 2}, [6, 12, 18, 21], [6, 21]),
        ({"every": 1}, [3, 6, 9, 12, 15, 18, 21], [3, 18, 21]),
        # The first and the last look happen even without any time for looks.
        ({"share": 0.0}, [3, 21], [3, 21]),
        ({"share": float("inf")}, [3, 6, 9, 12, 15, 18, 21], [3, 18, 21]),
    ],
)
def test_how_often_watch_looks_and_draws(how, looks, drawn, tmp_path):
    pytest.importorskip("matplotlib")
    numbers, pictures = Recorder(), Recorder()
    watch = mk.Watch(tmp_path, tasks(2), views=[numbers], pictures=[pictures], **how)
    trained(watch, epochs=7)
    assert numbers.at == looks
    assert pictures.at == drawn


def test_a_long_run_has_about_twenty_looks(tmp_path):
    watch = mk.Watch(tmp_path, tasks(2), share=float("inf"))
    watch._count = 1  # The first look is over.
    watch._pace.trained = 1.0
    assert sum(watch._is_due(epoch, 70) for epoch in range(70)) == 23


def test_all_looks_share_one_program(run):
    pytest.importorskip("matplotlib")
    _, maml, _, _ = run
    [(compiled, _)] = maml.__dict__["_inner_traces"].values()
    [drawn] = maml.__dict__["_predictions_along"].values()
    # The run has two datasets and two looks with pictures.
    assert compiled.experimental_get_tracing_count() == 1
    assert drawn.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, {}), "at least one dataset"),
        (([], {"every": 0}), "`every` must be posi"),
        (([], {"share": -0.1}), "`share` must be 0 or more"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        mk.Watch(tmp_path, arguments[0], **arguments[1])


def test_the_folder_comes_before_the_episodes(tmp_path):
    with pytest.raises(TypeError, match="`log_dir` must be the path of a folder.*list"):
        mk.Watch([], tmp_path)


def in_rows(task, query_y):
    """The tasks of another family, with one-hot rows of three classes as targets."""
    return {**task, "support_y": tf.one_hot(task["support_y"], 3)}, tf.one_hot(
        query_y, 3
    )


def images_run(logs, one_hot=False):
    """A watched run on images of three classes, which learns a rate per weight."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).uniform(size=[60, 8, 8, 1]).astype("float32")
    pool = mk.data.from_arrays(x, np.arange(60) % 6)
    family = mk.data.NWayKShot(pool, ways=3, shots=1, queries=2)
    model = keras.Sequential(
        [keras.Input([8, 8, 1]), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    train = mk.data.episodes(family, batch_size=4, seed=1)
    fixed = mk.data.episodes(family, batch_size=10, seed=2, num_episodes=20)
    if one_hot:
        train, fixed = train.map(in_rows), fixed.map(in_rows)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    maml = mk.MAML(model, mk.InnerLoop(loss, mk.MetaSGD(0.1), steps=2))
    maml.compile("adam", jit_compile=False)
    maml.fit(
        train,
        steps_per_epoch=2,
        epochs=2,
        verbose=0,
        callbacks=[mk.Watch(logs, fixed, every=1)],
    )
    return mk.evaluate_episodes(maml, fixed, num_tasks=20, verbose=0)


@pytest.mark.slow
def test_an_episode_of_images_is_drawn_from_numbers_as_from_rows(tmp_path):
    pytest.importorskip("matplotlib")
    drawn = []
    for one_hot in (False, True):
        logs = tmp_path / str(one_hot)
        images_run(logs, one_hot)
        _, _, png = last(events(logs / "adaptation/validation"), "episode")
        drawn.append(tf.io.decode_png(png).numpy().astype(int))
    red, green, blue = (drawn[0][..., channel] for channel in range(3))
    # Wrong predictions have red frames, right ones green.
    assert (red - np.maximum(green, blue) > 60).sum() > 100
    assert (green - np.maximum(red, blue) > 30).sum() > 100
    np.testing.assert_array_equal(*drawn)


def answer(address, question=None):
    data = None if question is None else json.dumps(question).encode()
    asked = urllib.request.Request(
        address, data, {"Content-Type": "application/json"} if data else {}
    )
    return urllib.request.urlopen(asked, timeout=60).read().decode()


def pictures_of_pages(address, folder, profile):
    """The pixels of each page, without TensorBoard's bar and column of runs."""
    folder.mkdir()
    found = {}
    for name in browser.PAGES:
        picture = folder / f"{name}.png"
        browser.page(f"{address}/#{name}", profile, picture=picture)
        found[name] = np.asarray(keras.utils.load_img(picture), dtype=float)[100:, 400:]
    return found


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="chromium is not installed")
def test_pages_of_a_real_server_in_a_browser(run, tmp_path):
    pytest.importorskip("matplotlib")
    logs, profile = tmp_path / "logs", tmp_path / "profile"
    shutil.copytree(run[0], logs / "sinusoid")
    result = images_run(logs / "images")
    settings = {"maml": {"inner rate": 0.1}, "meta_sgd": {"inner rate": 0.2}}
    results, seconds = dict.fromkeys(settings, result), dict.fromkeys(settings, 1.0)
    write_contenders(logs / "test", settings, results, seconds)
    with browser.tensorboard(logs) as address:
        # The first page has plain elements. The others keep theirs in shadow roots,
        # which a dump leaves out: for these pages the data and a picture are checked.
        first = browser.page(f"{address}/#timeseries", profile)
        for tag in ("adaptation/loss/step_0", "adaptation/diverged", "inner_gradient"):
            assert tag in first
        plugin = f"{address}/data/plugin"
        layout = json.loads(answer(f"{plugin}/custom_scalars/layout"))
        assert [category["title"] for category in layout["category"]] == [
            "Does it learn to adapt?",
            "How do all steps do?",
            "What do the inner steps do?",
            "Which inner rates are learned?",
        ]
        # TensorBoard merges the layouts of both runs.
        by_run = json.loads(answer(f"{plugin}/scalars/tags"))
        tags = {tag for found in by_run.values() for tag in found}
        charts = [c for category in layout["category"] for c in category["chart"]]
        lines = [chart["multiline"]["tag"] for chart in charts if "multiline" in chart]
        bands = [chart["margin"]["series"] for chart in charts if "margin" in chart]
        # Two runs, one of a loss and one of an accuracy, with three bands each.
        assert len(bands) == 6
        assert all(set(series.values()) <= tags for [series] in bands)
        assert all(any(re.search(line, tag) for tag in tags) for [line] in lines)
        pictures = json.loads(answer(f"{plugin}/images/tags"))
        assert set(pictures["sinusoid/adaptation/validation"]) == {
            "fits",
            "inner_norms",
        }
        assert "episode" in pictures["images/adaptation/validation"]
        assert "inner_rates" in pictures["images/adaptation"]
        histograms = json.loads(answer(f"{plugin}/histograms/tags"))
        assert any("inner_rates/" in t for t in histograms["images/adaptation"])
        assert "diagnoses" in answer(f"{plugin}/text/tags")
        drawn = pictures_of_pages(address, tmp_path / "drawn", profile)
        # The data of the page HParams for each contender.
        experiment = json.loads(answer(f"{plugin}/hparams/experiment", {}))
        shown = {info["displayName"] for info in experiment["metricInfos"]}
        assert "accuracy after the last step" in shown
        groups = json.loads(
            answer(
                f"{plugin}/hparams/session_groups",
                {
                    "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS"],
                    "startIndex": 0,
                    "sliceSize": 10,
                },
            )
        )["sessionGroups"]
        found = {g["sessions"][0]["name"].removeprefix("test/") for g in groups}
        assert found == set(settings)
        for group in groups:
            values = {m["name"]["tag"]: m["value"] for m in group["metricValues"]}
            assert values["test/accuracy"] == pytest.approx(result.mean)
            assert values["train/seconds"] == 1.0
    with tf.summary.create_file_writer(str(tmp_path / "bare" / "run")).as_default():
        tf.summary.scalar("something", 1.0, step=0)
    with browser.tensorboard(tmp_path / "bare") as address:
        bare = pictures_of_pages(address, tmp_path / "bare pictures", profile)
    for name in browser.PAGES:
        # The share of pixels that differ from an empty page.
        assert (np.abs(drawn[name] - bare[name]).max(-1) > 20).mean() > 0.02, name


def test_tasks_that_are_left_out_are_counted_and_found(tmp_path):
    keras.utils.set_random_seed(0)
    inner = mk.InnerLoop("mse", mk.SGD(0.01))
    maml = mk.MAML(mk.models.mlp(hidden=[8]), inner, bad_tasks="skip")
    maml.compile("adam", jit_compile=False)

    def spoil(task, query_y):
        return task, query_y * tf.constant([1.0, 1e30, 1.0, 1.0])[:, None, None]

    stream = mk.data.episodes(FAMILY, batch_size=4, seed=1).map(spoil)
    watch = mk.Watch(tmp_path, tasks(2), every=2, pictures=[])
    maml.fit(stream, steps_per_epoch=3, epochs=2, verbose=0, callbacks=[watch])
    # One of four tasks in each of six meta-steps.
    assert float(last(events(tmp_path / "adaptation"), "bad_tasks")) == 6
    iteration, finding = watch.findings["Training tasks are left out"]
    assert iteration == 6
    assert "6 training task(s) had a loss" in finding.text
