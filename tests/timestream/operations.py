"""Every operation once, with what it answers. Run with any boto3, by URL or by AWS_ENDPOINT_URL."""

import datetime
import os
import sys
import time

import aws
from aws import client, contains, invalid, now_ms, refused, same

# Without a URL the client has to discover it.
ts = client(None if sys.argv[1] == "discover" else sys.argv[1])
DB, TABLE = sys.argv[2], "cpu.load-1"
ARN = f"arn:aws:timestream:{aws.REGION}:000000000000:database/{DB}"


def without_metadata(answer):
    metadata = answer.pop("ResponseMetadata")
    same(metadata["HTTPStatusCode"], 200)
    same(metadata["HTTPHeaders"]["content-type"], "application/x-amz-json-1.0")
    assert "date" in metadata["HTTPHeaders"] and len(metadata["RequestId"]) == 26
    return answer


def databases():
    made = without_metadata(ts.create_database(DatabaseName=DB, Tags=[{"Key": "k", "Value": ""}]))
    database = made["Database"]
    same((database["Arn"], database["DatabaseName"], database["TableCount"]), (ARN, DB, 0))
    age = datetime.datetime.now(datetime.timezone.utc) - database["CreationTime"]
    assert abs(age.total_seconds()) < 60, database
    same(database["CreationTime"], database["LastUpdatedTime"])
    message = refused("ConflictException", 409, ts.create_database, DatabaseName=DB)["Message"]
    contains(message, DB)
    same(ts.describe_database(DatabaseName=DB)["Database"], database)
    refused("ResourceNotFoundException", 404, ts.describe_database, DatabaseName="nowhere")
    key = "arn:aws:kms:eu-west-1:1:key/a"
    updated = ts.update_database(DatabaseName=DB, KmsKeyId=key)["Database"]
    same((updated["KmsKeyId"], updated["CreationTime"]), (key, database["CreationTime"]))
    again = ts.update_database(DatabaseName=DB, KmsKeyId=key)["Database"]
    same(again["LastUpdatedTime"], updated["LastUpdatedTime"])
    refused("ResourceNotFoundException", 404, ts.update_database, DatabaseName="no", KmsKeyId="a")


def tables():
    refused("ResourceNotFoundException", 404, ts.create_table, DatabaseName="no", TableName="abc")
    table = without_metadata(ts.create_table(DatabaseName=DB, TableName=TABLE))["Table"]
    same(table["Arn"], f"{ARN}/table/{TABLE}")
    same(table["TableStatus"], "ACTIVE")
    same(table["RetentionProperties"], {
        "MemoryStoreRetentionPeriodInHours": 6, "MagneticStoreRetentionPeriodInDays": 73000})
    same(table["MagneticStoreWriteProperties"], {"EnableMagneticStoreWrites": False})
    same(table["Schema"], {"CompositePartitionKey": [{"Type": "MEASURE"}]})
    same(ts.describe_table(DatabaseName=DB, TableName=TABLE)["Table"], table)
    refused("ConflictException", 409, ts.create_table, DatabaseName=DB, TableName=TABLE)
    retention = {"MemoryStoreRetentionPeriodInHours": 24, "MagneticStoreRetentionPeriodInDays": 7}
    magnetic = {
        "EnableMagneticStoreWrites": True,
        "MagneticStoreRejectedDataLocation": {"S3Configuration": {
            "BucketName": "bucket", "ObjectKeyPrefix": "late", "EncryptionOption": "SSE_S3"}}}
    key = [{"Type": "DIMENSION", "Name": "host", "EnforcementInRecord": "OPTIONAL"}]
    full = ts.create_table(
        DatabaseName=DB, TableName="full", RetentionProperties=retention,
        MagneticStoreWriteProperties=magnetic, Schema={"CompositePartitionKey": key},
        Tags=[{"Key": "team", "Value": "a"}])["Table"]
    same(full["RetentionProperties"], retention)
    same(full["MagneticStoreWriteProperties"], magnetic)
    same(full["Schema"], {"CompositePartitionKey": key})
    same(ts.describe_database(DatabaseName=DB)["Database"]["TableCount"], 2)
    updates(full, retention, magnetic)
    refused("ResourceNotFoundException", 404, ts.describe_table, DatabaseName=DB, TableName="no")
    refused("ResourceNotFoundException", 404, ts.describe_table, DatabaseName="no", TableName=TABLE)


def updates(full, retention, magnetic):
    name = {"DatabaseName": DB, "TableName": "full"}
    same(ts.update_table(**name)["Table"]["RetentionProperties"], retention)
    longer = {"MemoryStoreRetentionPeriodInHours": 48, "MagneticStoreRetentionPeriodInDays": 9}
    table = ts.update_table(**name, RetentionProperties=longer)["Table"]
    same((table["RetentionProperties"], table["MagneticStoreWriteProperties"]), (longer, magnetic))
    same(table["CreationTime"], full["CreationTime"])
    off = {"EnableMagneticStoreWrites": False}
    table = ts.update_table(**name, MagneticStoreWriteProperties=off)["Table"]
    same((table["RetentionProperties"], table["MagneticStoreWriteProperties"]), (longer, off))
    key = [{"Type": "DIMENSION", "Name": "host", "EnforcementInRecord": "REQUIRED"}]
    table = ts.update_table(**name, Schema={"CompositePartitionKey": key})["Table"]
    same((table["Schema"], table["RetentionProperties"]), ({"CompositePartitionKey": key}, longer))
    other = [{"Type": "DIMENSION", "Name": "rack", "EnforcementInRecord": "REQUIRED"}]
    invalid(ts.update_table, **name, Schema={"CompositePartitionKey": other})
    invalid(ts.update_table, **name, Schema={"CompositePartitionKey": [{"Type": "MEASURE"}]})
    contains(
        invalid(ts.update_table, **name, Schema={"CompositePartitionKey": key + key}),
        "You have specified too many partition keys to be used in your composite partition key. "
        "Only 1 partition keys can be specified.")
    refused("ResourceNotFoundException", 404, ts.update_table, DatabaseName=DB, TableName="no")


def tags():
    table = f"{ARN}/table/full"
    shown = lambda arn: {t["Key"]: t["Value"] for t in ts.list_tags_for_resource(ResourceARN=arn)["Tags"]}
    same((shown(ARN), shown(table)), ({"k": ""}, {"team": "a"}))
    ts.tag_resource(ResourceARN=table, Tags=[{"Key": "team", "Value": "b"}, {"Key": "x", "Value": "y"}])
    same(shown(table), {"team": "b", "x": "y"})
    ts.untag_resource(ResourceARN=table, TagKeys=["x", "absent"])
    same(shown(table), {"team": "b"})
    missing = ARN + "/table/none"
    refused("ResourceNotFoundException", 404, ts.list_tags_for_resource, ResourceARN=missing)
    refused("ResourceNotFoundException", 404, ts.tag_resource, ResourceARN=missing, Tags=[])
    invalid(ts.list_tags_for_resource, ResourceARN="arn:aws:s3:::bucket")
    many = [{"Key": f"k{at}", "Value": "v"} for at in range(200)]
    refused("ServiceQuotaExceededException", 402, ts.tag_resource, ResourceARN=table, Tags=many)
    same(shown(table), {"team": "b"})


def lists():
    def pages(call, member, **more):
        parts, token = [], {}
        while True:
            answer = call(**token, **more)
            parts.append(answer[member])
            if "NextToken" not in answer:
                return parts
            token = {"NextToken": answer["NextToken"]}

    for at in range(23):
        ts.create_table(DatabaseName=DB, TableName=f"t{at:02}")
    parts = pages(ts.list_tables, "Tables", DatabaseName=DB)
    same([len(part) for part in parts], [20, 5])
    names = [table["TableName"] for part in parts for table in part]
    same(names, sorted([TABLE, "full"] + [f"t{at:02}" for at in range(23)]))
    same([len(part) for part in pages(ts.list_tables, "Tables", DatabaseName=DB, MaxResults=5)], [5] * 5)
    everywhere = [t["Arn"] for part in pages(ts.list_tables, "Tables", MaxResults=7) for t in part]
    assert len(everywhere) == len(set(everywhere)) >= 25
    found = [d["DatabaseName"] for part in pages(ts.list_databases, "Databases", MaxResults=1) for d in part]
    assert DB in found and found == sorted(found), found
    contains(invalid(ts.list_tables, MaxResults=21), "'maxResults'", "less than or equal to 20")
    invalid(ts.list_databases, NextToken="made up")
    refused("ResourceNotFoundException", 404, ts.list_tables, DatabaseName="nowhere")


def writes():
    record = {
        "Dimensions": [{"Name": "host", "Value": "\u00e9\u2603"}], "MeasureName": "load",
        "MeasureValue": "1.5", "Time": str(now_ms())}
    answer = without_metadata(ts.write_records(DatabaseName=DB, TableName=TABLE, Records=[record]))
    same(answer, {"RecordsIngested": {"Total": 1, "MemoryStore": 1, "MagneticStore": 0}})
    other = dict(record, MeasureValue="2.5")
    response = refused(
        "RejectedRecordsException", 419, ts.write_records, DatabaseName=DB, TableName=TABLE,
        Records=[record, other, dict(other, MeasureName="new")])
    (rejected,) = response["RejectedRecords"]
    same((rejected["RecordIndex"], rejected["ExistingVersion"]), (1, 1))
    contains(response["Message"], "One or more records have been rejected. See RejectedRecords for details.")
    for name in ({"DatabaseName": DB, "TableName": "none"}, {"DatabaseName": "none", "TableName": TABLE}):
        refused("ResourceNotFoundException", 404, ts.write_records, **name, Records=[record])
    assert "none" not in [d["DatabaseName"] for d in ts.list_databases()["Databases"]]


def others():
    (endpoint,) = ts.describe_endpoints()["Endpoints"]
    same(endpoint["CachePeriodInMinutes"], 1440)
    # Over TLS the scheme is left to boto3, which puts https:// before an address without one.
    is_over_tls = "AWS_CA_BUNDLE" in os.environ
    assert endpoint["Address"].startswith("127.0.0.1:" if is_over_tls else "http://127.0.0.1:"), endpoint


def batch_loads():
    mapping = {"SourceColumn": "v", "MeasureValueType": "DOUBLE"}
    model = {"TimeColumn": "time", "DimensionMappings": [{"SourceColumn": "host"}], "MultiMeasureMappings": {
        "TargetMultiMeasureName": "m", "MultiMeasureAttributeMappings": [mapping]}}
    place = {"BucketName": "not-there", "ObjectKeyPrefix": "loads"}
    task = ts.create_batch_load_task(
        TargetDatabaseName=DB, TargetTableName=TABLE, DataModelConfiguration={"DataModel": model},
        DataSourceConfiguration={"DataFormat": "CSV", "DataSourceS3Configuration": place},
        ReportConfiguration={"ReportS3Configuration": place})["TaskId"]
    end = time.time() + 60
    while (found := ts.describe_batch_load_task(TaskId=task)["BatchLoadTaskDescription"])["TaskStatus"] != "FAILED":
        assert time.time() < end, found
        time.sleep(0.05)
    contains(found["ErrorMessage"], "not-there")
    assert task in [one["TaskId"] for one in ts.list_batch_load_tasks()["BatchLoadTasks"]]
    invalid(ts.resume_batch_load_task, TaskId=task)
    refused("ResourceNotFoundException", 404, ts.describe_batch_load_task, TaskId="A" * 32)


def deletes():
    invalid(ts.delete_database, DatabaseName=DB)
    for table in [TABLE, "full"] + [f"t{at:02}" for at in range(23)]:
        without_metadata(ts.delete_table(DatabaseName=DB, TableName=table))
    refused("ResourceNotFoundException", 404, ts.delete_table, DatabaseName=DB, TableName=TABLE)
    without_metadata(ts.delete_database(DatabaseName=DB))
    refused("ResourceNotFoundException", 404, ts.delete_database, DatabaseName=DB)
    refused("ResourceNotFoundException", 404, ts.describe_database, DatabaseName=DB)


for part in (databases, tables, tags, lists, writes, others, batch_loads, deletes):
    part()
print("boto3", aws.boto3.__version__, "ran every operation")
