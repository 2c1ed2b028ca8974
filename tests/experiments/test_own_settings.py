"""A baseline chooses its rate and steps on validation tasks, never on test tasks."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import maml_keras as mk
from maml_keras.experiments import baselines, fixed_tasks, registry, runs
from maml_keras.experiments.compared_algorithm import Contender
from maml_keras.experiments.comparing import compare
from maml_keras.experiments.own_settings import Choice, Grid, best, grid
from maml_keras.experiments.preset import Families

pytestmark = [
    pytest.mark.journey,
    pytest.mark.usefixtures("tasks_in_a_loop", "no_looks"),
]

WAVES = mk.data.Sinusoid(shots=10, queries=10)


class Untouched(mk.data.TaskFamily):
    """Test tasks that nobody may draw yet."""

    def sample(self, seed):
        raise AssertionError("the test tasks were drawn")


SMALL = dataclasses.replace(
    registry.get("sinusoid"),
    iterations=20,
    epoch=10,
    evaluation_steps=2,
    families=lambda **_: Families(WAVES, WAVES, Untouched()),
)


@pytest.mark.parametrize("classes", [False, True], ids=["loss", "accuracy"])
def test_the_best_setting_of_the_grid_wins(classes):
    keras.utils.set_random_seed(0)
    if classes:
        x = np.random.default_rng(0).normal(size=[6, 1, 4]) * np.ones([1, 10, 1])
        pool = mk.data.from_arrays(x.reshape(-1, 4), np.repeat(np.arange(6), 10))
        family = mk.data.NWayKShot(pool, ways=3, shots=1, queries=3)
        maml = mk.recipes.maml(mk.models.mlp(inputs=4, outputs=3), LOGITS, 0.1)
    else:
        family, maml = WAVES, mk.recipes.maml(mk.models.mlp(), "mse", 0.01)
    settings = Grid((0.001, 0.1, 1.0), (0, 1, 4))
    tasks = mk.data.episodes(
        family, batch_size=20, seed=fixed_tasks.VALIDATION_SEED, num_episodes=100
    )
    # The same adaptation by the ordinary evaluation, with each rate in turn.
    means = {}
    for rate in settings.rates:
        other = mk.recipes.maml(maml.model, maml.inner.loss.identifier, rate)
        found = mk.evaluate_episodes(other, tasks, steps=4, num_tasks=100, verbose=0)
        for steps in settings.steps:
            value = found.per_episode[:, steps].mean()
            means[rate, steps, 0.0] = value if np.isfinite(value) else np.inf
    finest = max if classes else min
    assert means[best(maml, family, settings)] == finest(means.values())


def test_the_best_regularisation_wins():
    keras.utils.set_random_seed(0)
    network = mk.models.mlp()
    pulls = (0.0, 5.0, 50.0)

    def pulled(proximal):
        inner = mk.InnerLoop("mse", mk.SGD(0.03), steps=4, proximal=proximal)
        return mk.MAML(network, inner)

    tasks = mk.data.episodes(
        WAVES, batch_size=20, seed=fixed_tasks.VALIDATION_SEED, num_episodes=100
    )
    # The same adaptation by the ordinary evaluation, with each pull in turn.
    means = {
        pull: mk.evaluate_episodes(pulled(pull), tasks, num_tasks=100, verbose=0).mean
        for pull in pulls
    }
    assert len({round(mean, 4) for mean in means.values()}) == 3
    choice = best(pulled(0.0), WAVES, Grid((0.03,), (4,), pulls))
    assert choice == Choice(0.03, 4, min(means, key=means.get))
    # The other order, so that the answer is not the first of the grid.
    turned = Grid((0.03,), (4,), pulls[::-1])
    assert best(pulled(1.0), WAVES, turned) == choice


LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_a_rate_at_which_tasks_diverge_is_not_chosen():
    keras.utils.set_random_seed(0)
    maml = mk.recipes.maml(mk.models.mlp(), "mse", 0.01)
    assert best(maml, WAVES, Grid((1e3, 1e4), (0, 5))) == Choice(1e3, 0)


def test_the_grid_is_around_the_rate_and_the_steps_of_the_preset():
    found = grid(dataclasses.replace(SMALL, inner_rate=0.4, evaluation_steps=1))
    assert found == Grid((0.04, 0.12, 0.4, 1.2, 4.0), (0, 1, 5))


@pytest.mark.parametrize(
    ("choice", "ends"),
    [
        (Choice(0.3, 1), []),
        (Choice(0.1, 0), []),
        (Choice(0.1, 1), ["the lowest rate"]),
        (Choice(1.0, 5), ["the most steps", "the highest rate"]),
        (Choice(0.3, 1, 0.1), []),
        (Choice(0.3, 1, 1.0), ["the most regularisation"]),
    ],
)
def test_a_choice_at_an_end_of_the_grid_is_told(choice, ends):
    pulls = (0.0, 0.1, 1.0) if choice.regularization else (0.0,)
    assert Grid((0.1, 0.3, 1.0), (0, 1, 5), pulls).edges(choice) == ends


@pytest.mark.parametrize("name", sorted(baselines.CHOOSING))
def test_a_baseline_chooses_before_any_test_task_is_drawn(name):
    maml, families = baselines.BASELINES[name](SMALL, iterations=20, verbose=0)
    settings = baselines.grid_of([name], SMALL)
    choice = Choice.of(maml)
    assert choice == best(maml, families.validation, settings)
    assert choice.learning_rate in settings.rates
    assert choice.steps in settings.steps
    assert choice.regularization in settings.regularizations


@pytest.mark.slow
def test_a_comparison_tells_what_its_baselines_chose(tmp_path):
    preset = dataclasses.replace(SMALL, families=lambda **_: Families(*[WAVES] * 3))
    names = ["oracle", "random"]
    result = compare(preset, names, tmp_path, num_tasks=10, verbose=0)
    choice = result.choices["random"]
    assert set(result.choices) == {"random"}
    maml = keras.saving.load_model(tmp_path / "random" / runs.MODEL, compile=False)
    assert Choice.of(maml) == choice
    # The table's end of the row is after the steps that the baseline chose.
    own = result.results["random"]
    assert (result.end("random"), result.end("oracle")) == (choice.steps, 2)
    gap = own.per_episode[:, choice.steps] - result.results["oracle"].per_episode[:, 2]
    np.testing.assert_allclose(result.difference("random")[0], gap.mean(), rtol=1e-6)
    head, _, oracle, random = result.table().splitlines()
    assert "| own choice |" in head
    assert "| end - oracle |" in head
    assert f"({choice})" in random
    assert " of " not in oracle
    assert f"chose on 100 validation tasks from {grid(preset)}" in str(result)
    kept = json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    chosen = kept["random"]["chosen"]
    assert chosen == {**choice._asdict(), "from": str(grid(preset))}
    # A baseline of an earlier version chose nothing, so it is made again.
    facts = json.loads((tmp_path / "random/baseline.json").read_text("utf-8"))
    assert facts.pop("chosen") == choice._asdict()
    (tmp_path / "random/baseline.json").write_text(json.dumps(facts), "utf-8")
    again = compare(preset, names, tmp_path, num_tasks=10, verbose=0)
    assert again.choices == result.choices


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (runs.MODEL, "half a file", r"maml.keras cannot be loaded: .*Remove .*random"),
        ("baseline.json", '{"preset": ', "baseline.json cannot be read as JSON"),
        ("baseline.json", "{}", "baseline.json must hold preset, seed"),
        ("baseline.json", '{"seed": "x"}', "a whole number as `seed`"),
    ],
)
def test_a_damaged_baseline_is_named(tmp_path, file, text, message):
    facts = {"preset": SMALL.name, "seed": 0, "iterations": 1, "seconds": 1.0}
    chosen = {"chosen": {"learning_rate": 0.1, "steps": 1}}
    (tmp_path / "random").mkdir()
    kept = tmp_path / "random/baseline.json"
    kept.write_text(json.dumps({**facts, **chosen}), "utf-8")
    (tmp_path / "random" / file).write_text(text)
    contender = Contender(SMALL, "random", tmp_path / "random", 0, {}, 0)
    with pytest.raises(ValueError, match=message):
        contender.trained(1, None, "")
