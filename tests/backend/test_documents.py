"""Files that are read and written: every error names the file."""

import errno

import pytest

from maml_keras.backend.documents import (
    NUMBER,
    TEXT,
    WHOLE,
    check,
    read_json,
    read_toml,
    writing,
)


@pytest.mark.parametrize(("read", "form"), [(read_json, "JSON"), (read_toml, "TOML")])
@pytest.mark.parametrize("content", [b'{"a": [', b"\xff\xfe", b"[" * 100_000, b"a = ["])
def test_a_damaged_file_is_named(tmp_path, read, form, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} cannot be read as {form}: ."):
        read(path)


@pytest.mark.parametrize("read", [read_json, read_toml])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "none")):
        read(tmp_path / "none")


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (WHOLE, True, "a whole number"),
        (WHOLE, 1.0, "a whole number"),
        (NUMBER, float("inf"), "a finite number"),
        (TEXT, 7, "a text"),
        ([WHOLE], 7, "a list"),
        ([WHOLE], [1, "x"], r"`entry\[1\]`"),
        ({}, [], "a table"),
        ({"*": {"a": WHOLE}}, {"b": {"a": "x"}}, "`entry.b.a`"),
    ],
)
def test_a_wrong_type_names_file_entry_and_value(kind, value, message):
    with pytest.raises(ValueError, match=f"file.toml must have .*{message}"):
        check("file.toml", {"entry": value}, {"entry": kind})


def test_right_types_and_missing_entries_pass():
    kinds = {"a": WHOLE, "b": NUMBER, "c": [TEXT], "d": (bool,)}
    check("file", {"a": 1, "b": 1, "c": ["x"], "d": True, "other": object()}, kinds)
    check("file", {"a": None}, kinds)


def test_an_error_of_writing_names_the_file_once():
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(OSError, match="run/model.keras cannot be written: .*No space"),
        writing("run/model.keras"),
    ):
        raise full
    named = OSError(errno.ENOSPC, "No space left on device", "other")
    with pytest.raises(OSError, match="'other'") as raised, writing("run"):
        raise named
    assert raised.value is named
