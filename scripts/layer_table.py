"""Proves or refuses every layer that Keras exports, and writes the table.

For each layer in each mode: the largest relative error of a second-order meta-gradient
of two inner steps against central differences, or the sentence that refuses it. In
float64, or in float32 where TensorFlow has no float64 kernel.

    python scripts/layer_table.py            # all: docs/layers.json, docs/exactness.md
    python scripts/layer_table.py Resizing   # prints some
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import keras

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
            }
    except ValueError as error:
        return {**row, "refused": _sentence(error)}
    raise AssertionError(f"{case.layer} {case.mode} was not measured.")


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
    lines = ["| layer | modes | largest error | compared in |", "|---|---|---|---|"]
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
        lines.append(f"| `{layer}` | {modes} | {worst:.0e} | {dtype}{''.join(parts)} |")
    proven = {row["layer"] for row in found if "refused" not in row}
    counted = (
        f"{len(found)} cases of {len({row['layer'] for row in found})} classes: "
        f"{sum('refused' not in row for row in found)} proven, "
        f"{sum('refused' in row for row in found)} refused. "
        f"{len(proven)} classes are proven in at least one mode."
    )
    return "\n".join([counted, "", *lines, "", "Refused:", "", *refused])


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
