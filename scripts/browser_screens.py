"""Draws on the pages that learn, in Chromium, and takes screenshots of them.

    make browser-pages
    python scripts/browser_screens.py site/demo pictures

Each page at desktop and phone width: before, during and after. Needs selenium and
chromedriver. The tests of the pages draw with the same functions.
"""

import argparse
import contextlib
import functools
import http.server
import math
import pathlib
import shutil
import threading
from collections.abc import Iterator
from typing import Any

# Five symbols, as lines of points between 0 and 1.
SYMBOLS = [
    [[(0.2, 0.8), (0.5, 0.2), (0.8, 0.8)], [(0.35, 0.6), (0.65, 0.6)]],
    [[(0.5 + 0.3 * math.cos(t / 3), 0.5 + 0.3 * math.sin(t / 3)) for t in range(20)]],
    [[(0.2, 0.25), (0.8, 0.25)], [(0.5, 0.25), (0.5, 0.85)]],
    [[(0.25, 0.2), (0.25, 0.8), (0.75, 0.8)]],
    [[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]],
]
# Width, height, and whether a finger draws in place of a mouse.
SCREENS = {"desktop": (1400, 1000, False), "phone": (390, 844, True)}


@contextlib.contextmanager
def served(folder: pathlib.Path) -> Iterator[str]:
    """The address of a folder on a plain web server."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def opened(screen: str) -> Iterator[Any]:
    """Chromium on a screen of `SCREENS`."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for option in ("--headless", "--no-sandbox", "--disable-gpu"):
        options.add_argument(option)
    width, height, touch = SCREENS[screen]
    size = {"width": width, "height": height, "pixelRatio": 1.0, "touch": touch}
    options.add_experimental_option("mobileEmulation", {"deviceMetrics": size})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(900)
    try:
        yield driver
    finally:
        driver.quit()


def draw(driver: Any, canvas: Any, lines: Any, *, touch: bool = False) -> None:
    """Draws lines of points between 0 and 1 with a mouse, or with a finger."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions import interaction
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    kind = interaction.POINTER_TOUCH if touch else interaction.POINTER_MOUSE
    width = canvas.size["width"]
    pointer = PointerInput(kind, "pointer")
    actions = ActionChains(driver, duration=0, devices=[pointer])
    for line in lines:
        offsets = [
            (round(width * (x - 0.5)), round(width * (y - 0.5))) for x, y in line
        ]
        actions.move_to_element_with_offset(canvas, *offsets[0]).click_and_hold()
        for offset in offsets[1:]:
            actions.move_to_element_with_offset(canvas, *offset)
        actions.release()
    actions.perform()


def run(driver: Any, script: str) -> Any:
    """The value of an asynchronous JavaScript expression."""
    return driver.execute_async_script(
        f"const done = arguments[arguments.length - 1];"
        f"(async () => ({script}))().then(done, error => done(String(error)));"
    )


def shoot_symbols(driver: Any, address: str, touch: bool, save: Any) -> None:
    """The page of five symbols: empty, drawn, learned, and one named."""
    from selenium.webdriver.common.by import By

    driver.get(f"{address}/index.html")
    save("symbols-1-before")
    canvases = driver.find_elements(By.CSS_SELECTOR, "#symbols .pad canvas")
    for canvas, lines in zip(canvases, SYMBOLS, strict=True):
        draw(driver, canvas, lines, touch=touch)
    save("symbols-2-drawn")
    run(driver, "await demo.learn()")
    query = driver.find_element(By.CSS_SELECTOR, "#query canvas")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", query)
    draw(driver, query, SYMBOLS[2], touch=touch)
    run(driver, "await demo.answer()")
    save("symbols-3-named")


def shoot_sinusoid(driver: Any, address: str, _: bool, save: Any) -> None:
    """The page of the curve: before loading, before the first step, and after ten."""
    driver.get(f"{address}/sinusoid.html")
    save("curve-1-before")
    run(driver, "await demo.start()")
    points = [[x, 3 * math.sin(x - 1)] for x in range(-4, 5)]
    for number, steps in ((2, 0), (3, 10)):
        driver.execute_script(f"document.getElementById('steps').value = {steps}")
        run(driver, f"await demo.set({points})")
        save(f"curve-{number}-{steps}-steps")


def main() -> None:
    """Writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", type=pathlib.Path, help="that browser_pages.py wrote")
    parser.add_argument("pictures", type=pathlib.Path, help="folder of the PNG files")
    options = parser.parse_args()
    options.pictures.mkdir(parents=True, exist_ok=True)
    with served(options.pages) as address:
        for screen, (_, _, touch) in SCREENS.items():
            with opened(screen) as driver:

                def save(name: str, screen: str = screen, driver: Any = driver) -> None:
                    path = options.pictures / f"{name}-{screen}.png"
                    driver.save_screenshot(str(path))
                    print(path)

                shoot_symbols(driver, address, touch, save)
                shoot_sinusoid(driver, address, touch, save)


if __name__ == "__main__":
    main()
