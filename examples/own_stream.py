"""A stream in Parquet: the power that a machine takes, from ten hours of it.

The folder holds a file for each week, written in row groups as a stream of readings
arrives: time, machine, operating mode (text), whether the heating is on (boolean),
load, humidity (often missing), and sixteen columns that nobody needs here. A machine
is a task: from ten earlier readings of a machine that it has never seen, the network
predicts later ones. Only the named columns are read, one row group after the other.
The script ends with five new rows, which TensorFlow alone answers from the export, in
kilowatts.

    python examples/own_stream.py    # three minutes
"""

import argparse
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from own_data_parts import alone, tables

import maml_keras as mk

WEEKS, HOURS, MACHINES = 4, 40, 120
MODES = ["idle", "drill", "mill", "polish"]


def readings(week: int, machines: Any) -> pd.DataFrame:
    """The readings of a week: in each hour, one of each machine that was on."""
    generator = np.random.default_rng([1, week])
    hour, number = np.mgrid[:HOURS, : len(machines)].reshape(2, -1)
    on = generator.random(len(hour)) < 0.8
    hour, number = hour[on], number[on]
    rows = pd.DataFrame({"time": pd.Timestamp("2024-01-01")}, index=range(len(hour)))
    rows["time"] += pd.to_timedelta(week * 168 + hour, "h")
    rows["machine"] = [f"machine {m:03d}" for m in number]
    mode = generator.integers(0, len(MODES), len(rows))
    rows["mode"] = np.array(MODES)[mode]
    rows["heating"] = generator.random(len(rows)) < 0.3
    rows["load"] = generator.uniform(0, 100, len(rows)).round(1)
    rows["humidity"] = generator.normal(50, 15, len(rows)).round()
    rows["kilowatts"] = (
        machines[number, mode] * rows["load"] / 100
        + machines[number, 4] * rows["heating"]
        + machines[number, 5] * rows["humidity"] / 50
        + generator.normal(0, 0.3, len(rows))
    ).round(2)
    rows.loc[generator.random(len(rows)) < 0.2, "humidity"] = np.nan
    for extra in range(16):
        rows[f"sensor_{extra}"] = generator.normal(size=len(rows))
    return rows


def write(folder: pathlib.Path) -> None:
    """Writes a Parquet file for each week, in row groups of 500 rows."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    # Power in each mode, of the heating, and of the humidity.
    usual = np.array([2.0, 8.0, 12.0, 5.0, 3.0, 1.0])
    machines = usual * np.exp(generator.normal(0, 0.5, [MACHINES, 6]))
    for week in range(WEEKS):
        table = pa.Table.from_pandas(readings(week, machines), preserve_index=False)
        pq.write_table(table, folder / f"week_{week}.parquet", row_group_size=500)


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    """Trains, compares, exports and answers; returns the errors of each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--meta-steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/stream"))
    options = parser.parse_args(arguments)
    stream = options.out / "readings"
    write(stream)

    # From a stream to tasks.
    inputs = ["mode", "heating", "load", "humidity"]
    how = {"task": "machine", "inputs": inputs, "target": "kilowatts"}
    table = mk.data.from_table(stream, **how, order="time", missing="mean", at_least=30)
    train, _, test = mk.data.split_tasks(table, train=0.7, validation=0, test=0.3)
    tasks = mk.data.FewExamples(train, shots=10, queries=10)
    new = mk.data.FewExamples(test, shots=10, queries=10)

    print(table)
    maml, errors = tables.trained(tasks, new, options)
    tables.report(errors, "kilowatts, of new machines")

    maml.export(options.out / "export", verbose=0)
    first = pd.read_parquet(stream / "week_0.parquet").query(
        f"machine == {test.names[0]!r}"
    )
    known, asked = first[:10], first[10:15]
    answers = alone.rows(
        options.out / "export",
        maml.preparation.raw(known),
        maml.preparation.raw(asked.drop(columns="kilowatts"))[0],
    )
    print("\nfive new rows, answered by TensorFlow alone, and measured:")
    for power, measured in zip(answers, asked.kilowatts):
        print(f"{power:6.1f} kW {measured:6.1f} kW")
    return errors


if __name__ == "__main__":
    main()
