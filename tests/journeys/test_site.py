"""The documentation in a browser, at the widths of a desktop and of a phone."""

import functools
import http.server
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys
import threading

import browser
import pytest

pytestmark = pytest.mark.journey

ROOT = pathlib.Path(__file__).parents[2]
# Opens every page in a frame of the given width and records the page's own width.
PROBE = """<!doctype html><pre id="found"></pre><script>
const found = {}, pages = PAGES, width = WIDTH;
async function measure() {
  for (const page of pages) {
    const frame = document.createElement("iframe");
    frame.style.width = width + "px"; frame.style.height = "900px";
    const loaded = new Promise(done => frame.onload = done);
    frame.src = page; document.body.append(frame); await loaded;
    found[page] = frame.contentDocument.documentElement.scrollWidth;
    frame.remove();
  }
  document.getElementById("found").textContent = JSON.stringify(found);
}
measure();
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder and the address of the built site, served locally."""
    folder = tmp_path_factory.mktemp("site") / "copy"
    left_out = shutil.ignore_patterns(".*", "runs", "site", "results")
    shutil.copytree(ROOT, folder, ignore=left_out)
    subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=folder,
        check=True,
    )
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=folder / "site"
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder / "site", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.skipif(
    importlib.util.find_spec("zensical") is None, reason="zensical is not installed"
)
@pytest.mark.parametrize("width", [390, 1400])
def test_no_page_is_wider_than_the_screen(site, width, tmp_path):
    folder, address = site
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*.html")}
    pages = sorted(found - {"probe.html"})
    probe = PROBE.replace("PAGES", json.dumps(pages)).replace("WIDTH", str(width))
    (folder / "probe.html").write_text(probe, encoding="utf-8")
    text = browser.page(f"{address}/probe.html", tmp_path, seconds=60)
    found = json.loads(re.search(r'id="found">(.*?)</pre>', text, re.DOTALL)[1])
    assert set(found) == set(pages)
    assert {page: wide for page, wide in found.items() if wide > width} == {}
