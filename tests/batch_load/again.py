"""After a kill all tasks are there, and a token still stands for its task."""

from loads import *  # noqa: F403

tasks = ts.list_batch_load_tasks()["BatchLoadTasks"]
same(len(tasks), 10)
assert all(task["TaskStatus"] in ("CREATED", "IN_PROGRESS") for task in tasks), tasks
repeated = ts.create_batch_load_task(**asked("a/", table="first", ClientToken="token-3"))["TaskId"]
assert repeated in [task["TaskId"] for task in tasks]
same(len(ts.list_batch_load_tasks()["BatchLoadTasks"]), 10)
refused("ConflictException", 409, ts.create_batch_load_task, **asked("b/", table="first", ClientToken="token-3"))
print("the same tasks after a kill")
