"""A task whose source is away stops, says until when it can be resumed, and is resumed."""

from loads import *  # noqa: F403

found = load("a/")
same(found["TaskStatus"], "PROGRESS_STOPPED")
contains(found["ErrorMessage"], "can be resumed", "source")
assert found["ResumableUntil"].timestamp() > time.time() + 86_400, found
ts.resume_batch_load_task(TaskId=found["TaskId"])
again = described(found["TaskId"])
assert again["TaskStatus"] in ("PENDING_RESUME", "IN_PROGRESS", "PROGRESS_STOPPED"), again
same(ended(found["TaskId"])["TaskStatus"], "PROGRESS_STOPPED")
print("stopped, resumed, and stopped again")
