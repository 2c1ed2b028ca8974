"""Executes the example notebooks and writes them as pages: `make notebooks`.

python scripts/notebooks.py            # both
python scripts/notebooks.py --pages    # the pages alone, from committed outputs
"""

import argparse
import pathlib
import re
import tempfile

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples/notebooks").glob("*.ipynb"))
PAGES = ROOT / "docs/notebooks"
QUIET = "--IPKernelApp.log_level=40"
# The metadata says nothing about the machine: Python's version would change often.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(path: pathlib.Path, *, seconds: int = 600) -> nbformat.NotebookNode:
    """The notebook with the outputs of this machine.

    Args:
        path: a notebook; the file does not change.
        seconds: int, the longest time for one cell.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    # Files that the notebook writes do not belong into the repository.
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=seconds,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": folder}},
            # TensorFlow's log goes to the terminal instead of the notebook.
            extra_arguments=["--IPKernelApp.capture_fd_output=False", QUIET],
        ).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def page(path: pathlib.Path) -> dict[str, bytes]:
    """The files of a notebook's page by name: Markdown, and its pictures."""
    text, resources = MarkdownExporter().from_filename(
        path, resources={"unique_key": path.stem}
    )
    # Links start in the folder of the pages, and lead to pages instead of notebooks.
    text = text.replace("](../../docs/", "](../")
    text = re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", text)
    text = text.replace("![png](", "![Picture drawn by the cell above](")
    source = path.relative_to(ROOT).as_posix()
    title, _, rest = text.strip().partition("\n")
    text = f"{title}\n\nThe notebook `{source}`, as it was executed.\n{rest}\n"
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return {f"{path.stem}.md": text.encode(), **resources["outputs"]}


def main(arguments: list[str] | None = None) -> None:
    """Executes every notebook in place, then writes every page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", action="store_true", help="do not execute")
    options = parser.parse_args(arguments)
    for path in NOTEBOOKS:
        if not options.pages:
            nbformat.write(executed(path), path)
        PAGES.mkdir(exist_ok=True)
        for old in [*PAGES.glob(f"{path.stem}.md"), *PAGES.glob(f"{path.stem}_*")]:
            old.unlink()
        for name, content in page(path).items():
            (PAGES / name).write_bytes(content)


if __name__ == "__main__":
    main()
