"""Signatures over paths that are encoded twice, and who may do what. The keys are those of datazone.rs."""

import json
import urllib.error
import urllib.request

from botocore import UNSIGNED
from botocore.config import Config

import boto3
from aws import URL, client, form, items, of, refused, same

full, writer, reader, other = (client(key) for key in
                               ("AKIDEXAMPLE", "AKIDWRITER", "AKIDREADER", "AKIDOTHER"))
point = full.post_time_series_data_points(**of(), forms=[form(1, "a b/é+%")])["forms"][0]
ask = {**of(), "formName": "a b/é+%"}
same(len(items(full, of(), "a b/é+%")), 1)
# Only the path encoded once more has this signature: the names reach the constraints.
for domain in ("dzd_a b", "dzd_a/b", "dzd_é%2F", "dzd_~a+b"):
    refused("ValidationException", 400, full.list_time_series_data_points,
            **of(domain=domain), formName="f")
client(aws_session_token="a session's").list_time_series_data_points(**ask)

writer.post_time_series_data_points(**of(), forms=[form(2)])
writer.delete_time_series_data_points(**of(), formName="none")
reader.list_time_series_data_points(**ask)
reader.get_time_series_data_point(**ask, identifier=point["id"])
denied = lambda call, **more: refused("AccessDeniedException", 403, call, **more)
for some in (reader, other):
    message = denied(some.post_time_series_data_points, **of(), forms=[form(1)])
    assert "datazone:PostTimeSeriesDataPoints" in message, message
    denied(some.delete_time_series_data_points, **ask)
for some in (writer, other):
    denied(some.list_time_series_data_points, **ask)
    denied(some.get_time_series_data_point, **ask, identifier=point["id"])

wrong, unknown = client(secret="wrong"), client("AKIDUNKNOWN")
refused("InvalidSignatureException", 403, wrong.list_time_series_data_points, **ask)
refused("InvalidSignatureException", 403, wrong.post_time_series_data_points, **of(), forms=[form(1)])
refused("UnrecognizedClientException", 403, unknown.list_time_series_data_points, **ask)
nobody = boto3.client("datazone", endpoint_url=URL, region_name="eu-west-1",
                      config=Config(signature_version=UNSIGNED, retries={"max_attempts": 0}))
refused("UnauthorizedException", 401, nobody.list_time_series_data_points, **ask)
refused("UnauthorizedException", 401, nobody.post_time_series_data_points, **of(), forms=[form(1)])


def bearing(token, method="GET"):
    path = "/v2/domains/dzd_3xyz-ABC/entities/ASSET/asset1/time-series-data-points?formName=f"
    request = urllib.request.Request(URL + path, headers={"Authorization": f"Bearer {token}"}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code, json.load(error) and error.headers["x-amzn-errortype"]


# Tokens have scopes as well.
same(bearing("reads"), 200)
same(bearing("reads", "DELETE"), (403, "AccessDeniedException"))
same(bearing("elsewhere"), (403, "AccessDeniedException"))
same(bearing("nobody's"), (401, "UnauthorizedException"))
# A signature for another service is none for this one.
timestream = boto3.client("timestream-write", endpoint_url=URL, region_name="eu-west-1",
                          aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
same("_datazone" in [d["DatabaseName"] for d in timestream.list_databases()["Databases"]], True)
print("signatures and scopes")
