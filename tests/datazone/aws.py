"""What the scripts beside this one share: clients of the gateway, and errors that are expected."""

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
URL = sys.argv[1]
DOMAIN = "dzd_3xyz-ABC"
FORM_TYPE = "amazon.datazone.DataQualityResultFormType"


def client(key=KEY, secret=SECRET, attempts=0, **more):
    """A client of the gateway, which tries once."""
    config = Config(retries={"max_attempts": attempts, "mode": "standard"}, read_timeout=120)
    return boto3.client("datazone", endpoint_url=URL, region_name="eu-west-1", aws_access_key_id=key,
                        aws_secret_access_key=secret, config=config, **more)


def of(entity="asset1", kind="ASSET", domain=DOMAIN):
    return {"domainIdentifier": domain, "entityIdentifier": entity, "entityType": kind}


def form(timestamp, name="rules", content='{"passingPercentage":88.0}', **more):
    made = {"formName": name, "typeIdentifier": FORM_TYPE, "timestamp": timestamp, **more}
    return made if content is None else {**made, "content": content}


def refused(code, status, call, *args, **kwargs):
    """The error that a call must end with."""
    try:
        answer = call(*args, **kwargs)
    except ClientError as error:
        response = error.response
        found = (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"])
        assert found == (code, status), f"{found} {response}"
        headers = response["ResponseMetadata"]["HTTPHeaders"]
        same(headers["x-amzn-errortype"], code)
        same(len(headers["x-amzn-requestid"]), 26)
        assert response["Error"]["Message"], response
        return response["Error"]["Message"]
    raise AssertionError(f"{kwargs or args} was taken: {answer}")


def invalid(call, *args, **kwargs):
    """The message of a ValidationException that a call must end with."""
    return refused("ValidationException", 400, call, *args, **kwargs)


def items(datazone, entity=None, name="rules", **more):
    """All items of a form, by boto3's own paginator."""
    pages = datazone.get_paginator("list_time_series_data_points")
    pages = pages.paginate(**(entity or of()), formName=name, **more)
    return [item for page in pages for item in page["items"]]


def same(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"
