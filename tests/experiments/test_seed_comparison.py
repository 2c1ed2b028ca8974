"""Comparisons over several training seeds."""

import csv
import dataclasses
import io
import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from maml_keras.evaluation.over_seeds import SeedMean
from maml_keras.evaluation.result import Evaluation
from maml_keras.experiments import registry, runs
from maml_keras.experiments.comparing import compare
from maml_keras.experiments.comparison import Comparison
from maml_keras.experiments.own_settings import Choice, Grid
from maml_keras.experiments.seed_comparison import COLUMNS, SeedComparison
from maml_keras_cli import app


def evaluation(values, diverged=(), metric="loss", better=False):
    values = np.asarray(values, dtype=float)[:, None]
    lost = np.zeros_like(values, dtype=bool)
    lost[list(diverged)] = True
    return Evaluation(metric, values, lost, "transductive", 5, better)


def one(**results):
    counts = dict.fromkeys(results, 1)
    return Comparison(results, counts, dict.fromkeys(results, 1.0))


def assert_same(found, expected):
    np.testing.assert_allclose(
        dataclasses.astuple(found), dataclasses.astuple(expected), rtol=1e-9
    )


def test_differences_are_paired_by_seed_and_task():
    rng = np.random.default_rng(0)
    tasks, seeds = rng.normal(scale=10, size=8), rng.normal(scale=5, size=3)
    gaps = 1.0 + rng.normal(scale=0.1, size=[3, 8])
    found = SeedComparison(
        {
            s: one(a=evaluation(tasks + up), b=evaluation(tasks + up + gap))
            for s, (up, gap) in enumerate(zip(seeds, gaps))
        }
    )
    assert_same(found.difference("b"), SeedMean.of(gaps))
    assert found.difference("b").half_width < 0.05 * found.result("b").half_width
    assert_same(found.result("a"), SeedMean.of(tasks + seeds[:, None]))


def test_a_task_that_diverged_in_any_run_is_left_out_and_counted():
    found = SeedComparison(
        {
            0: one(a=evaluation([1, 2, 3, 9e9], [3]), b=evaluation([0, 1, 2, 3])),
            1: one(a=evaluation([2, 3, 4, 5]), b=evaluation([9e9, 9e9, 1, 2], [0, 1])),
        }
    )
    assert found.result("a").mean == 2.5
    assert found.result("b").tasks == 2
    assert found.diverged("a") == 1
    assert found.diverged("b") == 2
    # The third task alone is whole everywhere.
    assert found.difference("b").mean == np.mean([2 - 3, 1 - 4])
    assert "| 2 of 8 |" in found.table().splitlines()[-1]


def test_if_nothing_is_left_the_table_says_so():
    found = SeedComparison(
        {s: one(a=evaluation([1, 2]), b=evaluation([1, 2], [s])) for s in (0, 1)}
    )
    assert math.isnan(found.result("b").mean)
    assert math.isnan(found.probability("b"))
    assert "n/a" in found.table()
    assert "nan" not in found.table()
    json.dumps(found.summary(), allow_nan=False)


def test_a_baseline_ends_after_the_steps_that_each_seed_chose():
    values = np.array([[4.0, 3.0, 2.0], [5.0, 4.0, 3.0]])
    whole = Evaluation("loss", values, values < 0, "transductive", 5, False)
    grid = Grid((0.1,), (1, 2))

    def chosen(steps):
        results = {"a": whole.until(1), "b": whole}
        ones, times = dict.fromkeys("ab", 1), dict.fromkeys("ab", 1.0)
        return Comparison(results, ones, times, {"b": Choice(0.1, steps)}, grid)

    found = SeedComparison({0: chosen(1), 1: chosen(2)})
    np.testing.assert_array_equal(found.run_means("b"), [3.5, 2.5])


def test_tables_hold_the_same_figures():
    found = SeedComparison(
        {
            s: one(
                maml=evaluation([0.5, 0.7 + s / 10], metric="accuracy", better=True),
                first_order=evaluation([0.4, 0.6], metric="accuracy", better=True),
            )
            for s in (3, 4)
        }
    )
    head, _, maml, other = found.table().splitlines()
    assert head.startswith("| algorithm | mean | ± seeds | ± tasks | ± both |")
    assert maml.startswith("| maml | 77.5% | ")
    assert "| 0% | 0 |" in other
    assert str(found).startswith("accuracy after the last step, over seeds 3, 4 and 2")
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert tuple(rows[0]) == COLUMNS
    assert float(rows[1]["difference"]) == found.difference("first_order").mean
    assert rows[0]["difference"] == ""
    text = found.latex()
    assert r"first\_order & 50.0\% & " in text
    assert text.count(r"\\") == 3
    assert "±" not in text
    kept = found.summary()["algorithms"]["maml"]
    np.testing.assert_allclose(kept["runs"], [0.75, 0.8])


def test_one_seed_is_refused_where_several_were_compared(tmp_path):
    preset = dataclasses.replace(registry.get("sinusoid"), iterations=20)
    with pytest.raises(ValueError, match="`seeds` must be positive. Received: 0"):
        compare(preset, ["maml"], tmp_path, seeds=0)


@pytest.mark.journey
@pytest.mark.usefixtures("tasks_in_a_loop", "few_validation_tasks", "no_looks")
def test_seeds_on_the_command_line_are_resumed_run_by_run(tmp_path, monkeypatch):
    out = tmp_path / "out"
    line = f"compare sinusoid --algorithms maml,random --iterations 20 --out {out}"
    line += " --tasks 12 --steps 1 --quiet"
    train, trained = runs.train, []

    def recorded(preset, folder, **kwargs):
        if len(trained) == 1:
            trained.append("interrupted")
            raise KeyboardInterrupt
        trained.append(kwargs["seed"])
        return train(preset, folder, **kwargs)

    monkeypatch.setattr(runs, "train", recorded)
    CliRunner().invoke(app, f"{line} --seeds 2 --seed 5".split())
    assert trained == [5, "interrupted"]
    assert not (out / "comparison.md").exists()
    done = CliRunner().invoke(app, f"compare sinusoid --resume --quiet --out {out}")
    assert done.exit_code == 0, done.output
    assert trained == [5, "interrupted", 6]
    assert "| maml |" in done.output
    assert "over seeds 5, 6 and 12 identical tasks" in done.output
    kinds = {path.suffix for path in out.glob("comparison.*")}
    assert kinds == {".md", ".json", ".csv", ".tex", ".png"}
    # Each seed's folder is a comparison of its own; its figures are those of the whole.
    whole = json.loads((out / "comparison.json").read_text("utf-8"))
    singles = [
        json.loads((out / f"seed_{s}/comparison.json").read_text("utf-8"))
        for s in (5, 6)
    ]
    np.testing.assert_allclose(
        whole["algorithms"]["maml"]["runs"], [s["maml"]["mean"][-1] for s in singles]
    )
    # A third seed continues; a single seed would lie elsewhere.
    preset = registry.get("sinusoid")
    options = {"iterations": 20, "num_tasks": 12, "steps": 1, "seed": 5, "verbose": 0}
    more = compare(preset, ["maml", "random"], out, seeds=3, **options)
    assert trained == [5, "interrupted", 6, 7]
    assert list(more.comparisons) == [5, 6, 7]
    with pytest.raises(ValueError, match="must continue with the settings"):
        compare(preset, ["maml", "random"], out, **options)
