"""Writes the pages on which a network learns in the browser: `make browser-pages`.

    python scripts/browser_pages.py site/demo
    python -m http.server --directory site/demo    # then open http://localhost:8000

The folder needs nothing else: any web server, without special headers, can hand it out.
It has the pages of `docs/demo`, the committed exports as ONNX files that learn, and
onnxruntime-web from npm's registry. The runtime's program is compressed here, so that a
reader loads 3.7 MB from any server; the page unpacks it.
"""

import argparse
import base64
import gzip
import hashlib
import io
import pathlib
import shutil
import tarfile
import tempfile
import urllib.request

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ROOT / "docs/demo"
EXPORTS = ["omniglot", "sinusoid"]
# A newer version needs its `dist.integrity`: npm view onnxruntime-web dist.integrity
VERSION = "1.30.0"
INTEGRITY = "".join(
    [
        "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8p",
        "ZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    ]
)
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
AS_IT_IS = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs"]
PROGRAM = "ort-wasm-simd-threaded.wasm"


def fetched() -> bytes:
    """The package from npm's registry, checked against its hash.

    Raises:
        ValueError: if the package is another one.
    """
    with urllib.request.urlopen(ADDRESS, timeout=120) as answer:
        package = answer.read()
    found = base64.b64encode(hashlib.sha512(package).digest()).decode()
    if found != INTEGRITY:
        raise ValueError(
            f"{ADDRESS} must have the SHA-512 {INTEGRITY}. Received: {found}. Do not "
            "use this package; if the version has changed, change INTEGRITY with it."
        )
    return package


def write_runtime(folder: pathlib.Path) -> None:
    """Writes the three files of onnxruntime-web that the pages load."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(fetched())) as package:

        def read(name: str) -> bytes:
            member = package.extractfile(f"package/dist/{name}")
            assert member is not None
            return member.read()

        for name in AS_IT_IS:
            (folder / name).write_bytes(read(name))
        packed = gzip.compress(read(PROGRAM), compresslevel=9, mtime=0)
        (folder / f"{PROGRAM}.gz").write_bytes(packed)


def write_models(folder: pathlib.Path) -> None:
    """Writes the committed exports as pairs of ONNX files."""
    import maml_keras as mk

    folder.mkdir(parents=True, exist_ok=True)
    for name in EXPORTS:
        source = ROOT / "saved_models" / name
        with tempfile.TemporaryDirectory() as place:
            mk.convert(source, pathlib.Path(place) / f"{name}.onnx", adapt=True)
            for kind in ("adapt", "predict_with"):
                shutil.copy(pathlib.Path(place) / f"{name}.{kind}.onnx", folder)


def main() -> None:
    """Writes the folder; what is there already is replaced."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    shutil.copytree(PAGES, folder, dirs_exist_ok=True)
    write_runtime(folder / "runtime")
    write_models(folder / "models")
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB. python -m http.server --directory {folder}")


if __name__ == "__main__":
    main()
