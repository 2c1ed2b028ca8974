"""What every command does around its work."""

import warnings

import pytest

from maml_keras_cli.process import in_process


@in_process
def command(*, quiet=False):
    warnings.warn("Queries see\n  each other.", UserWarning, stacklevel=1)


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line_without_its_place_in_the_code(capsys):
    command()
    assert capsys.readouterr().err == "warning: Queries see each other.\n"


@pytest.mark.filterwarnings("default")
def test_quiet_commands_show_no_warnings(capsys):
    command(quiet=True)
    assert capsys.readouterr().err == ""
