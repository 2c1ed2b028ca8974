"""Proves or refuses every layer that Keras exports, and writes the table.

For each layer in each mode: the largest relative error of a second-order meta-gradient
of two inner steps against central differences, or the sentence that refuses it. In
float64, or in float32 where TensorFlow has no float64 kernel. Beside it: how far the
meta-gradient of two tasks that run as one is from that of a loop over the tasks.

    python scripts/layer_table.py            # all: docs/layers.json, docs/exactness.md
    python scripts/layer_table.py Resizing   # prints some
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

import maml_keras as mk

sys.path.insert(0, str(Path(__file__).parent))
from layer_cases import NO_LAYER, Case, batch, cases

DOCS = Path(__file__).parents[1] / "docs"
DATA = DOCS / "layers.json"
PAGE = DOCS / "exactness.md"
BEGIN, END = "<!-- layers: begin -->", "<!-- layers: end -->"
Row = dict[str, Any]


def measured(case: Case) -> Row:
    """The row of a case.

    Raises:
        Exception: if a meta-gradient is wrong, or falls over without a sentence.
    """
    row: Row = {"layer": case.layer, "mode": case.mode}
    keras.utils.set_random_seed(0)
    try:
        model = case.build()
        inner = mk.InnerLoop("mse", mk.SGD(0.1), steps=2)
        maml = mk.MAML(model, inner, task_map="sequential")
        task = batch(model, case.inputs)
        for dtype in ("float64", "float32"):
            try:
                checks = mk.check_meta_gradient(maml, task, dtype=dtype, verbose=0)
            except mk.MetaGradientError as error:
                narrow = "dtype='float32'" in str(error)
                if dtype == "float64" and narrow:
                    continue
                if "is wrong by more" in str(error):
                    raise
                return {**row, "refused": _sentence(error)}
            decided = [check.error for check in checks if check.decided]
            return {
                **row,
                "dtype": dtype,
                "error": float(f"{max(decided):.1e}"),
                "decided": len(decided),
                "variables": len(checks),
                "task_axis": with_a_task_axis(case, dtype),
            }
    except ValueError as error:
        return {**row, "refused": _sentence(error)}
    raise AssertionError(f"{case.layer} {case.mode} was not measured.")


def with_a_task_axis(case: Case, dtype: str) -> float | None:
    """The largest relative difference of two tasks run as one from a loop over them.

    Returns:
        A float, the largest over all variables, relative to the largest entry of a
        variable or a thousandth of the largest of all. None if the layer has no form
        with a task axis, so that `auto` runs it in a loop.
    """
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        found = []
        for task_map in ("sequential", "vectorized"):
            keras.utils.set_random_seed(0)
            model = case.build()
            inner = mk.InnerLoop("mse", mk.SGD(0.1), steps=2)
            maml = mk.MAML(model, inner, task_map=task_map, seed=0)
            tasks = batch(model, case.inputs, tasks=2)
            found.append(maml.compute_meta_gradients(tasks)[1])
    except ValueError as error:
        if "which has none" not in str(error):
            raise
        return None
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    loop, as_one = (list(map(np.asarray, gradients)) for gradients in found)
    # A derivative that is zero but for rounding, as of the bias of keys, has no scale.
    least = 1e-3 * max(np.max(np.abs(one)) for one in loop)
    differences = [
        np.max(np.abs(one - other)) / max(np.max(np.abs(one)), least)
        for one, other in zip(loop, as_one)
    ]
    return float(f"{max(differences):.0e}")


def _sentence(error: Exception) -> str:
    """The message on one line, without names that Keras numbers."""
    text = re.sub(r"\s+", " ", str(error))
    return re.sub(r"'(\w+?)_\d+'", r"'\1'", text)


def rows(names: set[str]) -> list[Row]:
    """The rows of the layers of these names, or of all."""
    found = []
    for case in cases():
        if not names or case.layer in names:
            try:
                found.append(measured(case))
            except Exception as error:
                error.add_note(f"in the case {case.layer} {case.mode}")
                raise
            print(found[-1], flush=True)
            keras.utils.clear_session()
    found += [
        {"layer": name, "mode": "", "refused": reason}
        for name, reason in NO_LAYER.items()
        if not names or name in names
    ]
    return found


def table(found: list[Row]) -> str:
    """The rows as Markdown, the modes of a layer that are proven in one line."""
    lines = [
        "| layer | modes | largest error | compared in | tasks as one |",
        "|---|---|---|---|---|",
    ]
    refused = ["| layer | mode | why |", "|---|---|---|"]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        if "refused" in row:
            why = row["refused"].replace("|", r"\|")
            refused.append(f"| `{row['layer']}` | {row['mode']} | {why} |")
        else:
            groups.setdefault((row["layer"], row["dtype"]), []).append(row)
    for (layer, dtype), group in sorted(groups.items()):
        modes = ", ".join(row["mode"] for row in group if row["mode"])
        worst = max(row["error"] for row in group)
        parts = [
            f"; {row['mode']}: {row['decided']} of {row['variables']} variables"
            for row in group
            if row["decided"] < row["variables"]
        ]
        lines.append(
            f"| `{layer}` | {modes} | {worst:.0e} | {dtype}{''.join(parts)} | "
            f"{_as_one(group)} |"
        )
    proven = {row["layer"] for row in found if "refused" not in row}
    counted = (
        f"{len(found)} cases of {len({row['layer'] for row in found})} classes: "
        f"{sum('refused' not in row for row in found)} proven, "
        f"{sum('refused' in row for row in found)} refused. "
        f"{len(proven)} classes are proven in at least one mode."
    )
    return "\n".join([counted, "", *lines, "", "Refused:", "", *refused])


def _as_one(group: list[Row]) -> str:
    """The cell on the form with a task axis."""
    loops = [row["mode"] or "all" for row in group if row["task_axis"] is None]
    gaps = [row["task_axis"] for row in group if row["task_axis"] is not None]
    if not gaps:
        return "in a loop"
    return f"{max(gaps):.0e}" + (f"; in a loop: {', '.join(loops)}" if loops else "")


def main() -> None:
    """Measures, and writes if all were measured."""
    names = set(sys.argv[1:])
    found = rows(names)
    if names:
        return
    DATA.write_text(json.dumps(found, indent=1) + "\n")
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}")


if __name__ == "__main__":
    main()
