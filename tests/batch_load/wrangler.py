"""awswrangler puts a data frame into S3 and loads it."""

import datetime
import io
import logging

import awswrangler
import boto3
import pandas

from loads import *  # noqa: F403

ts.create_database(DatabaseName="loads")
ts.create_table(DatabaseName="loads", TableName="frames")
store.put("reports", "r/keep.txt", b"")
store.put("source", "keep.txt", b"")
awswrangler.config.timestream_write_endpoint_url = URL
awswrangler.config.s3_endpoint_url = PLACE
session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
now = datetime.datetime.now().replace(microsecond=0)
frame = pandas.DataFrame({
    "time": [int((now - datetime.timedelta(seconds=at)).timestamp() * 1000) for at in range(100)],
    "dim0": [f"d{at % 3}" for at in range(100)], "measure": [f"m{at % 2}" for at in range(100)],
    "v": [float(at) for at in range(100)], "ok": [at % 2 == 0 for at in range(100)]})
names = dict(database="loads", table="frames", time_col="time", dimensions_cols=["dim0"], measure_cols=["v", "ok"],
             measure_name_col="measure", report_s3_configuration={
                 "BucketName": "reports", "ObjectKeyPrefix": "r"}, time_unit="MILLISECONDS", boto3_session=session)


def loaded(frame, **more):
    return awswrangler.timestream.batch_load(
        df=frame, path=f"s3://source/wrangler{len(ts.list_batch_load_tasks()['BatchLoadTasks'])}/", **names, **more)


found = loaded(frame)["BatchLoadTaskDescription"]
same((found["TaskStatus"], counts(found)), ("SUCCEEDED", (100, 100, 0, 0, 0)))
frame["v"] += 1
same(loaded(frame, record_version=2)["BatchLoadTaskDescription"]["TaskStatus"], "SUCCEEDED")
frame["v"] += 1
printed = io.StringIO()
log = logging.getLogger("awswrangler.timestream._write")
log.setLevel(logging.DEBUG)
log.addHandler(logging.StreamHandler(printed))
try:
    loaded(frame, record_version=2)
except awswrangler.exceptions.TimestreamLoadError as error:
    # It looks for the message beside the description, where no server can put it: the API has no such
    # member, so botocore drops it. What it prints on the way has the message.
    same(str(error), "None")
    contains(printed.getvalue(), "'ErrorMessage': '100 of 100 records were not ingested")
    (failed,) = ts.list_batch_load_tasks(TaskStatus="FAILED")["BatchLoadTasks"]
    contains(described(failed["TaskId"])["ErrorMessage"], "100 of 100 records were not ingested")
else:
    raise AssertionError("a load of other values at the same version is well")
print("awswrangler loads 100 rows three times")
