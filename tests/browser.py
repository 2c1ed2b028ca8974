"""A real TensorBoard server, and its pages as a headless Chromium renders them."""

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGES = ("scalars", "custom_scalars", "images", "text", "histograms", "hparams")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--hide-scrollbars"
).split()


@contextlib.contextmanager
def tensorboard(folder):
    """A server for a folder of logs; yields its address once all logs are read."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)),
            *("--host", "127.0.0.1", "--port", str(port), "--load_fast", "false"),
            *("--reload_interval", "1"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if process.poll() is not None:
                raise RuntimeError(f"TensorBoard ended with {process.returncode}.")
            with contextlib.suppress(OSError):
                answer = urllib.request.urlopen(f"{address}/data/runs", timeout=5)
                if answer.read().strip() not in (b"", b"[]"):
                    break
            time.sleep(0.25)
        yield address
    finally:
        process.terminate()
        process.wait()


def page(address, profile, *, picture=None, size=(1400, 1100), seconds=20):
    """The text of a page after its scripts ran; `picture`: a path for a PNG."""
    what = ["--dump-dom"] if picture is None else [f"--screenshot={picture}"]
    done = subprocess.run(
        [
            *(CHROMIUM, *OPTIONS, f"--user-data-dir={profile}"),
            *(f"--window-size={size[0]},{size[1]}",),
            *(f"--virtual-time-budget={1000 * seconds}", *what, address),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    return re.sub(r"<(script|style).*?</\1>", "", done.stdout, flags=re.DOTALL)
