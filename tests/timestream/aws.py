"""What the scripts beside this one share: clients of the gateway, and errors that are expected."""

import os
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

KEY, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-west-1"


def client(url, key=KEY, secret=SECRET, region=REGION, **more):
    """A client of the gateway, which tries once; without a URL one that finds it by the environment."""
    config = Config(retries={"max_attempts": 0, "mode": "standard"}, read_timeout=60)
    return boto3.client(
        "timestream-write",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=config,
        **more,
    )


def refused(code, status, call, *args, **kwargs):
    """The error that a call must end with."""
    try:
        answer = call(*args, **kwargs)
    except ClientError as error:
        response = error.response
        found = (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"])
        assert found == (code, status), f"{found} {response}"
        # Errors that the service's model does not have leave boto3's own field out.
        assert response.get("Message", response["Error"]["Message"]) == response["Error"]["Message"]
        assert len(response["ResponseMetadata"]["RequestId"]) == 26, response
        return response
    raise AssertionError(f"{kwargs or args} was taken: {answer}")


def invalid(call, *args, **kwargs):
    """The message of a ValidationException that a call must end with."""
    return refused("ValidationException", 400, call, *args, **kwargs)["Message"]


def now_ms():
    return int(time.time() * 1000)


def same(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def contains(text, *parts):
    for part in parts:
        assert part in text, f"{part!r} is not in {text!r}"


URL = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("AWS_ENDPOINT_URL")
