"""A task is well while its source is there; the table for `stopped.py` is made."""

from loads import *  # noqa: F403

ts.create_database(DatabaseName="loads")
ts.create_table(DatabaseName="loads", TableName="rows")
store.put("reports", "r/keep.txt", b"")
store.put("source", "a/one.csv", HEADER + rows(10))
same(load("a/")["TaskStatus"], "SUCCEEDED")
print("the source is there")
