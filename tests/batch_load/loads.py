"""What the scripts beside this one share: buckets, tasks, and how they end."""

import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "timestream"))

from aws import KEY, REGION, SECRET, client, contains, invalid, refused, same  # noqa: E402,F401

URL, PLACE = sys.argv[1], sys.argv[2]
ts = client(URL)
ENDED = ("SUCCEEDED", "FAILED", "PROGRESS_STOPPED")


class Directory:
    """Buckets that are folders."""

    def put(self, bucket, key, body):
        path = os.path.join(PLACE, bucket, key)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(body if isinstance(body, bytes) else body.encode())

    def get(self, bucket, key):
        with open(os.path.join(PLACE, bucket, key), "rb") as file:
            return file.read()


class S3:
    """Buckets of a server that speaks S3's protocol."""

    def __init__(self):
        import boto3
        self.s3 = boto3.client("s3", endpoint_url=PLACE, region_name="us-east-1",
                               aws_access_key_id="test", aws_secret_access_key="test")

    def put(self, bucket, key, body):
        self.s3.create_bucket(Bucket=bucket)
        self.s3.put_object(Bucket=bucket, Key=key, Body=body)

    def get(self, bucket, key):
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()


class Azure:
    """Containers of a server that speaks Azure Blob Storage's protocol."""

    # What Microsoft's documentation gives every emulator.
    ACCOUNT = "devstoreaccount1"
    ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def __init__(self):
        from azure.storage.blob import BlobServiceClient
        account = {"account_name": self.ACCOUNT, "account_key": self.ACCOUNT_KEY}
        self.blobs = BlobServiceClient(PLACE.removeprefix("azure+"), credential=account)

    def put(self, bucket, key, body):
        container = self.blobs.get_container_client(bucket)
        if not container.exists():
            container.create_container()
        container.upload_blob(key, body, overwrite=True)

    def get(self, bucket, key):
        return self.blobs.get_blob_client(bucket, key).download_blob().readall()


store = Azure() if PLACE.startswith("azure+") else S3() if PLACE.startswith("http") else Directory()
MODEL = {
    "TimeColumn": "time", "TimeUnit": "MILLISECONDS",
    "DimensionMappings": [{"SourceColumn": "host", "DestinationColumn": "host"}],
    "MultiMeasureMappings": {"TargetMultiMeasureName": "cpu", "MultiMeasureAttributeMappings": [
        {"SourceColumn": "v", "TargetMultiMeasureAttributeName": "v", "MeasureValueType": "DOUBLE"},
        {"SourceColumn": "n", "MeasureValueType": "BIGINT"}]},
}
HEADER = "time,host,v,n\n"
NOW = int(time.time() * 1000)


def rows(count, value=1.5, first=0):
    return "".join(f"{NOW - at},h{at % 7},{value},{at}\n" for at in range(first, first + count))


def asked(prefix, table="rows", bucket="source", database="loads", model=None, csv=None, **more):
    source = {"DataFormat": "CSV", "DataSourceS3Configuration": {"BucketName": bucket, "ObjectKeyPrefix": prefix}}
    if csv:
        source["CsvConfiguration"] = csv
    return {
        "TargetDatabaseName": database, "TargetTableName": table, "DataSourceConfiguration": source,
        "DataModelConfiguration": model or {"DataModel": MODEL},
        "ReportConfiguration": {"ReportS3Configuration": {"BucketName": "reports", "ObjectKeyPrefix": "r"}}, **more}


def described(task):
    return ts.describe_batch_load_task(TaskId=task)["BatchLoadTaskDescription"]


def ended(task, seconds=120):
    end = time.time() + seconds
    while (found := described(task))["TaskStatus"] not in ENDED:
        assert time.time() < end, found
        time.sleep(0.05)
    return found


def load(prefix, **more):
    return ended(ts.create_batch_load_task(**asked(prefix, **more))["TaskId"])


def counts(found):
    report = found["ProgressReport"]
    return tuple(report[name] for name in (
        "RecordsProcessed", "RecordsIngested", "ParseFailures", "RecordIngestionFailures", "FileFailures"))


def report(found):
    return json.loads(store.get("reports", f"r/{found['TaskId']}/error-report.json"))
