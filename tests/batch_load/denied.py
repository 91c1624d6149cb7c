"""A source that the gateway's key may not read."""

import boto3
from botocore.exceptions import ClientError

from loads import *  # noqa: F403


def written(name):
    return store.get("", name).decode()


s3 = boto3.client("s3", endpoint_url=written("url"), region_name="us-east-1",
                  aws_access_key_id=written("key"), aws_secret_access_key=written("secret"))
try:
    s3.list_objects_v2(Bucket="source")
    raise AssertionError("the bucket is not denied")
except ClientError as error:
    same(error.response["Error"]["Code"], "AccessDenied")
ts.create_database(DatabaseName="loads")
ts.create_table(DatabaseName="loads", TableName="rows")
found = load("a/")
same(found["TaskStatus"], "FAILED")
same(counts(found), (0, 0, 0, 0, 0))
contains(found["ErrorMessage"], "s3://source/a/", "403", f"r/{found['TaskId']}/error-report.json")
body = s3.get_object(Bucket="reports", Key=f"r/{found['TaskId']}/error-report.json")["Body"].read()
told = json.loads(body)
same((told["taskId"], told["fileErrors"], len(told["taskErrors"])), (found["TaskId"], [], 1))
contains(told["taskErrors"][0], "s3://source/a/", "403")
print("a denied bucket fails its task")
