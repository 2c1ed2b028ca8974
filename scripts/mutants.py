"""Mutation testing: do the tests notice a changed operator, number or condition?

    make mutants                                # 60 mutants
    python scripts/mutants.py --sample 10 --seed 3
    python scripts/mutants.py --sample 10 --only inner/rules

cosmic-ray changes one place in a module of the wings `inner`, `learner`, `execution` or
`outer`, and pytest runs the test file of that module: first the fast tests, then the
journeys, up to the first that fails. The test that failed must pass without the mutant.
A mutant that no test notices survives, and is printed as a diff. A mutant whose tests
do not end in time is counted apart: its loop may be endless, or the machine slow. The
mutants are a random sample, drawn with `--seed`, and are written into a copy of the
repository. TensorFlow is imported once, and each run of pytest is a fork of it.
"""

import argparse
import ast
import collections
import difflib
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[1]
WINGS = ["inner", "learner", "execution", "outer"]
COPIED = ["maml_keras", "maml_keras_cli", "tests", "pyproject.toml", "README.md"]
MARKS = ["not slow and not journey", "journey and not slow"]
# `|` stands in types, which nothing runs; the others raise for numbers and tensors.
TRIVIAL = "BitOr", "BitAnd", "BitXor", "LShift", "RShift"
SECONDS = 600.0


def modules() -> dict[str, str]:
    """The modules to mutate, each with its test file; paths in the repository."""
    # Read and not imported: only the forks may import the library.
    mirror = ast.parse((ROOT / "tests/test_mirror.py").read_text("utf-8"))
    elsewhere = next(
        ast.literal_eval(node.value)
        for node in mirror.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ELSEWHERE"
    )
    found = {}
    for wing in WINGS:
        for path in sorted((ROOT / "maml_keras" / wing).glob("*.py")):
            name = f"{wing}/{path.stem}"
            if path.stem != "__init__":
                own = elsewhere.get(name, f"{wing}/test_{path.stem}")
                found[f"maml_keras/{name}.py"] = f"tests/{own}.py"
    return found


class Copy:
    """A copy of the repository, whose tests run in forks of this process."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._passed: set[str] = set()
        for name in COPIED:
            if (ROOT / name).is_dir():
                leave = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, folder / name, ignore=leave)
            else:
                shutil.copy(ROOT / name, folder / name)

    def pytest(self, *arguments: str) -> tuple[int, str]:
        """The exit code of pytest, -1 if it took too long, and its output."""
        log = self.folder / "log"
        child = os.fork()
        if not child:
            self._run(log, [*arguments, "-q", "-p", "no:cacheprovider"])
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status), log.read_text("utf-8")
            time.sleep(0.1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return -1, ""

    def _run(self, log: pathlib.Path, arguments: list[str]) -> None:
        code = 70
        try:
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            os.chdir(self.folder)
            # Tests may start programs, which import the copy as well.
            os.environ["PYTHONPATH"] = str(self.folder)
            sys.path.insert(0, str(self.folder))
            code = int(pytest.main(arguments))
            sys.stdout.flush()
        finally:
            os._exit(code)

    def verdict(self, file: str) -> str:
        """What the tests in a file say now."""
        for marks in MARKS:
            code, text = self.pytest("-x", "-m", marks, file)
            if code == -1:
                return "TOO SLOW"
            failed = re.search(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", text, re.M)
            if failed:
                self._failed = failed[1]
                return "killed"
            if code not in (0, 5):  # 5: no test has these marks.
                self._failed = file
                return "killed"
        return "SURVIVED"

    def check(self) -> None:
        """The test that failed last must pass without a mutant."""
        if self._failed not in self._passed:
            only = ["--collect-only"] if "::" not in self._failed else []
            code, text = self.pytest("-m", "not slow", *only, self._failed)
            if code:
                raise SystemExit(f"{self._failed} fails without a mutant:\n{text}")
            self._passed.add(self._failed)

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


def main() -> int:
    """Draws, runs and reports; the exit code is 0 if no mutant survives."""
    from cosmic_ray.mutating import use_mutation
    from cosmic_ray.plugins import get_operator

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one module, such as inner/rules")
    options = parser.parse_args()
    files = modules()
    if options.only:
        files = {name: files[name] for name in [f"maml_keras/{options.only}.py"]}
    # The forks start with these modules, and with bytecode of no mutant.
    import keras  # noqa: F401

    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as place:
        copy = Copy(pathlib.Path(place).resolve())
        every = copy.mutants(files)
        verdicts: collections.Counter[str] = collections.Counter()
        chosen = random.Random(options.seed).sample(every, options.sample)
        for number, mutant in enumerate(chosen, start=1):
            began = time.monotonic()
            module = mutant.module_path.relative_to(copy.folder).as_posix()
            operator = get_operator(mutant.operator_name)()
            with use_mutation(mutant.module_path, operator, mutant.occurrence) as codes:
                verdict = copy.verdict(files[module])
            if verdict == "killed":
                copy.check()
            verdicts[verdict] += 1
            print(
                f"{number}: {verdict} in {time.monotonic() - began:.0f} s: "
                f"{module}:{mutant.start_pos[0]} {mutant.operator_name}",
                flush=True,
            )
            if verdict != "killed":
                print(difference(*codes), flush=True)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    print(f"{options.sample} drawn from {len(every)} mutants: {counts}")
    return 0 if set(verdicts) == {"killed"} else 1


def difference(before: str, after: str) -> str:
    """The changed lines."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++")))


if __name__ == "__main__":
    sys.exit(main())
