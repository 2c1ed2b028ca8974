"""The README's code runs, and its commands and figures are the real ones."""

import json
import pathlib
import re

import pytest

pytestmark = pytest.mark.journey

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks("python"))
    assert "maml.fit" in code
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    after = re.search(r"loss ([\d.]+) ± [\d.]+ \(95% CI over 600 tasks", printed)
    assert after is not None
    # 3.2 before adaptation. Sums are rounded otherwise on other machines.
    [said] = re.findall(r"# loss ([\d.]+) ±", README)
    assert float(after.group(1)) == pytest.approx(float(said), rel=0.25)


def test_plain_commands_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    makefile = makefile.replace("$(BIN)", ".venv/bin").replace("--quiet ", "")
    makefile = makefile.replace("$(PYTHON)", "python3").replace("$(VENV)", ".venv")
    commands = blocks("console")[0].strip().splitlines()
    assert len(commands) == 5
    for command in commands:
        assert f"\t{command}\n" in makefile


@pytest.mark.parametrize("name", ["sinusoid", "omniglot"])
def test_figures_are_those_of_the_cards(name):
    card = json.loads((ROOT / f"saved_models/{name}/card.json").read_text("utf-8"))
    evaluation, command = card["evaluation"], card["command"]
    assert command in README
    for k in (0, 1, len(evaluation["mean"]) - 1):
        mean, half = evaluation["mean"][k], evaluation["half_width_95"][k]
        if evaluation["metric"] == "accuracy":
            assert f"{100 * mean:.1f} ± {half:.1%}" in README
        else:
            assert f"{mean:.3f} ± {half:.3f}" in README
