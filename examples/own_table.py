"""Regression on your own table: the life expectancy of countries from five years.

The table has a row for each year of a country. Countries have 15 to 40 rows, the income
group is text, and the gross domestic product (gdp) is missing in some rows. A country
is a task: the network sees five years of a country of which it has never heard, and
predicts later years. Regions are split, so that test countries are in other regions.

The table is drawn by this script, so nothing is downloaded. The script ends with five
new rows as CSV, which TensorFlow alone answers from the export, in years.

    python examples/own_table.py    # a minute for each of three seeds
"""

import argparse
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
from own_data_parts import tables

import maml_keras as mk


def countries(count: int = 120, seed: int = 0) -> pd.DataFrame:
    """A row for each year of each country, in years, dollars and names."""
    generator = np.random.default_rng(seed)
    tables = []
    for number in range(count):
        start = generator.integers(1950, 1985)
        year = start + np.arange(generator.integers(15, 41))
        income = generator.choice(["low", "middle", "high"])
        growth = {"low": 0.01, "middle": 0.025, "high": 0.02}[income]
        level = {"low": 6.5, "middle": 8.0, "high": 9.5}[income]
        gdp = np.exp(
            level
            + generator.normal(0, 0.4)
            + growth * (year - 1950)
            + generator.normal(0, 0.05, len(year))
        )
        # Life expectancy climbs from a floor to a ceiling, each country at its time.
        floor, ceiling = generator.normal(40, 4), generator.normal(80, 4)
        middle = 1990 - 12 * (level - 8.0) + generator.normal(0, 12)
        life = floor + (ceiling - floor) / (1 + np.exp((middle - year) / 12))
        table = pd.DataFrame({"year": year, "gdp": gdp.round(), "income": income})
        table["life"] = (life + generator.normal(0, 0.4, len(year))).round(1)
        table.loc[generator.random(len(year)) < 0.1, "gdp"] = np.nan
        table.insert(0, "country", f"country {number:03d}")
        table.insert(1, "region", f"region {number % 12:02d}")
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


# What a server without this library does with the export and new rows.
ANSWER = """
import csv, sys
import tensorflow as tf
saved = tf.saved_model.load(sys.argv[1])
known, new = (list(csv.DictReader(open(path))) for path in sys.argv[2:])
def columns(rows):
    numbers = {n: [float(r[n] or "nan") for r in rows] for n in ("year", "gdp")}
    return {**{n: tf.constant(v) for n, v in numbers.items()},
            "income": tf.constant([r["income"] for r in rows])}
years = tf.constant([[float(row["life"])] for row in known])
for row, life in zip(new, saved.adapt_and_predict(columns(known), years, columns(new))):
    print(row["country"], row["year"], f"{float(life[0]):.1f} years")
"""


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    """Trains, compares, exports and answers; returns the errors of each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/table"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    countries().to_csv(options.out / "countries.csv", index=False)

    # From a file to tasks.
    table = mk.data.from_table(
        options.out / "countries.csv",
        task="country",
        inputs=["year", "gdp"],
        categorical=["income"],
        target="life",
        order="year",
        groups="region",
        missing="mean",
        at_least=15,
    )
    train, _, test = mk.data.split_tasks(
        table, train=8, validation=0, test=4, by="region"
    )
    tasks = mk.data.FewExamples(train, shots=5, queries=10)
    new = mk.data.FewExamples(test, shots=5, queries=10)

    maml, errors = tables.trained(tasks, new, options)
    tables.report(errors, "years, of new countries")

    maml.export(options.out / "export", verbose=0)
    country = countries().query(f"country == {test.names[0]!r}")
    known, asked = country[:5], country[5:10].drop(columns="life")
    known.to_csv(options.out / "known.csv", index=False)
    asked.to_csv(options.out / "new.csv", index=False)
    files = [str(options.out / name) for name in ("export", "known.csv", "new.csv")]
    done = subprocess.run(
        [sys.executable, "-c", ANSWER, *files],
        capture_output=True,
        text=True,
        check=True,
    )
    print(f"\nfive new rows, answered by TensorFlow alone:\n{done.stdout}")
    print("measured:", *country.life[5:10])
    return errors


if __name__ == "__main__":
    main()
