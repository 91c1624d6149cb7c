"""Makes two buckets, and a key that may use only the one for reports. Six requests, then moto asks who sends."""

import json
import os
import sys

import boto3

URL, FOLDER = sys.argv[1], sys.argv[2]
access = {"endpoint_url": URL, "region_name": "us-east-1",
          "aws_access_key_id": "test", "aws_secret_access_key": "test"}
s3, iam = boto3.client("s3", **access), boto3.client("iam", **access)
s3.create_bucket(Bucket="source")
s3.create_bucket(Bucket="reports")
s3.put_object(Bucket="source", Key="a/one.csv", Body=b"time,host,v,n\n1,h,1,1\n")
iam.create_user(UserName="gateway")
key = iam.create_access_key(UserName="gateway")["AccessKey"]
reports = ["arn:aws:s3:::reports", "arn:aws:s3:::reports/*"]
statement = {"Effect": "Allow", "Action": "s3:*", "Resource": reports}
iam.put_user_policy(UserName="gateway", PolicyName="reports",
                    PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
for name, text in [("url", URL), ("key", key["AccessKeyId"]), ("secret", key["SecretAccessKey"])]:
    with open(os.path.join(FOLDER, name), "w") as file:
        file.write(text)
print("a key for reports alone")
