"""The README's code runs, and its commands and figures are correct."""

import json
import pathlib
import re

import pytest

pytestmark = [pytest.mark.journey, pytest.mark.optimized]

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COMPARISONS = (ROOT / "docs/comparisons.md").read_text(encoding="utf-8")


def blocks(language, page=README):
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150
    start, export = (
        [line for line in block.splitlines() if line] for block in blocks("python")
    )
    assert len(start) <= 15
    assert len(export) <= 6


def test_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks("python"))
    assert "maml.fit" in code
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    after = re.search(r"loss ([\d.]+) ± [\d.]+ \(95% CI over 600 tasks", printed)
    assert after is not None
    # The loss before adaptation is 3.2. Other machines round sums differently.
    [stated] = re.findall(r"# loss ([\d.]+) ±", README)
    assert float(after.group(1)) == pytest.approx(float(stated), rel=0.25)


def test_plain_commands_match_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    makefile = makefile.replace("$(BIN)", ".venv/bin").replace("--quiet ", "")
    makefile = makefile.replace("--no-compile ", "")  # All cores compile afterwards.
    makefile = makefile.replace("$(PYTHON)", "python3").replace("$(VENV)", ".venv")
    commands = blocks("console", CONTRIBUTING)[0].strip().splitlines()
    assert len(commands) == 5
    for command in commands:
        assert f"\t{command}\n" in makefile


@pytest.mark.parametrize("name", ["sinusoid", "omniglot"])
def test_figures_match_the_cards(name):
    card = json.loads((ROOT / f"saved_models/{name}/card.json").read_text("utf-8"))
    evaluation, command = card["evaluation"], card["command"]
    assert command in COMPARISONS
    for k in (0, 1, len(evaluation["mean"]) - 1):
        mean, half = evaluation["mean"][k], evaluation["half_width_95"][k]
        if evaluation["metric"] == "accuracy":
            assert f"{100 * mean:.1f} ± {half:.1%}" in COMPARISONS
        else:
            assert f"{mean:.3f} ± {half:.3f}" in COMPARISONS


def row(page, begins):
    """The cells of the table line that begins with the given text."""
    [line] = [line for line in page.splitlines() if line.startswith(f"| {begins}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_beside_other_libraries_matches_the_measurements():
    results = (ROOT / "benchmarks/RESULTS.md").read_text("utf-8")
    for workload, stated in {
        "W1-1": row(README, "time of a meta-step, 25 sinusoids"),
        "W4": row(README, "time of a meta-step, a transformer"),
    }.items():
        measured = row(results, f"{workload} ")
        assert stated[2:5] == measured[5:8]
        assert f"--workloads {workload}`" in stated[5]
        section = results[results.index(f"## {workload}") :]
        ours = row(section[: section.index("Largest")], "ours |")
        assert f"{ours[1]} ms" in stated[5]
    exactness = (ROOT / "docs/exactness.md").read_text("utf-8")
    exactness = exactness[: exactness.index("<!-- layers")]
    for error in row(exactness, "`BatchNormalization` ")[1:]:
        assert error in " ".join(row(README, "your model's meta-gradient"))
    performance = (ROOT / "docs/performance.md").read_text("utf-8")
    kept, again = row(performance, "20 | kept"), row(performance, "20 | rematerialised")
    assert f"{again[2]} MB, not {kept[2]}:" in " ".join(row(README, "memory of many"))
    card = json.loads((ROOT / "saved_models/omniglot/card.json").read_text("utf-8"))
    mean, half = (card["evaluation"][key][-1] for key in ("mean", "half_width_95"))
    stated = " ".join(row(README, "an export that adapts"))
    assert f"{100 * mean:.1f} ± {half:.1%}" in stated
