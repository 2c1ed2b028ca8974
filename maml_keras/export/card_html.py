"""A model card as one HTML page that loads nothing from any server."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from maml_keras.export.card_curve import curve_svg
from maml_keras.export.card_text import NOTHING, Facts, headline

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fdfdfc; --ink: #1d1f21; --quiet: #5d646b; --grid: #dcdfe2;
  --line: #1f63b5; --panel: #f2f4f5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171a; --ink: #e6e8ea; --quiet: #9aa2aa; --grid: #343a40;
    --line: #7fb2f0; --panel: #1e2125;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 46rem; padding: 2rem 1.2rem 4rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums;
}
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .6rem; text-wrap: balance; }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .5rem; }
.headline { background: var(--panel); border-left: 4px solid var(--line);
  margin: 0; padding: .7rem 1rem; }
.headline b { font-size: 1.3rem; }
.headline span { display: block; color: var(--quiet); }
dl { display: grid; grid-template-columns: minmax(9rem, 15rem) 1fr; margin: 0; }
dt, dd { border-top: 1px solid var(--grid); margin: 0; padding: .35rem 0; }
dt { color: var(--quiet); padding-right: 1rem; }
dd { overflow-wrap: anywhere; }
.nothing { color: var(--quiet); font-style: italic; }
figure { margin: 2rem 0 0; }
figcaption { color: var(--quiet); font-size: .9rem; }
svg { display: block; width: 100%; max-width: 36rem; height: auto; }
svg text { fill: currentColor; font-size: 13px; }
.grid { stroke: var(--grid); }
.band { fill: var(--line); opacity: .22; }
.curve { fill: none; stroke: var(--line); stroke-width: 2.5; }
.bar { stroke: var(--line); stroke-width: 1.5; }
.point { fill: var(--line); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin-top: 1rem; }
th, td { border-top: 1px solid var(--grid); padding: .3rem 1rem .3rem 0;
  text-align: right; white-space: nowrap; }
th { color: var(--quiet); font-weight: normal; }
@media (max-width: 34rem) {
  body { padding-top: 1.2rem; }
  dl { grid-template-columns: 1fr; }
  dt { padding-bottom: 0; }
  dd { border-top: 0; padding-top: 0; }
  th, td { padding-right: .7rem; font-size: .9rem; }
}
@media print { body { max-width: none; } figure, dl { break-inside: avoid; } }
""".strip()


def page(
    title: str,
    card: Mapping[str, Any],
    facts: Facts,
    curve: Sequence[Sequence[str]],
) -> str:
    """The page of a card.

    Args:
        title: str, the title of the training.
        card: the content of the export's `card.json`.
        facts: headings, each with its pairs of a label and a text.
        curve: rows of the table of steps; empty without an evaluation.

    Returns:
        HTML that contains its style and its picture.
    """
    title = html.escape(title)
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>\n{STYLE}\n</style>",
        "</head>",
        "<body>",
        f"<h1>{title}</h1>",
        _headline(card),
        _curve(card, curve),
    ]
    for heading, entries in facts.items():
        parts += [f"<h2>{html.escape(heading)}</h2>", "<dl>"]
        for label, value in entries:
            mark = ' class="nothing"' if value == NOTHING else ""
            parts.append(
                f"<dt>{html.escape(label)}</dt><dd{mark}>{html.escape(value)}</dd>"
            )
        parts.append("</dl>")
    return "\n".join([*parts, "</body>", "</html>", ""])


def _headline(card: Mapping[str, Any]) -> str:
    figure, _, rest = headline(card).partition(" after ")
    rest = f"after {rest}" if rest else ""
    return (
        f'<p class="headline"><b>{html.escape(figure)}</b> '
        f"<span>{html.escape(rest)}</span></p>"
    )


def _curve(card: Mapping[str, Any], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    evaluation = card["evaluation"]
    metric = evaluation["metric"]
    picture = curve_svg(
        evaluation["steps"],
        evaluation["mean"],
        evaluation["half_width_95"],
        metric=metric,
    )
    heads = ("step", metric, "95% CI", "median", "diverged")
    lines = [
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in (k, m, f"±{h}", d, n))
        for k, m, h, d, n in rows
    ]
    caption = (
        f"Query {metric} over gradient steps on a new task: mean and its 95% interval."
    )
    return "\n".join(
        [
            "<figure>",
            picture,
            f"<figcaption>{html.escape(caption)}</figcaption>",
            "</figure>",
            '<div class="wide"><table>',
            "<tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in heads),
            *lines,
            "</table></div>",
        ]
    )
