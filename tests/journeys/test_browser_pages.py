"""The pages that learn in a browser: drawn strokes and real drawings in Chromium."""

import functools
import http.server
import importlib.util
import json
import math
import pathlib
import shutil
import subprocess
import sys
import threading

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
# Five symbols, as lines of points between 0 and 1.
SYMBOLS = [
    [[(0.2, 0.8), (0.5, 0.2), (0.8, 0.8)], [(0.35, 0.6), (0.65, 0.6)]],
    [[(0.5 + 0.3 * math.cos(t / 3), 0.5 + 0.3 * math.sin(t / 3)) for t in range(20)]],
    [[(0.2, 0.25), (0.8, 0.25)], [(0.5, 0.25), (0.5, 0.85)]],
    [[(0.25, 0.2), (0.25, 0.8), (0.75, 0.8)]],
    [[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]],
]


SCREENS = {"desktop": (1400, 1000), "phone": (390, 844)}
on_every_screen = pytest.mark.parametrize(
    "browser", SCREENS.values(), ids=SCREENS, indirect=True
)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of the folder that the script writes, on a plain web server."""
    folder = tmp_path_factory.mktemp("browser") / "demo"
    script = [sys.executable, ROOT / "scripts/browser_pages.py", folder]
    subprocess.run(script, check=True, cwd=ROOT)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def browser(request):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for option in ("--headless", "--no-sandbox", "--disable-gpu"):
        options.add_argument(option)
    width, height = getattr(request, "param", SCREENS["desktop"])
    size = {"width": width, "height": height, "pixelRatio": 1.0}
    options.add_experimental_option("mobileEmulation", {"deviceMetrics": size})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(900)
    yield driver
    driver.quit()


def draw(driver, canvas, lines):
    """Draws with pointer events, as a finger or a mouse does."""
    from selenium.webdriver.common.action_chains import ActionChains

    width = canvas.size["width"]
    actions = ActionChains(driver, duration=0)
    for line in lines:
        offsets = [
            (round(width * (x - 0.5)), round(width * (y - 0.5))) for x, y in line
        ]
        actions.move_to_element_with_offset(canvas, *offsets[0]).click_and_hold()
        for offset in offsets[1:]:
            actions.move_to_element_with_offset(canvas, *offset)
        actions.release()
    actions.perform()


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


def run(driver, script):
    """The value of an asynchronous JavaScript expression."""
    return driver.execute_async_script(
        f"const done = arguments[arguments.length - 1];"
        f"(async () => ({script}))().then(done, error => done(String(error)));"
    )


@on_every_screen
def test_five_drawn_symbols_are_learned_and_told_apart(address, browser):
    from selenium.webdriver.common.by import By

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
def test_a_sinusoid_is_fitted_step_by_step(address, browser):
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
