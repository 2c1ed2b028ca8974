"""The pages that learn in a browser: drawn strokes and real drawings in Chromium."""

import functools
import importlib.util
import json
import math
import pathlib
import runpy
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

import maml_keras as mk

pytestmark = [
    pytest.mark.journey,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("selenium") is None, reason="selenium is not installed"
    ),
    pytest.mark.skipif(
        shutil.which("chromedriver") is None, reason="chromedriver is not installed"
    ),
]

ROOT = pathlib.Path(__file__).parents[2]
pages = types.SimpleNamespace(
    **runpy.run_path(str(ROOT / "scripts/browser_screens.py"))
)
SYMBOLS, SCREENS, run = pages.SYMBOLS, pages.SCREENS, pages.run
on_every_screen = pytest.mark.parametrize("screen", SCREENS)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of the folder that the script writes, on a plain web server."""
    folder = tmp_path_factory.mktemp("browser") / "demo"
    script = [sys.executable, ROOT / "scripts/browser_pages.py", folder]
    subprocess.run(script, check=True, cwd=ROOT)
    with pages.served(folder) as found:
        yield found


@pytest.fixture
def screen():
    return "desktop"


@pytest.fixture
def browser(screen):
    with pages.opened(screen) as driver:
        yield driver


def redrawn(lines, generator):
    """The same symbol by a less steady hand: turned, scaled, moved, and shaken."""
    turn, scale = generator.uniform(-0.15, 0.15), generator.uniform(0.85, 1.1)
    move = generator.uniform(-0.05, 0.05, 2)
    matrix = scale * np.array(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    )
    return [
        (np.array(line) - 0.5) @ matrix.T
        + 0.5
        + move
        + generator.normal(0, 0.01, [len(line), 2])
        for line in lines
    ]


def cells(driver):
    from selenium.webdriver.common.by import By

    return driver.find_elements(By.CSS_SELECTOR, "#symbols .pad canvas")


@on_every_screen
def test_five_drawn_symbols_are_learned_and_told_apart(address, screen, browser):
    from selenium.webdriver.common.by import By

    draw = functools.partial(pages.draw, touch=SCREENS[screen][-1])

    browser.get(f"{address}/index.html")
    assert browser.execute_script(
        "return document.documentElement.scrollWidth <= innerWidth"
    )
    # Nothing of the runtime is loaded before the reader asks for it.
    loaded = "performance.getEntriesByType('resource').map(e => e.name)"
    assert not [n for n in browser.execute_script(f"return {loaded}") if "ort" in n]
    browser.find_element(By.ID, "learn").click()
    assert "Box 1 is empty" in browser.find_element(By.ID, "said").text
    for canvas, lines in zip(cells(browser), SYMBOLS, strict=True):
        draw(browser, canvas, lines)
    run(browser, "await demo.learn()")
    assert "3 gradient steps in your browser" in (
        browser.find_element(By.ID, "happened").text
    )
    shares = [
        int(e.text.rstrip("%"))
        for e in browser.find_elements(By.CSS_SELECTOR, "#chart .number")
    ]
    assert len(shares) == 4
    assert shares[0] <= 45 < 90 <= shares[-1]
    query = browser.find_element(By.CSS_SELECTOR, "#query canvas")
    generator = np.random.default_rng(0)
    right = 0
    for number in range(20):
        browser.execute_script("demo.query.clear()")
        draw(browser, query, redrawn(SYMBOLS[number % 5], generator))
        said = run(browser, "(await demo.answer(), answer.innerText)")
        right += f"Symbol {number % 5 + 1}\n" in said
    assert right >= 19


def test_the_keyboard_draws_takes_back_and_clears(address, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.get(f"{address}/index.html")
    first = cells(browser)[0]
    while browser.switch_to.active_element != first:
        browser.switch_to.active_element.send_keys(Keys.TAB)
    lines = "return demo.symbols[0].pad.lines.map(line => line.length)"
    first.send_keys(Keys.ARROW_LEFT * 3, " ", Keys.ARROW_DOWN * 5, " ")
    first.send_keys(Keys.ARROW_UP * 2, " ", Keys.ARROW_RIGHT * 4, " ")
    assert browser.execute_script(lines) == [6, 5]
    first.send_keys("u")
    assert browser.execute_script(lines) == [6]
    first.send_keys(Keys.DELETE)
    assert browser.execute_script(lines) == []
    pages.draw(browser, first, SYMBOLS[0])
    one_more = browser.find_element(By.XPATH, "//button[text()='one more']")
    one_more.click()
    pages.draw(browser, first, SYMBOLS[0])
    images = "return demo.symbols[0].images().length"
    assert browser.execute_script(images) == 2
    browser.find_element(By.XPATH, "//button[text()='clear']").click()
    assert browser.execute_script(images) == 0


def test_real_drawings_are_named_as_often_as_the_card_says(
    address, browser, omniglot_folder
):
    preset = mk.experiments.get("omniglot_5w1s_alone")
    test = preset.families(data_dir=omniglot_folder).test
    task, query_y = test.resized(shots=1, queries=3).sample_many([0, 7], 200)
    browser.get(f"{address}/index.html")
    run(browser, "await demo.load()")
    right = []
    for i in range(len(query_y)):
        given = {
            "support": np.asarray(task["support_x"][i]).reshape([5, -1]).tolist(),
            "labels": np.asarray(task["support_y"][i]).tolist(),
            "queries": np.asarray(task["query_x"][i]).reshape([15, -1]).tolist(),
        }
        answers = run(browser, f"await demo.trial({json.dumps(given)})")
        right.append(np.mean(np.array(answers) == np.asarray(query_y[i])))
    share, half = np.mean(right), 1.96 * np.std(right) / math.sqrt(len(right))
    card = json.loads((ROOT / "saved_models/omniglot/card.json").read_text("utf-8"))
    stated = card["evaluation"]["mean"][-1]
    print(f"{share:.3f} ± {half:.3f}, the card: {stated}")  # noqa: T201
    assert abs(share - stated) <= 0.02


@on_every_screen
def test_a_sinusoid_is_fitted_step_by_step(address, screen, browser):
    browser.get(f"{address}/sinusoid.html")
    run(browser, "await demo.start()")
    points = [[x, 3 * math.sin(x - 1)] for x in np.linspace(-4.5, 4.5, 10)]
    errors = []
    for steps in (0, 1, 5, 10):
        browser.execute_script(f"document.getElementById('steps').value = {steps}")
        run(browser, f"await demo.set({json.dumps(points)})")
        errors.append(browser.execute_script("return demo.error"))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]
