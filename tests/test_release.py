"""What a release is made of agrees: metadata, citation, changelog, workflows, forms."""

import pathlib
import re
import sys

import pytest
import yaml

import maml_keras as mk

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
GITHUB = ROOT / ".github"
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text("utf-8"))
    for path in sorted((GITHUB / "workflows").glob("*.yml"))
}


def make_targets(text):
    return set(re.findall(r"\bmake ([a-z-]+)", text))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def called(name):
    """The make targets that a workflow calls."""
    lines = "\n".join(step.get("run", "") for step in steps(WORKFLOWS[name]))
    return make_targets(lines)


def python_versions():
    prefix = "Programming Language :: Python :: 3."
    found = [c for c in PROJECT["classifiers"] if c.startswith(prefix)]
    return [f"3.{c.removeprefix(prefix)}" for c in found]


def test_every_make_target_is_there_and_explained():
    defined = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())
    assert phony == defined - {"help"}
    assert make_targets(MAKEFILE) == defined - {"help"}


def test_workflows_call_the_make_targets_of_the_local_check():
    defined = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
    local = set(
        re.findall(r"^make ([a-z-]+)$", (ROOT / ".ci/run").read_text("utf-8"), re.M)
    )
    assert local
    assert set().union(*map(called, WORKFLOWS)) <= defined
    assert local <= called("tests") | called("docs")
    assert called("nightly") == {"test-slow"}
    assert called("publish") >= {"lint", "test", "build"}


def test_workflows_run_on_every_python_that_is_promised():
    assert python_versions() == ["3.10", "3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == ">=3.10,<3.14"
    matrix = WORKFLOWS["tests"]["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python-version"] == python_versions()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_may_do_little_and_not_for_ever(name):
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    assert "secrets." not in (GITHUB / f"workflows/{name}.yml").read_text("utf-8")


def test_a_tag_publishes_what_was_built_without_a_password():
    build, publish = (WORKFLOWS["publish"]["jobs"][n] for n in ("build", "publish"))
    assert "permissions" not in build
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    *_, last = publish["steps"]
    assert last["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert "with" not in last


def test_changelog_and_citation_know_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", changelog, re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    version, date = headings[1]
    assert version == PROJECT["version"] == mk.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == version
    assert str(citation["date-released"]) == date
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]


def test_the_bug_form_asks_for_versions_and_the_task_map():
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE/bug.yml").read_text("utf-8"))
    fields = {f["id"]: f for f in form["body"] if "id" in f}
    assert "maml-keras --version" in fields["versions"]["attributes"]["label"]
    assert fields["versions"]["validations"]["required"]
    assert "str(maml.task_map)" in fields["task-map"]["attributes"]["label"]


def test_forms_have_what_the_host_demands():
    for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text("utf-8"))
        if path.stem == "config":
            assert form == {"blank_issues_enabled": True}
            continue
        assert form["name"]
        assert form["description"]
        ids = [field["id"] for field in form["body"] if "id" in field]
        assert len(set(ids)) == len(ids)
        for field in form["body"]:
            assert field["type"] in {"markdown", "input", "textarea"}
            wanted = "value" if field["type"] == "markdown" else "label"
            assert field["attributes"][wanted]


def test_dependencies_are_kept_up_to_date():
    config = yaml.safe_load((GITHUB / "dependabot.yml").read_text("utf-8"))
    kinds = [update["package-ecosystem"] for update in config["updates"]]
    assert kinds == ["pip", "github-actions"]


def test_the_lock_pins_every_development_package_and_names_no_host():
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    assert [
        line for line in lines if not re.match(r"[a-z0-9-]+==[\w.+!-]+", line)
    ] == []
    assert not any("://" in line or line.startswith("-") for line in lines)
    pinned = {line.partition("==")[0] for line in lines}
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["dev"]]
    wanted += [r for name in ("plot", "onnx", "litert") for r in extras[name]]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in wanted}
    assert names - pinned == {"maml_keras"}
