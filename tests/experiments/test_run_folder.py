"""A damaged `config.toml` is named, with the setting that is wrong."""

import pytest

from maml_keras.experiments import run_folder, runs

WHOLE = """
preset = "sinusoid"
algorithm = "maml"
iterations = 20
epoch = 10
seed = 0

[record]
command = "maml-keras train sinusoid"
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "without preset"),
        (WHOLE[:10], "cannot be read as TOML"),
        (WHOLE.replace('"sinusoid"', "7", 1), "a text as `preset`. Received: 7"),
        (WHOLE.replace("= 0", '= "zero"'), "a whole number as `seed`"),
        (WHOLE.replace("seed = 0", ""), "without seed"),
        (WHOLE.replace('"maml"', "[1]"), "a text as `algorithm`"),
        (WHOLE.replace("[record]", "[[record]]"), "a table as `record`"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path, text, message):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        runs.load(tmp_path)
    assert str(refused.value).startswith(str(tmp_path / "config.toml"))


def test_a_configuration_without_a_record_is_read(tmp_path):
    (tmp_path / "config.toml").write_text(WHOLE.partition("[record]")[0])
    assert run_folder.read_config(tmp_path)["seed"] == 0
    with pytest.raises(FileNotFoundError, match="has not ended"):
        runs.load(tmp_path)
