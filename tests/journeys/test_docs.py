"""The site's code runs, its links are valid, and its tables match the code."""

import ast
import functools
import importlib.util
import inspect
import itertools
import json
import pathlib
import re
import unicodedata

import pytest

import maml_keras as mk
from maml_keras.experiments import own_settings, registry

pytestmark = pytest.mark.journey

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```python\n(.*?)```", re.DOTALL)


def script(stem):
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(stem, ROOT / f"scripts/{stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


API = script("api_index")


def name(path):
    return path.relative_to(ROOT).as_posix()


def code(path):
    """All Python blocks of a page, and those that can run."""
    blocks = BLOCK.findall(path.read_text("utf-8"))
    return [b for _, b in blocks], [b for reason, b in blocks if not reason]


@pytest.fixture
def small(monkeypatch, tmp_path, few_validation_tasks, tasks_in_a_loop):
    """Shortens training and evaluation, so that pages run quickly."""
    # Baselines choose between two settings.
    monkeypatch.setattr(own_settings, "RATES", (1.0,))
    monkeypatch.setattr(own_settings, "STEPS", (1,))
    fit, evaluate = mk.MAML.fit, mk.evaluate_episodes
    compare = mk.experiments.compare
    compiled = mk.MAML.compile

    @functools.wraps(compiled)
    def quick_compile(self, *args, **kwargs):
        # XLA would compile for longer than these few steps take.
        compiled(self, *args, **{"jit_compile": False, **kwargs})

    @functools.wraps(fit)
    def short_fit(self, x=None, y=None, **kwargs):
        if "steps_per_epoch" in kwargs:
            kwargs["steps_per_epoch"] = min(kwargs["steps_per_epoch"], 2)
        kwargs["epochs"] = min(kwargs.get("epochs", 1), 2)
        return fit(self, x, y, **{**kwargs, "verbose": 0})

    @functools.wraps(evaluate)
    def short_evaluate(maml, episodes, **kwargs):
        tasks = min(kwargs.get("num_tasks", 50), 50)
        return evaluate(maml, episodes, **{**kwargs, "num_tasks": tasks, "verbose": 0})

    @functools.wraps(compare)
    def short_compare(*args, **kwargs):
        return compare(*args, **{**kwargs, "num_tasks": 10})

    monkeypatch.setattr(mk.experiments, "compare", short_compare)
    monkeypatch.setattr(mk.MAML, "compile", quick_compile)
    monkeypatch.setattr(mk.MAML, "fit", short_fit)
    monkeypatch.setattr(mk, "evaluate_episodes", short_evaluate)
    monkeypatch.chdir(tmp_path)


# Pages of notebooks are run as notebooks.
WITH_CODE = [p for p in PAGES if code(p)[1] and p.parent.name != "notebooks"]


# These pages train in earnest.
LONG = {"docs/maml.md", "docs/howto/compare.md", "docs/howto/watch.md"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=name(page),
            marks=[pytest.mark.slow] if name(page) in LONG else [],
        )
        for page in WITH_CODE
    ],
)
def test_python_on_a_page_runs(page, small):
    everything, runs = code(page)
    for block in everything:
        compile(block, name(page), "exec")
    # A page has one namespace: later blocks use the names of earlier ones.
    exec(compile("\n".join(runs), name(page), "exec"), {"__name__": "page"})


@pytest.mark.parametrize("text", [*TEXTS, ROOT / "benchmarks/README.md"], ids=name)
def test_names_of_the_library_on_a_page_exist(text):
    # This covers names in sentences and tables, too.
    for dotted in re.findall(
        r"\bmk\.(?!NAME)([a-z_]\w*(?:\.\w+)*|[A-Z]\w*)", text.read_text("utf-8")
    ):
        API.resolved(f"maml_keras.{dotted}")


@pytest.mark.parametrize("text", [*TEXTS, ROOT / "benchmarks/README.md"], ids=name)
def test_files_of_the_repository_on_a_page_exist(text):
    folders = "tests|maml_keras|maml_keras_cli|examples|benchmarks|scripts|saved_models"
    for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", text.read_text("utf-8")):
        assert (ROOT / path).exists(), f"{name(text)} names {path}"


def strings(path):
    """The strings in a module's source; `{}` stands for inserted values."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}"
                for part in node.values
            )


def test_messages_in_troubleshooting_exist_in_the_code():
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    table = page.partition("| message, in short |")[2].partition("\n\n")[0]
    quoted = re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE)
    texts = set(
        itertools.chain.from_iterable(
            map(strings, sorted((ROOT / "maml_keras").rglob("*.py")))
        )
    )
    assert len(quoted) == 10
    # The code assembles this message; the tests of the checks match it.
    quoted.remove("must be float32, scaled")
    for message in quoted:
        # `..` on the page stands for inserted values.
        parts = re.split(r"[, ]*\.\.+", message)
        parts = re.compile(".*".join(map(re.escape, parts)))
        assert any(parts.search(text) for text in texts), message


def prose(path):
    return re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)


@functools.cache
def anchors(path):
    """The anchors of a page's headings, as Python-Markdown makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE):
        plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore")
        slug = re.sub(r"[^\w\s-]", "", plain.decode()).strip().lower()
        found.add(re.sub(r"[-\s]+", "-", slug))
    # An API page has an anchor for each of its names and their methods.
    entries = API.entries(path)
    methods = {f"{e}.{m}" for e in entries for m in vars(API.resolved(e))}
    return found.union(entries, methods)


@pytest.mark.parametrize("text", TEXTS, ids=name)
def test_links_are_valid(text):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (text.parent / file).resolve() if file else text
        assert target.exists(), f"{name(text)} links to {link}"
        if text in PAGES:
            assert target.is_relative_to(DOCS), f"{link} is outside of the site"
        if anchor:
            assert anchor in anchors(target), f"{name(text)} links to {link}"


@pytest.mark.parametrize(
    "diagnosis", mk.diagnoses.all_diagnoses(), ids=lambda it: type(it).__name__
)
def test_every_diagnosis_links_to_a_section_of_troubleshooting(diagnosis):
    assert diagnosis.section in anchors(DOCS / "troubleshooting.md")


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "zensical.toml").read_text("utf-8")
    missing = [
        page.relative_to(DOCS).as_posix()
        for page in PAGES
        if f'"{page.relative_to(DOCS).as_posix()}"' not in navigation
    ]
    assert not missing, "add them to `nav` in zensical.toml"


ENTRIES = sorted(entry for page in DOCS.glob("api/*.md") for entry in API.entries(page))


@pytest.mark.parametrize("entry", ENTRIES)
def test_api_entries_exist_and_have_docstrings(entry):
    assert API.resolved(entry).__doc__
    assert not inspect.ismodule(API.resolved(entry))


def test_every_public_name_is_on_the_page_of_its_wing():
    assert not API.missing(), "add `::: NAME` to the wing's page of docs/api"


def test_the_index_has_every_public_name():
    # `python scripts/api_index.py` writes the page again.
    assert API.PAGE.read_text("utf-8") == API.index()
    listed = {value for wing in API.names().values() for value in wing.values()}
    public = {getattr(mk, name) for name in mk.__all__}
    assert {value for value in public if not inspect.ismodule(value)} <= listed
    assert all(API.first_sentence(value).endswith((".", ":", "?")) for value in listed)


def table_of_presets():
    lines = [
        "| preset | inner rate | steps | tasks | meta-steps | outer rate | published |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{p.name}` | {p.inner_rate:g} | {p.inner_steps} / {p.evaluation_steps} "
        f"| {p.tasks} | {p.iterations:,} | {p.learning_rate:g} "
        f"| {p.published.partition(' by MAML')[0].partition(', of MAML')[0]} |"
        for p in registry.PRESETS.values()
    ]
    return "\n".join(lines)


def test_the_table_of_protocols_matches_the_presets():
    table = table_of_presets()
    assert table in (DOCS / "protocols.md").read_text("utf-8"), table


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "benchmarks/results/tables").glob("*.json")),
    ids=lambda path: path.stem,
)
def test_tables_of_several_seeds_match_the_measurements(path):
    page = (DOCS / "comparisons.md").read_text("utf-8")
    results = json.loads(path.read_text("utf-8"))
    assert f"`{results['command'].split(' --out ')[0]}`" in page
    kind = ".1%" if "omniglot" in path.stem else ".3g"
    for name, found in results["algorithms"].items():
        columns = "mean", "over_seeds", "over_tasks", "half_width"
        figures = [found[column] for column in columns]
        figures += [min(found["runs"]), max(found["runs"])]
        cells = [f"`{name}`", *(f"{figure:{kind}}" for figure in figures)]
        assert f"| {' | '.join(cells)} |" in page


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "benchmarks/results/omniglot").rglob("evaluation*.json")),
    ids=lambda path: f"{path.parent.stem}-{path.stem}",
)
def test_figures_of_all_of_omniglot_match_the_measurements(path):
    page = (DOCS / "comparisons.md").read_text("utf-8")
    found = json.loads(path.read_text("utf-8"))
    mean, half = found["mean"][-1], found["half_width_95"][-1]
    assert found["tasks"] == 600
    assert f"{100 * mean:.1f} ± {100 * half:.1f}%" in page


def test_the_table_for_equal_time_matches_the_measurements():
    page = (DOCS / "comparisons.md").read_text("utf-8")
    folder = ROOT / "benchmarks/results/omniglot/5w1s_equal_time"
    results = json.loads((folder / "comparison.json").read_text("utf-8"))
    assert results.pop("command").split(" --out ")[0] in page

    def shown(found):
        mean, half = found["mean"][-1], found["half_width_95"][-1]
        return f"{100 * mean:.1f} ± {100 * half:.1f}%"

    for name, found in results.items():
        own, alone, inductive = (
            json.loads(file.read_text("utf-8")) if file.exists() else None
            for file in (
                folder / name / f"evaluation_{how}.json"
                for how in ("own_steps", "alone", "inductive")
            )
        )
        own = own or found
        assert alone["queries"] == "alone"
        assert own["steps"] == alone["steps"]
        assert 500 <= found["seconds"] < 501
        cells = [f"`{name}`", f"{found['iterations']:,}", shown(found)]
        cells += [str(own["steps"][-1]), shown(own), shown(alone)]
        # Statistics of each step cannot be replaced by statistics of the support set.
        assert (inductive is None) == (found["batch_norm"] == "per_step")
        cells += [shown(inductive) if inductive else "not possible"]
        assert f"| {' | '.join(cells)} |" in page
