"""An export of tables takes raw columns, and answers in the unit of the table."""

import json
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from typer.testing import CliRunner

import maml_keras as mk
from maml_keras_cli import app

pytestmark = pytest.mark.journey

COLUMNS = ["floor area", "kind"]


def frame():
    """Nine flats and houses in each of twelve towns; some have no known floor area."""
    generator = np.random.default_rng(0)
    town = np.repeat(np.arange(12), 9)
    area = generator.normal(30.0, 7.0, len(town))
    kind = generator.choice(["house", "flat"], len(town))
    price = 500.0 + 20.0 * town + 5.0 * area + 60.0 * (kind == "house")
    area[generator.random(len(town)) < 0.1] = np.nan
    return pd.DataFrame(
        {"town": town, "floor area": area, "kind": kind, "price": price}
    )


def made(target, loss, **options):
    table = mk.data.from_table(
        frame().assign(dear=lambda d: np.where(d.price > 780, "yes", "no")),
        task="town",
        inputs=COLUMNS,
        target=target,
        missing="mean",
        **options,
    )
    train, _, _ = mk.data.split_tasks(table, train=8, validation=0, test=4)
    preparation = train.preparation
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input([preparation.num_features]),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(preparation.num_outputs),
        ]
    )
    inner = mk.InnerLoop(loss, mk.SGD(0.05), steps=2)
    return mk.MAML(network, inner, batch_norm="support", preparation=preparation)


@pytest.fixture(scope="module")
def maml():
    return made("price", "mse")


@pytest.fixture(scope="module")
def export(maml, tmp_path_factory):
    return maml.export(tmp_path_factory.mktemp("tables") / "saved")


@pytest.fixture(scope="module")
def rows():
    return frame()[frame().town == 3]


@pytest.fixture(scope="module")
def expected(maml, rows):
    """Prices from the network itself, scaled by NumPy before and after."""
    preparation = maml.preparation
    mean, variance = preparation.numbers["floor area"]
    area = rows["floor area"]
    inputs = np.stack(
        [
            area.fillna(mean).sub(mean) / np.sqrt(variance),
            area.isna(),
            rows.kind == "flat",
            rows.kind == "house",
        ],
        axis=-1,
    ).astype("float32")
    targets = preparation.target_columns
    y = (rows[["price"]].to_numpy() - targets.mean) / np.sqrt(targets.variance)
    task = {
        "support_x": inputs[None, :4],
        "support_y": y[None, :4].astype("float32"),
        "query_x": inputs[None],
    }
    return maml(task, training=False).numpy()[0] * np.sqrt(targets.variance) + (
        targets.mean
    )


def test_the_functions_take_raw_columns(export, maml, rows, expected):
    x, y = maml.preparation.raw(rows)
    support = {name: values[:4] for name, values in x.items()}
    saved = tf.saved_model.load(export)
    found = saved.adapt_and_predict(support, y[:4], x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    weights = saved.adapt(support, y[:4])
    np.testing.assert_allclose(saved.predict_with(weights, x), expected, rtol=1e-5)
    loss = saved.fine_tune(support, y[:4])
    np.testing.assert_allclose(saved.serve(x), expected, rtol=1e-5)
    # The loss, too, is in the unit of the price.
    np.testing.assert_allclose(loss, np.square(expected[:4] - y[:4]).mean(), rtol=1e-4)
    saved.reset()
    names = saved.signatures["adapt_and_predict"].structured_input_signature[1]
    assert {"support_x_floor_area", "support_x_kind", "query_x_kind"} <= set(names)
    for change, message in [
        ({"kind": np.array(["tent"] * 4, object)}, "`kind` must hold .*tent"),
        ({"floor area": np.full(4, np.inf, "float32")}, "`support_x` must be finite"),
        ({"kind": support["kind"][:2]}, "must hold as many examples as each other"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            saved.adapt_and_predict({**support, **change}, y[:4], x)


ALONE = """
import csv, json, sys
sys.modules["maml_keras"] = None  # Importing it now fails.
import tensorflow as tf
rows = list(csv.DictReader(open(sys.argv[2])))
area = [float(row["floor area"] or "nan") for row in rows]
kind = [row["kind"] for row in rows]
x = {"floor area": tf.constant(area), "kind": tf.constant(kind)}
y = tf.constant([[float(row["price"])] for row in rows])
saved = tf.saved_model.load(sys.argv[1])
few = {name: column[:4] for name, column in x.items()}
print(json.dumps(saved.adapt_and_predict(few, y[:4], x).numpy().tolist()))
"""


def test_tensorflow_alone_answers_a_csv_file(export, rows, expected, tmp_path):
    rows.to_csv(tmp_path / "rows.csv", index=False)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(export), str(tmp_path / "rows.csv")],
        capture_output=True,
        text=True,
        check=True,
    )
    prices = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(prices, expected, rtol=1e-5)


def test_fine_tune_takes_a_data_frame_and_a_file(export, rows, expected, tmp_path):
    own = mk.export.preparation(export)
    x, _ = own.raw(rows)
    rows[:4].to_csv(tmp_path / "few.csv", index=False)
    apart = rows[:4].drop(columns="price"), rows.price[:4].to_numpy()
    for data in ((rows[:4],), (tmp_path / "few.csv",), apart):
        tuned = mk.fine_tune(export, *data, verbose=0)
        np.testing.assert_allclose(tuned.predict(x, verbose=0), expected, rtol=1e-5)
    assert [layer.name for layer in tuned.layers if layer.name == "prepared"]
    with pytest.raises(ValueError, match="`y` must hold the targets .*neither in"):
        mk.fine_tune(export, rows.drop(columns="price"))
    with pytest.raises(ValueError, match="must have a column 'kind'"):
        mk.fine_tune(export, rows.drop(columns="kind"))
    start = mk.to_keras(export)
    assert start.predict(x, verbose=0).shape == (9, 1)


def test_the_card_tells_the_columns(export):
    card = json.loads((export / "card.json").read_text("utf-8"))
    assert card["preparation"]["numbers"] == ["floor area"]
    assert card["preparation"]["categories"] == {"kind": ["flat", "house"]}
    assert card["preparation"]["targets"] == ["price"]
    arguments = card["functions"]["serve"]["arguments"]
    assert arguments["x_kind"] == {"shape": [None], "dtype": "string"}


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_line_adapts_and_predicts(export, rows, expected, tmp_path):
    rows[:4].rename(columns={"price": "cost"}).to_csv(tmp_path / "a.csv", index=False)
    rows[4:].drop(columns="price").to_csv(tmp_path / "b.csv", index=False)
    out = tmp_path / "tuned.keras"
    given = "adapt", export, "--data", tmp_path / "a.csv", "--steps", 2, "--quiet"
    done = run(*given, "--target", "cost", "--query", tmp_path / "b.csv", "--out", out)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    place = lines.index("   row         price")
    shown = [float(line.split()[1]) for line in lines[place + 1 : place + 6]]
    np.testing.assert_allclose(shown, expected[4:, 0], rtol=1e-5)
    [yours] = [line for line in lines if line.strip().startswith("yours")]
    squares = np.square(expected[:4] - rows[["price"]][:4]).to_numpy().mean()
    np.testing.assert_allclose(float(yours.split()[2]), squares, rtol=1e-3)
    x, _ = mk.export.preparation(export).raw(rows)
    found = keras.saving.load_model(out).predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # Measured on rows that have the target.
    rows[4:].rename(columns={"price": "cost"}).to_csv(tmp_path / "b.csv", index=False)
    done = run(*given, "--target", "cost", "--query", tmp_path / "b.csv")
    [query] = [x for x in done.output.splitlines() if x.strip().startswith("query")]
    squares = np.square(expected[4:] - rows[["price"]][4:]).to_numpy().mean()
    np.testing.assert_allclose(float(query.split()[2]), squares, rtol=1e-3)


def test_what_does_not_fit_is_named_with_its_option(export, rows, tmp_path):
    rows.to_csv(tmp_path / "a.csv", index=False)
    rows.drop(columns="price").to_csv(tmp_path / "b.csv", index=False)
    rows.assign(kind="tent").to_csv(tmp_path / "c.csv", index=False)
    (tmp_path / "d.npz").write_text("")
    for data, options, message in [
        ("b.csv", [], "must have the target price"),
        ("c.csv", [], "'kind' must hold a value that training knows"),
        ("d.npz", [], "must be a .csv or .parquet file for this export"),
        ("none.csv", [], "does not exist"),
        ("a.csv", ["--target", "town", "--target", "price"], "must name 1 column"),
    ]:
        done = run("adapt", export, "--data", tmp_path / data, *options)
        assert done.exit_code == 1, done.output
        assert message in " ".join(done.output.split()), done.output


@pytest.mark.slow
def test_classes_are_sent_and_answered_by_name(rows, tmp_path):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    export = made("dear", loss).export(tmp_path / "saved")
    rows = rows.assign(dear=np.where(rows.price > rows.price.median(), "yes", "no"))
    own = mk.export.preparation(export)
    x, y = own.raw(rows)
    saved = tf.saved_model.load(export)
    found = own.answers(saved.adapt_and_predict(x, y, x, steps=5))
    assert set(found["dear"]) <= {"yes", "no"}
    with pytest.raises(tf.errors.InvalidArgumentError, match="`dear` must hold one of"):
        saved.adapt(x, np.array(["maybe"] * 9, object))
    rows.to_csv(tmp_path / "a.csv", index=False)
    lines = mk.export.adapt_file(
        export, tmp_path / "a.csv", query=tmp_path / "a.csv", steps=3, verbose=0
    )
    assert "accuracy" in lines
    assert mk.export.measure(export, steps=1)["timings"]


def test_a_conversion_would_lose_the_preparation(maml, export, tmp_path):
    for convert, source in [(mk.convert, maml), (mk.export.convert_file, export)]:
        with pytest.raises(
            ValueError, match=r"takes prepared inputs.*maml.adapt\(data"
        ):
            convert(source, tmp_path / "a.onnx")


def test_text_has_no_form_in_onnx_and_litert(tmp_path):
    text = keras.Input([], dtype="string", name="kind")
    lookup = keras.layers.StringLookup(vocabulary=["flat"], output_mode="one_hot")
    model = keras.Model({"kind": text}, keras.layers.Dense(1)(lookup(text)))
    with pytest.raises(ValueError, match="be numbers in the format .* in x_kind. Wri"):
        mk.convert(model, tmp_path / "a.tflite", tolerance=None)


def test_names_that_become_one_name_are_refused():
    spec = {"a b": tf.TensorSpec([None]), "a-b": tf.TensorSpec([None])}
    with pytest.raises(ValueError, match="'a b', 'a-b', which are both 'x_a_b'"):
        mk.export.signature.named(spec, "x")


@pytest.mark.slow
def test_rows_of_the_data_without_a_target_are_predicted(rows, tmp_path):
    export = made("price", "mse", missing_target="leave_out").export(
        tmp_path / "saved", verbose=0
    )
    data = rows.reset_index(drop=True)
    data.loc[[2, 7], "price"] = np.nan
    data.to_csv(tmp_path / "rows.csv", index=False)
    given = "adapt", export, "--data", tmp_path / "rows.csv", "--steps", 2, "--quiet"
    done = run(*given)
    assert done.exit_code == 0, done.output
    known, asked = data.drop(index=[2, 7]), data.loc[[2, 7]]
    tuned = mk.fine_tune(export, data, steps=2, verbose=0)
    other = mk.fine_tune(export, known, steps=2, verbose=0)
    own = mk.export.preparation(export)
    x, y = own.raw(asked.drop(columns="price"))
    assert y is None
    expected = other.predict(x, verbose=0)
    np.testing.assert_array_equal(tuned.predict(x, verbose=0), expected)
    lines = done.output.splitlines()
    shown = [line.split() for line in lines[lines.index("   row         price") + 1 :]]
    assert [int(row) for row, _ in shown[:2]] == [2, 7]
    np.testing.assert_allclose(
        [float(price) for _, price in shown[:2]], expected[:, 0], rtol=1e-5
    )
    # Such rows of a query file do not count in the measurement.
    few = run(*given, "--query", tmp_path / "rows.csv")
    yours, query = (line.split()[1:] for line in few.output.splitlines()[2:4])
    assert yours == query


def test_rows_with_one_of_several_targets_count_for_this_target(tmp_path):
    both = frame().assign(rent=lambda d: d.price / 20 + d["floor area"].fillna(30))
    both.loc[::3, "price"] = np.nan
    both.loc[1::3, "rent"] = np.nan
    table = mk.data.from_table(
        both,
        task="town",
        inputs=COLUMNS,
        target=["price", "rent"],
        missing="mean",
        missing_target="mask",
    )
    train, _, _ = mk.data.split_tasks(table, train=8, validation=0, test=4)
    network = keras.Sequential(
        [keras.Input([train.preparation.num_features]), keras.layers.Dense(2)]
    )
    loss = mk.KnownTargets("mse")
    maml = mk.MAML(network, mk.InnerLoop(loss, mk.SGD(0.05), steps=2))
    maml.compile("adam", metrics=["mae"])
    tasks = mk.data.FewExamples(train, shots=3, queries=5)
    episodes = mk.data.episodes(tasks, batch_size=4, seed=0)
    history = maml.fit(episodes, steps_per_epoch=3, verbose=0).history
    assert np.isfinite(history["mean_absolute_error"]).all()
    export = maml.export(tmp_path / "saved", verbose=0)
    mine = both[both.town == 3]
    mine.to_csv(tmp_path / "rows.csv", index=False)
    done = run("adapt", export, "--data", tmp_path / "rows.csv", "--steps", 2)
    assert done.exit_code == 0, done.output
    # The error in the unit of the table, over the targets that the file has.
    tuned = mk.fine_tune(export, mine, steps=2, verbose=0)
    x, y = maml.preparation.raw(mine)
    error = tuned.predict(x, verbose=0) - y
    row = next(r for r in done.output.splitlines() if "mean squared error" in r)
    assert float(row.split()[2]) == pytest.approx(np.nanmean(error**2), rel=1e-3)
    assert np.isnan(y).sum() == 6
