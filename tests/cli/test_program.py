"""The program around its commands: help, version, completion and starting time."""

import pathlib
import re
import shlex
import subprocess
import sys
import time
import typing

import pytest
import typer
from typer.testing import CliRunner

from maml_keras import recipes
from maml_keras.experiments import baselines, registry
from maml_keras_cli import app, names

pytestmark = pytest.mark.journey

PROGRAM = typer.main.get_command(app)
COMMANDS = "train evaluate compare tune adapt export card list data".split()
GROUP = PROGRAM.commands["data"]
LEAVES = {name: PROGRAM.commands[name] for name in COMMANDS if name != "data"} | {
    f"data {name}": command for name, command in GROUP.commands.items()
}
# Words that tell the unit of a number.
UNITS = (
    r"meta-steps|gradient steps|pixels|seconds|of new tasks|multiplied by|whole number"
    r"|Number of the task|Number of support examples"
    r"|Number of (quer|seeds|trials|validation tasks)"
)


def run(*arguments, **environment):
    return CliRunner().invoke(app, arguments, env=environment, prog_name="maml-keras")


def options(command):
    return [p for p in LEAVES[command].params if p.name != "help"]


def test_all_commands_are_there():
    assert sorted(PROGRAM.commands) == sorted(COMMANDS)
    out = run("--help").output
    assert all(f"│ {command} " in out for command in COMMANDS)
    assert sorted(GROUP.commands) == ["audit", "show"]
    assert "│ audit " in run("data", "--help").output


@pytest.mark.parametrize("command", LEAVES)
def test_every_option_has_a_help_text_and_shows_its_default(command):
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    # The parameters are read, not the printed help, whose lines depend on the width.
    for option in options(command):
        assert option.help, option.name
        if option.required:
            continue
        silent = option.default is None or option.default is False
        assert isinstance(option.show_default, str) or not silent, option.name


@pytest.mark.parametrize("command", LEAVES)
def test_every_number_states_its_unit(command):
    function = LEAVES[command].callback.__wrapped__
    for option in options(command):
        if re.search(r"\b(int|float)\b", _annotation(function, option.name)):
            assert re.search(UNITS, option.help), option.name


def _annotation(function, name):
    """The type of a parameter, such as `int | None`, without its annotations."""
    return str(typing.get_type_hints(function)[name])


def test_the_reference_on_the_site_is_up_to_date(tmp_path):
    written = tmp_path / "reference.md"
    command = "typer maml_keras_cli.app utils docs --name maml-keras --output"
    subprocess.run([sys.executable, "-m", *command.split(), written], check=True)
    kept = pathlib.Path(__file__).parents[2] / "docs/api/command_line.md"
    # `make docs` writes the page again.
    assert kept.read_text("utf-8") == written.read_text("utf-8")


def commands_in_the_documentation():
    """Every `maml-keras` command in a console block, named by its page."""
    root = pathlib.Path(__file__).parents[2]
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    pages.remove(root / "docs" / "api" / "command_line.md")  # Written by the program.
    found = []
    for page in pages:
        for block in re.findall(
            r"```(?:console|bash)\n(.*?)```", page.read_text("utf-8"), re.S
        ):
            lines = block.replace("\\\n", " ").splitlines()
            found += [
                pytest.param(
                    shlex.split(line.lstrip("$ "), comments=True),
                    id=f"{page.stem}: {line[:60]}",
                )
                for line in lines
                if line.lstrip("$ ").startswith("maml-keras ")
            ]
    return found


@pytest.mark.parametrize("words", commands_in_the_documentation())
def test_commands_in_the_documentation_have_known_options(words):
    _, command, *arguments = words
    if command.startswith("-"):
        assert command in (
            "--help",
            "--version",
            "--install-completion",
            "--show-completion",
        )
        return
    if command == "data":  # Without a command of its own, `data` is `data show`.
        named = arguments and arguments[0] in GROUP.commands
        command = f"data {arguments[0] if named else 'show'}"
    known = LEAVES[command]
    names = {name for p in known.params for name in [*p.opts, *p.secondary_opts]}
    used = {word.partition("=")[0] for word in arguments if word.startswith("-")}
    assert used <= {*names, "--help"}


def test_every_command_but_list_can_be_quiet_or_verbose():
    for command in set(LEAVES) - {"list"}:
        assert {"quiet", "verbose"} <= {o.name for o in options(command)}, command


def test_version_names_the_packages():
    result = run("--version")
    assert result.exit_code == 0
    assert re.fullmatch(
        r"maml-keras \d+\.\d+\.\d+ \(TensorFlow .*, Keras .*, Python .*\)\n",
        result.output,
    )


def test_completed_names_equal_the_librarys_names():
    assert list(registry.PRESETS) == list(names.PRESETS)
    assert list(recipes.RECIPES) == list(names.ALGORITHMS)
    assert list(baselines.BASELINES) == list(names.BASELINES)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_emits_a_script(shell):
    result = run(_MAML_KERAS_COMPLETE=f"source_{shell}")
    assert result.exit_code == 0
    assert "maml-keras" in result.output
    assert f"_MAML_KERAS_COMPLETE=complete_{shell}" in result.output


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("maml-keras tr", ["train"]),
        (
            "maml-keras train omniglot_s",
            ["omniglot_small", "omniglot_small_20w", "omniglot_small_alone"],
        ),
        ("maml-keras train sinusoid --algorithm im", ["imaml"]),
        ("maml-keras compare sinusoid --algorithms maml,ora", ["maml,oracle"]),
        ("maml-keras train sinusoid --iter", ["--iterations"]),
    ],
)
def test_the_shell_completes(typed, offered):
    result = run(
        _MAML_KERAS_COMPLETE="complete_bash",
        COMP_WORDS=typed,
        COMP_CWORD=str(len(typed.split()) - 1),
    )
    assert result.output.split() == offered


HELP = """
import sys, time
start = time.perf_counter()
from maml_keras_cli import main
try:
    main()
except SystemExit:
    print(time.perf_counter() - start, "tensorflow" in sys.modules, file=sys.stderr)
"""


def test_help_takes_less_than_a_second():
    seconds = []
    for _ in range(3):
        command = [sys.executable, "-c", HELP, "--help"]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        taken, tensorflow = ended.stderr.split()
        assert tensorflow == "False"
        seconds.append(float(taken))
        if min(seconds) < 1:
            break
        time.sleep(1)  # Another process may be busy: try again.
    assert min(seconds) < 1
