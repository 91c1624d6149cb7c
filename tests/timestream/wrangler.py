"""awswrangler writes data frames, and its own reading of what was rejected is right."""

import datetime

import awswrangler
import boto3
import pandas

from aws import KEY, REGION, SECRET, URL, client, contains, same

ts = client(URL)
DB = "wrangler"
ts.create_database(DatabaseName=DB)
ts.create_table(DatabaseName=DB, TableName="frames")
awswrangler.config.timestream_write_endpoint_url = URL
session = boto3.Session(aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name=REGION)
NOW = datetime.datetime.now().replace(microsecond=123000)


def write(frame, **more):
    return awswrangler.timestream.write(
        df=frame, database=DB, table="frames", use_threads=False, boto3_session=session, **more)


def frame(values, rows=3):
    return pandas.DataFrame({
        "time": [NOW] * rows, "dim0": ["foo", "boo", "bar"][:rows], "dim1": [1, 2, 3][:rows],
        "measure": values})


def versioned():
    columns = {"time_col": "time", "measure_col": "measure", "dimensions_cols": ["dim0", "dim1"]}
    same(write(frame([1.0, 1.1, 1.2]), version=1, **columns), [])
    same(write(frame([1.0, 1.1, 1.2]), version=1, **columns), [])
    (rejected,) = write(frame([1.0, 1.1, 1.9]), version=1, **columns)
    same((rejected["RecordIndex"], rejected["ExistingVersion"]), (2, 1))
    contains(rejected["Reason"], "A higher record version must be specified")
    same(write(frame([1.0, 1.1, 1.9]), version=2, **columns), [])
    rejected = write(frame([7.0, 7.1, 7.2]), version=1, **columns)
    same([(r["RecordIndex"], r["ExistingVersion"]) for r in rejected], [(0, 2), (1, 2), (2, 2)])
    contains(rejected[0]["Reason"], "The record version 1 is lower than the existing version 2.")


def several_measures():
    made = frame([1.5, 2.5, 3.5])
    made["ok"], made["name"], made["count"], made["when"] = [True, False, True], ["a", "b", None], [1, 2, 3], NOW
    columns = ["measure", "ok", "name", "count", "when"]
    same(write(made, time_col="time", measure_col=columns, dimensions_cols=["dim0"], measure_name="m"), [])
    large = pandas.concat([made.assign(dim0=f"host{at}") for at in range(100)])
    same(write(large, time_col="time", measure_col=columns, dimensions_cols=["dim0", "dim1"], measure_name="m"), [])


def common_attributes():
    shared = {"Dimensions": [{"Name": "device", "Value": "x"}], "MeasureName": "c", "Version": 4,
              "Time": str(int(NOW.timestamp() * 1000)), "TimeUnit": "MILLISECONDS",
              "MeasureValue": "13.1", "MeasureValueType": "DOUBLE"}
    same(write(frame([1.0, 1.1, 1.2]), dimensions_cols=["dim0"], common_attributes=dict(shared)), [])
    shared.update(MeasureValue="99", Version=3)
    rejected = write(frame([1.0, 1.1, 1.2]), dimensions_cols=["dim0"], common_attributes=dict(shared))
    same([r["ExistingVersion"] for r in rejected], [4, 4, 4])
    values = {"Dimensions": [{"Name": "device", "Value": "y"}], "MeasureName": "v", "MeasureValueType": "MULTI",
              "MeasureValues": [{"Name": "a", "Value": "13.1", "Type": "DOUBLE"}]}
    same(write(frame([1.0, 1.1, 1.2]), time_col="time", dimensions_cols=["dim0"], common_attributes=values), [])


for part in (versioned, several_measures, common_attributes):
    part()
print("awswrangler", awswrangler.__version__, "wrote data frames")
