"""An export of texts adapts to a CSV file, from the command line."""

import keras
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import maml_keras as mk
from maml_keras_cli import app

pytestmark = pytest.mark.journey

TEXTS = ["rain and wind", "a late goal", "more wind and rain", "the goal counts"] * 15
TOPICS = ["weather", "sport"] * 30


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    lookup = keras.layers.TextVectorization()
    lookup.adapt(TEXTS)
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input([None], dtype="int32"),
            keras.layers.Embedding(lookup.vocabulary_size(), 4, mask_zero=True),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    maml = mk.MAML(
        network,
        mk.InnerLoop(loss, mk.SGD(1.0), steps=2),
        preparation=mk.data.TextPreparation(lookup),
    )
    return maml.export(tmp_path_factory.mktemp("texts") / "saved", verbose=0)


@pytest.fixture
def data(tmp_path):
    rows = pd.DataFrame({"sent": range(8), "text": TEXTS[:8], "topic": TOPICS[:8]})
    rows.to_csv(tmp_path / "mine.csv", index=False)
    return rows


def test_texts_in_a_file_adapt_an_export(export, data, tmp_path):
    new = pd.DataFrame({"text": ["late rain", "wind", "goal"]})
    new.to_parquet(tmp_path / "new.parquet")
    given = ["adapt", export, "--data", tmp_path / "mine.csv", "--target", "topic"]
    given += ["--steps", 30, "--quiet"]
    done = run(
        *given, "--query", tmp_path / "new.parquet", "--out", tmp_path / "out.keras"
    )
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "class 0: sport, 4 example(s)"
    assert lines[1] == "class 1: weather, 4 example(s)"
    numbers = np.array([1, 0] * 4, np.int32)  # The order of the names.
    tuned = mk.fine_tune(export, list(data.text), numbers, steps=30, verbose=0)
    scores = tuned.predict(new.text.to_numpy(object), verbose=0)
    best = [["sport", "weather"][c] for c in scores[:, :2].argmax(-1)]
    start = lines.index("   row  class")
    assert [line.split() for line in lines[start + 1 : start + 4]] == [
        [str(row), name] for row, name in enumerate(best)
    ]
    assert best[1:] == ["weather", "sport"]
    yours = next(line for line in lines if line.endswith("accuracy"))
    assert float(yours.split()[2]) == 1.0
    written = keras.saving.load_model(tmp_path / "out.keras")
    np.testing.assert_allclose(
        written.predict(new.text.to_numpy(object), verbose=0), scores, rtol=1e-5
    )


def test_rows_without_a_class_are_answered_and_others_measured(export, data, tmp_path):
    data.loc[[2, 5], "topic"] = None
    data.to_csv(tmp_path / "some.csv", index=False)
    given = "adapt", export, "--target", "topic", "--steps", 30, "--quiet"
    done = run(*given, "--data", tmp_path / "some.csv")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[lines.index("   row  class") + 1 :] == [
        "     2  weather",
        "     5  sport",
    ]
    assert "class 1: weather, 3 example(s)" in lines
    # Numbers are names, too, and a query with classes is measured.
    data["topic"] = [7, 3] * 4
    data.to_csv(tmp_path / "numbers.csv", index=False)
    paths = "--data", tmp_path / "numbers.csv", "--query", tmp_path / "numbers.csv"
    done = run(*given, *paths)
    assert "class 0: 3, 4 example(s)" in done.output
    yours, query = (r.split()[1:] for r in done.output.splitlines() if "accur" in r)
    assert yours == query


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mine.csv"], "`--target` must name the column of classes"),
        (["--data", "mine.csv", "--target", "topics"], "column of classes 'topics'"),
        (
            ["--data", "a.npz", "--target", "topic"],
            "which takes texts. Received: .*npz",
        ),
        (["--data", "none.csv", "--target", "topic"], "`--data`: .*does not exist"),
        (["--data", "words.csv", "--target", "topic"], "`--data`: .*a column 'text'"),
        (["--data", "empty.csv", "--target", "topic"], "`--data`: .*first in row 1"),
        (["--data", "unknown.csv", "--target", "topic"], "at least one. Received: 0"),
        (["--data", "mine.csv", "--target", "sent"], "at most 3 classes.*Received: 8"),
        (
            ["--data", "mine.csv", "--target", "topic", "--query", "other.csv"],
            "classes of `--data`: sport, weather. Received: politics",
        ),
    ],
)
def test_what_is_no_table_of_texts_is_refused(
    export, data, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    data.rename(columns={"text": "words"}).to_csv("words.csv", index=False)
    data.assign(text=["a", None] * 4).to_csv("empty.csv", index=False)
    data.assign(topic=None).to_csv("unknown.csv", index=False)
    data.assign(topic="politics").to_csv("other.csv", index=False)
    options = dict(zip(arguments[::2], arguments[1::2]))
    target = options.get("--target")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        mk.export.adapt_file(
            export,
            options["--data"],
            query=options.get("--query"),
            target=target and [target],
            verbose=0,
        )
