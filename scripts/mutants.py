"""Mutation testing: do the tests notice a changed operator, number or condition?

    make mutants                                # 60 mutants, two hours
    python scripts/mutants.py --sample 10 --seed 3

cosmic-ray changes one place in a module of the wings `inner`, `learner`, `execution` or
`outer`, and pytest runs the test file of that module. A mutant that no test notices
survives and is printed as a diff. The mutants are a random sample, drawn with `--seed`,
and are written into a copy of the repository.
"""

import argparse
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
WINGS = ["inner", "learner", "execution", "outer"]
COPIED = ["maml_keras", "maml_keras_cli", "tests", "pyproject.toml", "README.md"]
# Test files of modules that have none of their own name.
TESTS = {
    "outer/objectives": "outer/test_meta_gradients",
    "outer/implicit": "outer/test_estimators",
    "outer/reptile": "outer/test_estimators",
    "execution/memory": "execution/test_memory",
    "learner/batch_norm_policy": "learner/test_batch_norm_policies",
    "learner/per_step_batch_norm": "learner/test_policies_in_training",
    "learner/moving_statistics": "learner/test_policies_in_training",
    "learner/graph_survey": "execution/test_auto_task_map",
}
# `|` stands in types here, which nothing runs.
NOT_RUN = "BitOr"
SECONDS = 600.0


def modules() -> dict[str, str]:
    """The modules to mutate, each with its test file; paths in the repository."""
    found = {}
    for wing in WINGS:
        for path in sorted((ROOT / "maml_keras" / wing).glob("*.py")):
            name = f"{wing}/{path.stem}"
            tests = f"tests/{TESTS.get(name, f'{wing}/test_{path.stem}')}.py"
            if (ROOT / tests).exists():
                found[f"maml_keras/{name}.py"] = tests
    return found


def config(module: str, tests: str, python: str) -> str:
    """The configuration of cosmic-ray for one module."""
    # Markers are those of the whole suite, but no test that trains for minutes.
    command = f"{python} -m pytest -x -q -p no:cacheprovider -m 'not slow' {tests}"
    return (
        f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = {SECONDS}\n'
        f'excluded-modules = []\ntest-command = "{command}"\n'
        '[cosmic-ray.distributor]\nname = "local"\n'
    )


def main() -> int:
    """Draws, runs and reports; the exit code is 0 if no mutant survives."""
    from cosmic_ray.work_db import use_db
    from cosmic_ray.work_item import WorkerOutcome, WorkResult

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder)
        for name in COPIED:
            copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copied(ROOT / name, copy / name)

        def cosmic_ray(*arguments: str) -> None:
            command = [sys.executable, "-m", "cosmic_ray.cli", *arguments]
            subprocess.run(command, cwd=copy, check=True)

        jobs = []
        for number, (module, tests) in enumerate(modules().items()):
            text = config(module, tests, options.python)
            (copy / f"{number}.toml").write_text(text)
            cosmic_ray("init", f"{number}.toml", f"{number}.sqlite")
            with use_db(str(copy / f"{number}.sqlite")) as session:
                jobs += [
                    (number, item.job_id)
                    for item in session.work_items
                    if NOT_RUN not in item.mutations[0].operator_name
                ]
        chosen = set(random.Random(options.seed).sample(jobs, options.sample))
        killed, survivors = 0, []
        for number in sorted({n for n, _ in chosen}):
            with use_db(str(copy / f"{number}.sqlite")) as session:
                skipped = WorkResult(worker_outcome=WorkerOutcome.SKIPPED)
                session.set_multiple_results(
                    [
                        item.job_id
                        for item in session.work_items
                        if (number, item.job_id) not in chosen
                    ],
                    skipped,
                )
            cosmic_ray("exec", f"{number}.toml", f"{number}.sqlite")
            with use_db(str(copy / f"{number}.sqlite")) as session:
                for _, result in session.results:
                    if result.worker_outcome == WorkerOutcome.SKIPPED:
                        continue
                    if result.is_killed:
                        killed += 1
                    else:
                        survivors.append(result.diff)
                        print(result.diff, flush=True)
            print(f"{killed} killed, {len(survivors)} survived", flush=True)
    print(f"{killed} of {options.sample} drawn from {len(jobs)} mutants are killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
