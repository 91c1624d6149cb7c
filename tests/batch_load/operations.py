"""All four operations by boto3, and a table of sources that are not well."""

import gzip
import uuid

import boto3
from botocore.config import Config

from loads import *  # noqa: F403

ts.create_database(DatabaseName="loads")
ts.create_table(DatabaseName="loads", TableName="rows")
store.put("reports", "r/keep.txt", b"")


def metered(found):
    return found["ProgressReport"]["BytesMetered"]


def well():
    store.put("source", "a/one.csv", HEADER + rows(300))
    store.put("source", "a/two.csv.gz", gzip.compress((HEADER + rows(200, first=300)).encode()))
    store.put("source", "ab/other.csv", HEADER + rows(1))
    found = load("a/")
    same((found["TaskStatus"], counts(found)), ("SUCCEEDED", (500, 500, 0, 0, 0)))
    same((found["RecordVersion"], found["TargetTableName"]), (1, "rows"))
    same(found["DataModelConfiguration"]["DataModel"], MODEL)
    # Time 8, host=hN 6, cpu 3, the names v and n 2, a DOUBLE and a BIGINT 16.
    assert "ErrorMessage" not in found and metered(found) == 500 * 35, found
    # The same version and values change nothing, other values are refused, a higher version updates.
    same(counts(load("a/")), (500, 500, 0, 0, 0))
    store.put("source", "b/one.csv", HEADER + rows(300, 2.5))
    found = load("b/")
    same((found["TaskStatus"], counts(found), metered(found)), ("FAILED", (300, 0, 0, 300, 0), 0))
    contains(found["ErrorMessage"], "300 of 300 records were not ingested", "reports/r/" + found["TaskId"])
    (file,) = report(found)["fileErrors"]
    same((file["fileName"], file["errors"][0]["lineRanges"]), ("b/one.csv", [[2, 301]]))
    contains(file["errors"][0]["reason"], "A higher record version must be specified")
    same(load("b/", RecordVersion=2)["TaskStatus"], "SUCCEEDED")
    same(counts(load("b/", RecordVersion=1)), (300, 0, 0, 300, 0))


def forms():
    text = "time|host|v|n\n" + f"{NOW}|'x|y'|NULL| 7 \n"
    store.put("source", "form.csv", text)
    store.put("source", "model.json", json.dumps(MODEL))
    model = {"DataModelS3Configuration": {"BucketName": "source", "ObjectKey": "model.json"}}
    csv = {"ColumnSeparator": "|", "QuoteChar": "'", "NullValue": "NULL", "TrimWhiteSpace": True}
    found = load("form.csv", csv=csv, model=model)
    same((found["TaskStatus"], counts(found)), ("SUCCEEDED", (1, 1, 0, 0, 0)))
    same(found["DataSourceConfiguration"]["CsvConfiguration"], csv)
    same(found["DataModelConfiguration"], model)
    mixed = {"TimeColumn": "time", "MeasureNameColumn": "what", "DimensionMappings": [{"SourceColumn": "host"}],
             "MixedMeasureMappings": [{"MeasureName": "temp", "SourceColumn": "v", "MeasureValueType": "DOUBLE"},
                                      {"MeasureName": "state", "SourceColumn": "s", "MeasureValueType": "VARCHAR"}]}
    store.put("source", "mixed.csv", f"time,host,what,v,s\n{NOW},a,temp,1.5,\n{NOW},a,state,,on\n{NOW},a,none,1,x\n")
    found = load("mixed.csv", model={"DataModel": mixed})
    same((found["TaskStatus"], counts(found), metered(found)), ("FAILED", (3, 2, 1, 0, 0), 25 + 20))
    # One of a row's two records is refused, and the other metered; columns that nothing maps are not.
    both = {"TimeColumn": "time", "DimensionMappings": [{"SourceColumn": "host"}], "MixedMeasureMappings": [
        {"SourceColumn": "v", "MeasureValueType": "DOUBLE"}, {"SourceColumn": "s", "MeasureValueType": "VARCHAR"}]}
    store.put("source", "both.csv", f"time,host,v,s,more\n{NOW},both,1.5,{'x' * 2049},unmapped\n")
    found = load("both.csv", model={"DataModel": both})
    same((counts(found), metered(found)), ((2, 1, 0, 1, 0), 8 + 8 + 1 + 8))
    # A quoted field behind blanks is quoted, where blanks are trimmed.
    store.put("source", "trim.csv", f'time, "host" ,v,n\n{NOW}, "trim,med" , 1.5 ,1\n')
    same(counts(load("trim.csv", csv={"TrimWhiteSpace": True})), (1, 1, 0, 0, 0))
    same(counts(load("trim.csv")), (0, 0, 0, 0, 1))


def models():
    """Models in objects are read strictly, and a name is a dimension or an attribute."""
    def told(text):
        store.put("source", "model.json", text)
        found = load("models.csv", model={"DataModelS3Configuration": {"BucketName": "source", "ObjectKey": "model.json"}})
        return found["TaskStatus"], found.get("ErrorMessage", "")

    store.put("source", "models.csv", HEADER + f"{NOW},models,1,1\n")
    same(told(b"\xef\xbb\xbf" + json.dumps(MODEL).encode()), ("SUCCEEDED", ""))
    status, message = told(json.dumps({**MODEL, "TimeColum": "time"}))
    same(status, "FAILED")
    contains(message, "source/model.json", "unknown key 'TimeColum'", "TimeColumn")
    attributes = [{"SourceColumn": "v", "TargetMultiMeasureAttributeName": "host", "MeasureValueType": "DOUBLE"}]
    twofold = {**MODEL, "MultiMeasureMappings": {"TargetMultiMeasureName": "cpu", "MultiMeasureAttributeMappings": attributes}}
    status, message = told(json.dumps(twofold))
    same(status, "FAILED")
    contains(message, "'host' at 'dataModel.multiMeasureMappings", "is a dimension too")
    contains(invalid(ts.create_batch_load_task, **asked("a/", model={"DataModel": twofold})), "is a dimension too")
    record = {"Dimensions": [{"Name": "host", "Value": "h"}], "MeasureName": "cpu", "MeasureValueType": "MULTI",
              "MeasureValues": [{"Name": "host", "Value": "1", "Type": "BIGINT"}], "Time": str(NOW)}
    ts.create_table(DatabaseName="loads", TableName="twofold")
    answer = refused("RejectedRecordsException", 419, ts.write_records, DatabaseName="loads", TableName="twofold", Records=[record])
    contains(str(answer["RejectedRecords"]), "a dimension and an attribute")


def keys():
    """A key that no request can name costs its own file, within the prefix, and nothing outside of it."""
    if not isinstance(store, S3):
        return
    for key in ("keys/1.csv", "keys/3.csv"):
        store.put("source", key, HEADER + rows(1))
    for key in ("keys/", "keys/sub/", "keys/sub/deeper/", "zz//marker/"):
        store.put("source", key, b"")
    store.put("source", "zz//other", HEADER + rows(1))
    for prefix in ("keys/", "keys", "ke"):
        found = load(prefix, RecordVersion=20)
        same((prefix, found["TaskStatus"], counts(found)), (prefix, "SUCCEEDED", (2, 2, 0, 0, 0)))
    found = load("zz/", RecordVersion=20)
    same((found["TaskStatus"], counts(found)), ("FAILED", (0, 0, 0, 0, 1)))
    contains(found["ErrorMessage"], "zz//other", "no part of a key may be empty")
    # What has bytes is a file, and not that of the key without its end.
    store.put("source", "ends/1.csv", HEADER + rows(1))
    store.put("source", "ends/1.csv/", HEADER + rows(5))
    found = load("ends/", RecordVersion=20)
    same((found["TaskStatus"], counts(found)), ("FAILED", (1, 1, 0, 0, 1)))
    (file,) = report(found)["fileErrors"]
    same(file["fileName"], "ends/1.csv/")


def no_bucket_for_reports():
    place = {"ReportS3Configuration": {"BucketName": "absent", "ObjectKeyPrefix": "r"}}
    found = load("some/1.csv", ReportConfiguration=place)
    contains(found["ErrorMessage"], "the error report could not be written", "absent", "there is no such bucket")


def links():
    """A bucket that is a folder holds what lies in it."""
    if not isinstance(store, Directory):
        return
    store.put("source", "links/good.csv", HEADER + rows(1))
    store.put("elsewhere", "secret.csv", HEADER + rows(1))
    os.symlink("../../elsewhere/secret.csv", os.path.join(PLACE, "source/links/out.csv"))
    found = load("links/", RecordVersion=9)
    same((found["TaskStatus"], counts(found)), ("FAILED", (1, 1, 0, 0, 1)))
    contains(found["ErrorMessage"], "links/out.csv", "a symbolic link leads out of its folder")
    os.symlink("/", os.path.join(PLACE, "source/root"))
    contains(load("root/etc/")["ErrorMessage"], "a symbolic link leads out of its folder")


def bad():
    good = f"{NOW},good,1.5,1\n"
    early = f"{NOW + 3_600_000},h,1,1\n"
    cases = [
        ("bom", b"\xef\xbb\xbf" + (HEADER + good).encode(), (0, 0, 0, 0, 1), [[1, 1]], "byte order mark"),
        ("no-header", good, (0, 0, 0, 0, 1), [[1, 1]], 'column "time" is not in the header'),
        ("no-column", "time,host,v\n1,h,1\n", (0, 0, 0, 0, 1), [[1, 1]], 'column "n" is not in the header'),
        ("separator", "time;host;v;n\n1;h;1;1\n", (0, 0, 0, 0, 1), [[1, 1]], "which has 1 columns"),
        ("empty", "", (0, 0, 0, 0, 1), [[1, 1]], "the file is empty"),
        ("number", HEADER + good + f"{NOW},h,abc,1\n" + good, (3, 2, 1, 0, 0), [[3, 3]], "no DOUBLE"),
        ("short", HEADER + good + f"{NOW},h\n\n{NOW},h\n", (3, 1, 2, 0, 0), [[3, 3], [5, 5]], "2 fields"),
        ("lines", HEADER + f'{NOW},"a\nb",x,1\n' + good, (2, 1, 1, 0, 0), [[2, 3]], "no DOUBLE"),
        ("quote", HEADER + good + f'{NOW},"h,1,1\n' + good * 3, (2, 1, 1, 0, 0), [[3, 6]], "left open"),
        ("utf8", (HEADER + good).encode() + f"{NOW},".encode() + b"\xff,1,1\n", (2, 1, 1, 0, 0), [[3, 3]], "not UTF-8"),
        ("gzip", b"\x1f\x8b" + b"nonsense" * 4, (0, 0, 0, 0, 1), [[1, 1]], "inflated"),
        ("early", HEADER + early * 2 + good, (3, 1, 0, 2, 0), [[2, 3]], "outside the time range of the data ingestion window"),
    ]
    for name, body, expected, ranges, reason in cases:
        key = f"bad/{name}.csv"
        store.put("source", key, body)
        found = load(key)
        same((name, found["TaskStatus"], counts(found)), (name, "FAILED", expected))
        made = report(found)
        same((made["taskId"], made["taskErrors"]), (found["TaskId"], []))
        (file,) = made["fileErrors"]
        (error,) = file["errors"]
        same((file["fileName"], error["lineRanges"]), (key, ranges))
        contains(error["reason"], reason)
        contains(found["ErrorMessage"], reason)
    # No value of one line stands for all of them.
    store.put("source", "values.csv", HEADER + f"{NOW},h,abc,1\n{NOW},h,def,1\n")
    (error,) = report(load("values.csv"))["fileErrors"][0]["errors"]
    same(error["lineRanges"], [[2, 3]])
    contains(error["reason"], "with different values; the first: ", '"abc"')
    # One bad file costs the task nothing of the others.
    store.put("source", "some/1.csv", "nonsense\n")
    store.put("source", "some/2.csv", HEADER + good)
    same(counts(load("some/")), (1, 1, 0, 0, 1))
    for bucket, prefix, reason in [("source", "absent/", "no object in"), ("nobody", "x", "nobody")]:
        found = load(prefix, bucket=bucket)
        same((found["TaskStatus"], counts(found)), ("FAILED", (0, 0, 0, 0, 0)))
        contains(found["ErrorMessage"], reason)
        assert PLACE not in found["ErrorMessage"] + str(report(found)), found
        assert report(found)["taskErrors"], bucket


def window():
    """Both stores of a table, whether its writers may send late records or not."""
    ts.create_table(DatabaseName="loads", TableName="narrow", RetentionProperties={
        "MemoryStoreRetentionPeriodInHours": 1, "MagneticStoreRetentionPeriodInDays": 5})
    hour = 3_600_000
    times = [NOW, NOW - 12 * hour, NOW - 5 * 24 * hour, NOW - 6 * 24 * hour, NOW - 7 * 24 * hour]
    store.put("source", "window.csv", HEADER + "".join(f"{at},h,1,1\n" for at in times))
    found = load("window.csv", table="narrow")
    same((found["TaskStatus"], counts(found)), ("FAILED", (5, 3, 0, 2, 0)))
    (error,) = report(found)["fileErrors"][0]["errors"]
    same(error["lineRanges"], [[5, 6]])


def refusals():
    right = asked("a/")
    # Without the checks that the client makes itself.
    loose = boto3.client(
        "timestream-write", endpoint_url=URL, region_name=REGION, aws_access_key_id=KEY, aws_secret_access_key=SECRET,
        config=Config(parameter_validation=False, retries={"max_attempts": 0}))
    source = right["DataSourceConfiguration"]
    scalar = {"SourceColumn": "v", "MeasureValueType": "DOUBLE", "MultiMeasureAttributeMappings": [
        {"SourceColumn": "n", "MeasureValueType": "BIGINT"}]}
    many = [{"SourceColumn": f"c{at}", "MeasureValueType": "DOUBLE"} for at in range(257)]

    def model(**change):
        there = {name: value for name, value in {**MODEL, **change}.items() if value is not None}
        return {"DataModelConfiguration": {"DataModel": there}}

    for change, message in [
        ({"DataSourceConfiguration": {**source, "CsvConfiguration": {"EscapeChar": ","}}}, "csvConfiguration.escapeChar"),
        ({"DataSourceConfiguration": {**source, "CsvConfiguration": {"EscapeChar": "\n"}}}, "must not end a line"),
        (model(DimensionMappings=[{"SourceColumn": f"c{at}"} for at in range(129)]),
         "'[129 mappings]' at 'dataModelConfiguration.dataModel.dimensionMappings'"),
        (model(MultiMeasureMappings={"TargetMultiMeasureName": "m", "MultiMeasureAttributeMappings": many}),
         "'[257 mappings]' at 'dataModelConfiguration.dataModel.multiMeasureMappings.multiMeasureAttributeMappings'"),
        (model(MultiMeasureMappings=None, MixedMeasureMappings=[scalar]),
         "'dataModelConfiguration.dataModel.mixedMeasureMappings.1.member.multiMeasureAttributeMappings'"),
        ({"TargetDatabaseName": None}, "Value null at 'targetDatabaseName'"),
        ({"DataModelConfiguration": {}}, "dataModelConfiguration.dataModel"),
        ({"RecordVersion": 0}, "recordVersion"),
        ({"DataSourceConfiguration": {"DataFormat": "CSV", "DataSourceS3Configuration": {"BucketName": "../x"}}}, "bucketName"),
        ({"ClientToken": ""}, "clientToken"),
        ({"DataModelConfiguration": {"DataModel": {**MODEL, "DimensionMappings": [{"SourceColumn": "time"}]}}},
         "'time' at 'dataModelConfiguration.dataModel.dimensionMappings.1.member.destinationColumn'"),
        ({"DataModelConfiguration": {"DataModel": {**MODEL, "DimensionMappings": [{"SourceColumn": "ts_x"}]}}},
         'begins with "ts_", which is reserved'),
    ]:
        wrong = {name: value for name, value in {**right, **change}.items() if value is not None}
        contains(invalid(loose.create_batch_load_task, **wrong), message)
    refused("ResourceNotFoundException", 404, ts.create_batch_load_task, **asked("a/", table="none"))
    refused("ResourceNotFoundException", 404, ts.describe_batch_load_task, TaskId="ABC")
    refused("ResourceNotFoundException", 404, ts.resume_batch_load_task, TaskId="ABC")
    done = ts.list_batch_load_tasks(TaskStatus="SUCCEEDED")["BatchLoadTasks"][0]
    contains(invalid(ts.resume_batch_load_task, TaskId=done["TaskId"]), "cannot be resumed: it is SUCCEEDED")
    token = str(uuid.uuid4())
    first = ts.create_batch_load_task(**right, ClientToken=token)["TaskId"]
    same(ts.create_batch_load_task(**right, ClientToken=token)["TaskId"], first)
    refused("ConflictException", 409, ts.create_batch_load_task, **asked("b/", ClientToken=token))
    ended(first)


def lists():
    everything = ts.list_batch_load_tasks()["BatchLoadTasks"]
    found, token = [], {}
    while True:
        part = ts.list_batch_load_tasks(MaxResults=3, **token)
        found += part["BatchLoadTasks"]
        if "NextToken" not in part:
            break
        token = {"NextToken": part["NextToken"]}
    same([task["TaskId"] for task in found], [task["TaskId"] for task in everything])
    same({task["DatabaseName"] for task in found}, {"loads"})
    failed = ts.list_batch_load_tasks(TaskStatus="FAILED")["BatchLoadTasks"]
    same(len(failed), sum(task["TaskStatus"] == "FAILED" for task in everything))


for part in (well, forms, models, keys, links, bad, no_bucket_for_reports, window, refusals, lists):
    part()
print("four operations,", len(ts.list_batch_load_tasks()["BatchLoadTasks"]), "tasks in", type(store).__name__)
