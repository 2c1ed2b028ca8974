"""Mutation testing: do the tests notice a changed operator, number or condition?

    make mutants                                # 60 mutants
    python scripts/mutants.py --sample 10 --seed 3
    python scripts/mutants.py --sample 10 --only inner/rules

cosmic-ray changes one place in a module of the wings `inner`, `learner`, `execution` or
`outer`, in a copy of the repository. First all tests of these wings run once on the
unchanged copy and must pass; coverage.py notes which test runs which line. Then each
mutant meets the tests that run its line, those of its module first and the fastest
first, up to `SECONDS` of them. If no fast test runs the line, the journeys in the test
file of the module are tried. A mutant that no test notices survives, and is printed as
a diff. The mutants are a random sample, drawn with `--seed`.
"""

import argparse
import difflib
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
from test_mirror import ELSEWHERE

ROOT = pathlib.Path(__file__).parents[1]
WINGS = ["inner", "learner", "execution", "outer"]
COPIED = ["maml_keras", "maml_keras_cli", "tests", "pyproject.toml", "README.md"]
FAST, ALL = "not slow and not journey", "not slow"
# `|` stands in types, which nothing runs; the others raise for numbers and tensors.
TRIVIAL = "BitOr", "BitAnd", "BitXor", "LShift", "RShift"
# Tests that a mutant meets take at most so long on the unchanged code.
SECONDS = 60.0
# A mutant that makes a loop endless is noticed, too.
LIMIT = 600.0


def modules() -> dict[str, str]:
    """The modules to mutate, each with its test file; paths in the repository."""
    found = {}
    for wing in WINGS:
        for path in sorted((ROOT / "maml_keras" / wing).glob("*.py")):
            name = f"{wing}/{path.stem}"
            if path.stem != "__init__":
                own = ELSEWHERE.get(name, f"{wing}/test_{path.stem}")
                found[f"maml_keras/{name}.py"] = f"tests/{own}.py"
    return found


class Copy:
    """A copy of the repository, whose tests run in processes of their own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        for name in COPIED:
            if (ROOT / name).is_dir():
                leave = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, folder / name, ignore=leave)
            else:
                shutil.copy(ROOT / name, folder / name)
        # Files of bytecode could be those of the mutant before.
        self.env = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def pytest(self, *arguments: str, limit: float | None = None) -> Any:
        """Runs pytest; returns the finished process, or None if it took too long."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        try:
            return subprocess.run(
                [*command, *arguments],
                cwd=self.folder,
                env=self.env,
                timeout=limit,
                capture_output=True,
                text=True,
            )
        except subprocess.TimeoutExpired:
            return None

    def surveyed(self, files: set[str]) -> tuple[dict[str, float], Any]:
        """By test, how long it takes; and which tests run which line."""
        from coverage import CoverageData

        options = ["--cov=maml_keras", "--cov-context=test", "--cov-report="]
        done = self.pytest("-m", FAST, "-vv", "--durations=0", *options, *sorted(files))
        if done.returncode:
            raise SystemExit(f"Tests fail without a mutant:\n{done.stdout[-5000:]}")
        lines = re.findall(r"^([\d.]+)s call +(tests/.*)$", done.stdout, re.MULTILINE)
        data = CoverageData(str(self.folder / ".coverage"))
        data.read()
        return {name: float(seconds) for seconds, name in lines}, data

    def notices(self, chosen: list[str]) -> bool:
        """Whether one of some tests fails."""
        done = self.pytest("-x", *chosen, limit=LIMIT)
        # 5: nothing was collected, so nothing was tested.
        if done is not None and done.returncode == 5:
            raise SystemExit(f"No test was run:\n{done.stdout}")
        return done is None or bool(done.returncode)

    def mutants(self, files: Iterable[str]) -> list[Any]:
        """Every change that cosmic-ray knows, in some modules."""
        from cosmic_ray.commands import init
        from cosmic_ray.work_db import use_db

        with use_db(str(self.folder / "mutants.sqlite")) as found:
            init([self.folder / name for name in files], found, {})
            made = [item.mutations[0] for item in found.work_items]
        kept = [m for m in made if not any(t in m.operator_name for t in TRIVIAL)]
        # The database has no order.
        return sorted(
            kept, key=lambda m: (str(m.module_path), m.operator_name, m.occurrence)
        )


def tests_for(
    mutant: Any, module: str, seconds: dict[str, float], coverage: Any
) -> list[str]:
    """Arguments of pytest: the tests that a mutant meets."""
    own = modules()[module]
    by_line = coverage.contexts_by_lineno(str(mutant.module_path))
    lines = range(mutant.start_pos[0], mutant.end_pos[0] + 1)
    names = {
        context.rpartition("|")[0]
        for line in lines
        for context in by_line.get(line, [])
    }
    found, total = [], 0.0
    for name in sorted(
        names & seconds.keys(), key=lambda n: (not n.startswith(own), seconds[n])
    ):
        total += seconds[name]
        if total > SECONDS and found:
            break
        found.append(name)
    # A line that runs when its module is imported belongs to no test.
    return found or ["-m", ALL, own]


def main() -> int:
    """Draws, runs and reports; the exit code is 0 if no mutant survives."""
    from cosmic_ray.mutating import use_mutation
    from cosmic_ray.plugins import get_operator

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one module, met by its own test file only")
    options = parser.parse_args()
    files = modules()
    if options.only:
        files = {name: files[name] for name in [f"maml_keras/{options.only}.py"]}
    with tempfile.TemporaryDirectory() as place:
        copy = Copy(pathlib.Path(place).resolve())
        every = copy.mutants(files)
        chosen = random.Random(options.seed).sample(every, options.sample)
        began = time.perf_counter()
        seconds, coverage = copy.surveyed(set(files.values()))
        print(f"{len(seconds)} tests pass in {time.perf_counter() - began:.0f} s")
        survivors = 0
        for number, mutant in enumerate(chosen, start=1):
            began = time.perf_counter()
            module = mutant.module_path.relative_to(copy.folder).as_posix()
            tests = tests_for(mutant, module, seconds, coverage)
            operator = get_operator(mutant.operator_name)()
            with use_mutation(mutant.module_path, operator, mutant.occurrence) as codes:
                noticed = copy.notices(tests)
            survivors += not noticed
            told = "killed" if noticed else "SURVIVED"
            met = f"{len(tests)} tests" if "-m" not in tests else tests[-1]
            print(
                f"{number}: {told} in {time.perf_counter() - began:.0f} s by {met}: "
                f"{module}:{mutant.start_pos[0]} {mutant.operator_name}",
                flush=True,
            )
            if not noticed:
                print(difference(*codes), flush=True)
    print(
        f"{options.sample - survivors} of {options.sample} drawn from {len(every)} "
        "mutants are killed"
    )
    return 1 if survivors else 0


def difference(before: str, after: str) -> str:
    """The changed lines."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++")))


if __name__ == "__main__":
    sys.exit(main())
