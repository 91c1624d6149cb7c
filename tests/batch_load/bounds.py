"""Five tasks of a table and ten of all may be active; more are throttled."""

from loads import *  # noqa: F403

ts.create_database(DatabaseName="loads")
tables = ["first", "second", "third"]
for table in tables:
    ts.create_table(DatabaseName="loads", TableName=table)
made = [ts.create_batch_load_task(**asked("a/", table="first", ClientToken=f"token-{at}"))["TaskId"] for at in range(5)]
refused("ThrottlingException", 429, ts.create_batch_load_task, **asked("a/", table="first"))
made += [ts.create_batch_load_task(**asked("a/", table="second"))["TaskId"] for _ in range(5)]
same(len(set(made)), 10)
refused("ThrottlingException", 429, ts.create_batch_load_task, **asked("a/", table="third"))
same(ts.create_batch_load_task(**asked("a/", table="first", ClientToken="token-3"))["TaskId"], made[3])
print("ten tasks, and no more")
