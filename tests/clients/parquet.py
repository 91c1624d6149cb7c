"""Reads the Parquet files of a table with readers that are not ours, and prints what is in them.

parquet.py FILE..: {"pyarrow": {..}, "duckdb": {..}}, each with the number of rows, the extreme times,
and one figure a column that any changed value changes.
"""

import json
import struct
import sys

import duckdb
import pyarrow.parquet

MODULUS = 2**64


def figure(values):
    """The sum of the values as numbers: bits of floats, lengths and bytes of texts."""
    total = 0
    for value in values:
        if isinstance(value, bool):
            total += value
        elif isinstance(value, int):
            total += value
        elif isinstance(value, float):
            total += struct.unpack("<q", struct.pack("<d", value))[0]
        elif isinstance(value, str):
            data = value.encode("utf-8")
            total += len(data) * 1_000_003 + sum(data)
    return total % MODULUS


def report(columns):
    """Figures of columns by name; `time` in nanoseconds."""
    times = columns.pop("time")
    return {
        "rows": len(times),
        "time_min": min(times),
        "time_max": max(times),
        "time": figure(times),
        "columns": {name: figure(values) for name, values in sorted(columns.items())},
    }


def with_pyarrow(files):
    columns = {}
    for file in files:
        # One file at a time: the folder's name would become a column of its own.
        table = pyarrow.parquet.ParquetFile(file).read()
        for name in table.column_names:
            column = table.column(name)
            if name == "time":
                assert str(column.type) == "timestamp[ns, tz=UTC]", column.type
                column = column.cast("int64")
            columns.setdefault(name, []).extend(column.to_pylist())
    return report(columns)


def with_duckdb(files):
    connection = duckdb.connect()
    read = "read_parquet(?, union_by_name = true, hive_partitioning = false)"
    names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {read}", [files]).fetchall()]
    kinds = connection.execute(f"SELECT DISTINCT typeof(time) FROM {read}", [files]).fetchall()
    # A reader that took it for microseconds would round in silence.
    assert kinds == [("TIMESTAMPTZ_NS",)], kinds
    columns = {}
    for name in names:
        what = "epoch_ns(time)" if name == "time" else '"' + name.replace('"', '""') + '"'
        rows = connection.execute(f"SELECT {what} FROM {read}", [files]).fetchall()
        columns[name] = [row[0] for row in rows]
    return report(columns)


def main():
    files = sys.argv[1:]
    print(json.dumps({"pyarrow": with_pyarrow(files), "duckdb": with_duckdb(files)}))


main()
