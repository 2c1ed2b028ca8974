"""The same table from each source is the same; what is missing is named."""

import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maml_keras.data import from_table
from maml_keras.data.table_sources import read_columns

NAMES = ["city", "size", "code", "open"]


def frame():
    return pd.DataFrame(
        {
            "city": ["Rome", "Oslo", None, "Rome"],
            "size": [1.5, 2.0, np.nan, 4.0],
            "code": ["007", "008", "007", "009"],
            "open": [True, False, True, True],
            "other": range(4),
        }
    )


class Datasets:
    """The part of `datasets.Dataset` that is read."""

    def __init__(self, data, features=None):
        self._frame, self.features = data, features or {}

    @property
    def column_names(self):
        return list(self._frame.columns)

    def select_columns(self, names):
        return Datasets(self._frame[names], self.features)

    def with_format(self, kind):
        assert kind is None
        return self

    def iter(self, batch_size):
        for start in range(0, len(self._frame), 3):
            piece = self._frame.iloc[start : start + 3]
            yield {name: piece[name].tolist() for name in piece}


class ClassLabel:
    names = ("red", "blue")


def sources(folder):
    df = frame()
    df.to_csv(folder / "t.csv", index=False)
    df.to_parquet(folder / "t.parquet", row_group_size=2)
    (folder / "parts").mkdir()
    df[:1].to_parquet(folder / "parts" / "0.parquet")
    df[1:].to_parquet(folder / "parts" / "1.parquet")
    return {
        "DataFrame": df,
        "dict": df.to_dict("list"),
        "csv": folder / "t.csv",
        "a name": str(folder / "t.csv"),
        "parquet": folder / "t.parquet",
        "folder": folder / "parts",
        "arrow": pa.Table.from_pandas(df),
        "datasets": Datasets(df),
    }


def test_all_sources_give_the_same_columns(tmp_path):
    for name, data in sources(tmp_path).items():
        found = read_columns(data, NAMES, text=["code"])
        assert list(found) == NAMES, name
        assert found["city"].values.tolist() == ["Rome", "Oslo", "", "Rome"], name
        np.testing.assert_array_equal(found["size"].values, frame()["size"])
        assert found["code"].values.tolist() == ["007", "008", "007", "009"], name
        assert found["open"].kind == "flag", name
        assert read_columns(data, ["size"], optional=["nothing"]).keys() == {"size"}
        with pytest.raises(ValueError, match=r"a column 'sise'.*Did you mean 'size'"):
            read_columns(data, ["sise"])


def test_parquet_is_read_by_row_groups_and_columns(tmp_path, monkeypatch):
    frame().to_parquet(tmp_path / "t.parquet", row_group_size=1)
    read = []
    plain = pq.ParquetFile.read_row_group

    def noted(self, group, columns):
        read.append((group, columns))
        return plain(self, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    read_columns(tmp_path / "t.parquet", ["size"])
    assert read == [(group, ["size"]) for group in range(4)]


def test_class_numbers_of_datasets_become_names():
    data = Datasets(pd.DataFrame({"colour": [1, 0, -1]}), {"colour": ClassLabel})
    assert read_columns(data, ["colour"])["colour"].values.tolist() == [
        "blue",
        "red",
        "",
    ]


@pytest.fixture
def hugging_face():
    """A `datasets.Dataset` of the package itself, with each kind of column."""
    datasets = pytest.importorskip(
        "datasets", reason="the package datasets is not here"
    )
    columns = {
        "shop": list("aabbcc"),
        "size": [1.0, 2.0, None, 4.0, 5.0, 6.0],
        "open": [True, False, True, None, True, False],
        "kind": [0, 1, -1, 1, 0, 1],
        "day": list(pd.date_range("2024-01-01", periods=6).to_pydatetime())[::-1],
        "sales": [1, 2, 3, 4, 5, 6],
    }
    kinds = {
        "shop": datasets.Value("string"),
        "size": datasets.Value("float64"),
        "open": datasets.Value("bool"),
        "kind": datasets.ClassLabel(names=["x", "y"]),
        "day": datasets.Value("timestamp[s]"),
        "sales": datasets.Value("int64"),
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def test_a_dataset_of_hugging_face_is_a_table(hugging_face, tmp_path):
    import datasets

    path = str(tmp_path / "a.parquet")
    hugging_face.to_parquet(path)
    cached = {"cache_dir": str(tmp_path / "cache")}
    stream = hugging_face.to_iterable_dataset()
    for data in (
        hugging_face,
        hugging_face.with_format("numpy"),
        hugging_face.with_format("arrow"),
        datasets.Dataset.from_parquet(path, **cached),
        datasets.load_dataset("parquet", data_files=path, **cached)["train"],
        stream,
    ):
        table = from_table(
            data,
            task="shop",
            inputs=["size", "open", "kind"],
            target="sales",
            order="day",
            missing="mean",
        )
        assert table.names == ("a", "b", "c")
        # The days fall, so each shop's second row comes first.
        np.testing.assert_array_equal(table.targets["sales"].values, [2, 1, 4, 3, 6, 5])
        assert table.inputs["kind"].values.tolist() == ["y", "x", "y", "", "y", "x"]
        np.testing.assert_array_equal(
            table.inputs["open"].values, [0, 1, np.nan, 1, 0, 1]
        )
        np.testing.assert_array_equal(
            table.inputs["size"].values, [2, 1, 4, np.nan, 6, 5]
        )
    mapped = stream.map(lambda row: {**row, "sales": 10 * row["sales"]})
    assert mapped.column_names is None
    found = read_columns(mapped, ["sales"])["sales"]
    assert found.values.tolist() == [10, 20, 30, 40, 50, 60]
    both = datasets.DatasetDict({"train": hugging_face})
    with pytest.raises(ValueError, match=r"Pass one of them, such as data\['train'\]"):
        read_columns(both, ["sales"])
    for data in (hugging_face, mapped):
        with pytest.raises(ValueError, match="a column 'sise'.*Did you mean 'size'"):
            read_columns(data, ["sise"])


def test_other_data_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        read_columns(tmp_path / "none.csv", ["a"])
    (tmp_path / "t.txt").write_text("a")
    (tmp_path / "t.parquet").write_text("a")
    (tmp_path / "t.csv").write_text("")
    for name, message in {
        "t.txt": "must be a .csv file, a .parquet file, or a folder",
        "t.parquet": "cannot be read as Parquet",
        "t.csv": "cannot be read as CSV",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_columns(tmp_path / name, ["a"])
    with pytest.raises(ValueError, match=r"one table.*the tables train.*data\['train'"):
        read_columns({"train": Datasets(frame())}, ["a"])
    with pytest.raises(ValueError, match="Received: int"):
        read_columns(3, ["a"])
    with pytest.raises(ValueError, match=r"Column 'a' of the dict.*row 0.*Convert"):
        read_columns({"a": [[1], [2]]}, ["a"])


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    df = frame()
    df.to_parquet(tmp_path / "t.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pyarrow.*pip install 'maml_keras\[tables"):
        read_columns(tmp_path / "t.parquet", ["size"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="Tables need the package pandas"):
        read_columns(df, ["size"])
