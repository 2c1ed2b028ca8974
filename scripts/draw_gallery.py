"""Draws the pictures of docs/examples.md that no example draws itself.

    python scripts/draw_gallery.py                # all of them, ten minutes
    python scripts/draw_gallery.py own_arrays     # one

Needs matplotlib. `own_tfds` draws Omniglot, which lies where TFDS_DATA_DIR says.
"""

import argparse
import importlib.util
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import keras

import maml_keras as mk
from maml_keras.evaluation import plot_curves, plot_task

ROOT = pathlib.Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures" / "examples"


def example(name: str) -> Any:
    """An example as a module."""
    path = ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def curves(name: str, path: pathlib.Path) -> None:
    """The error or accuracy over adaptation steps, of all that an example returns."""
    results = example(name).main([])
    loss = not next(iter(results.values())).higher_is_better
    plot_curves(results, path, log=loss)


def task_of(pool: Any, path: pathlib.Path, **sizes: int) -> None:
    """A new task of images: each row is a class, support images on the left."""
    tasks = mk.data.NWayKShot(pool, **sizes)
    task, query_y = next(iter(mk.data.episodes(tasks, batch_size=1, seed=0)))
    one = {name: values[0] for name, values in task.items()}
    plot_task(one, query_y[0], path)


def own_arrays(path: pathlib.Path) -> None:
    """Stripes."""
    x, y = example("own_arrays").stripes(classes=60, images=20, seed=0)
    task_of(mk.data.from_arrays(x, y), path, ways=5, shots=1, queries=7)


def own_folder(path: pathlib.Path) -> None:
    """Two shapes in any colours."""
    with tempfile.TemporaryDirectory() as folder:
        example("own_folder").make(pathlib.Path(folder))
        pool = mk.data.from_folder(folder, size=(28, 28))
    task_of(pool, path, ways=3, shots=2, queries=6)


def own_tfds(path: pathlib.Path) -> None:
    """Handwritten characters."""
    pool = mk.data.from_tfds("omniglot", split="small1", size=(28, 28))
    task_of(pool, path, ways=5, shots=1, queries=7)


def exactness(path: pathlib.Path) -> None:
    """The error of the meta-gradient by layer, without and with this library."""
    errors = example("exactness").main()
    both = {
        "as Keras ships it": {name: pair[0] for name, pair in errors.items()},
        "here": {name: pair[1] for name, pair in errors.items()},
    }
    bars(both, "relative error of the meta-gradient", path, log=True)


def export_and_fine_tune(path: pathlib.Path) -> None:
    """The error on one new sinusoid, measured by the process without the library."""
    with tempfile.TemporaryDirectory() as folder:
        found = example("export_and_fine_tune").main(["--out", f"{folder}/export"])
    bars({"error": found}, "mean squared error, one new sinusoid", path)


def bars(
    groups: Mapping[str, Mapping[str, float]],
    label: str,
    path: pathlib.Path,
    *,
    log: bool = False,
) -> None:
    """Horizontal bars, side by side for each group."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(next(iter(groups.values())))
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    height = 0.8 / len(groups)
    for i, (group, values) in enumerate(groups.items()):
        places = [k + i * height for k in range(len(names))]
        axes.barh(places, [values[n] for n in names], height=height, label=group)
    middle = height * (len(groups) - 1) / 2
    axes.set_yticks([k + middle for k in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    if log:
        axes.set_xscale("log")
    if len(groups) > 1:
        axes.legend()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


DRAWN: dict[str, Callable[[pathlib.Path], None]] = {
    "own_arrays": own_arrays,
    "own_folder": own_folder,
    "own_tfds": own_tfds,
    "exactness": exactness,
    "export_and_fine_tune": export_and_fine_tune,
    **{
        name: lambda path, name=name: curves(name, path)  # type: ignore[misc]
        for name in (
            "compare_algorithms",
            "functional_model",
            "subclassed_model",
            "recurrent_model",
            "text_model",
            "pretrained_adapters",
        )
    },
}


def main() -> None:
    """Draws what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="EXAMPLE", help=", ".join(DRAWN))
    for name in parser.parse_args().names or DRAWN:
        keras.utils.set_random_seed(0)
        PICTURES.mkdir(parents=True, exist_ok=True)
        DRAWN[name](PICTURES / f"{name}.png")


if __name__ == "__main__":
    main()
