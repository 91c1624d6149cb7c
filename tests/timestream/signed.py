"""Signed requests: who is let in, and what is wrong with the others. The keys are those of timestream.rs."""

import datetime
import json
import sys
import urllib.request

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import aws
from aws import KEY, SECRET, URL, client, contains, now_ms, refused, same

TARGET = "Timestream_20181101."
UTC = datetime.timezone.utc


def record(host="1"):
    return {"Dimensions": [{"Name": "host", "Value": host}], "MeasureName": "m", "MeasureValue": "1",
            "Time": str(now_ms())}


def scopes():
    full = client(URL)
    full.create_database(DatabaseName="mine")
    full.create_database(DatabaseName="theirs")
    for database in ("mine", "theirs"):
        full.create_table(DatabaseName=database, TableName="cpu")
    for region in ("us-east-1", "ap-southeast-2", "anything"):
        table = client(URL, region=region).describe_table(DatabaseName="mine", TableName="cpu")["Table"]
        contains(table["Arn"], f":{region}:")
    with_token = client(URL, aws_session_token="a session's token")
    with_token.list_databases()
    writer, reader = client(URL, key="AKIDWRITER"), client(URL, key="AKIDREADER")
    writer.write_records(DatabaseName="mine", TableName="cpu", Records=[record()])
    reader.describe_table(DatabaseName="mine", TableName="cpu")
    same([d["DatabaseName"] for d in reader.list_databases()["Databases"]], ["mine"])
    same([t["DatabaseName"] for t in writer.list_tables()["Tables"]], ["mine"])
    arn = "arn:aws:timestream:eu-west-1:000000000000:database/mine"
    for call, more in [
        (writer.write_records, {"DatabaseName": "theirs", "TableName": "cpu", "Records": [record()]}),
        (writer.describe_database, {"DatabaseName": "theirs"}),
        (writer.create_database, {"DatabaseName": "other"}),
        (reader.write_records, {"DatabaseName": "mine", "TableName": "cpu", "Records": [record("2")]}),
        (reader.create_table, {"DatabaseName": "mine", "TableName": "new"}),
        (reader.update_table, {"DatabaseName": "mine", "TableName": "cpu"}),
        (reader.delete_table, {"DatabaseName": "mine", "TableName": "cpu"}),
        (reader.delete_database, {"DatabaseName": "mine"}),
        (reader.tag_resource, {"ResourceARN": arn, "Tags": []}),
        (reader.list_tables, {"DatabaseName": "theirs"}),
    ]:
        message = refused("AccessDeniedException", 403, call, **more)["Message"]
        contains(message, "is not authorized to perform: timestream:", "on resource: arn:aws:timestream:")


def clients():
    wrong = client(URL, secret="wrong")
    refused("InvalidSignatureException", 403, wrong.list_databases)
    unknown = client(URL, key="AKIDUNKNOWN")
    error = refused("UnrecognizedClientException", 403, unknown.list_databases)["Error"]
    contains(error["Message"], "The security token included in the request is invalid.")


def send(headers, body):
    request = urllib.request.Request(URL, body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, "", ""
    except urllib.error.HTTPError as error:
        told = json.load(error)
        return error.code, told["__type"].split("#")[1], told["Message"]


def signed(body=b"{}", service="timestream", operation="ListDatabases", age=0, token=None):
    """The headers of a request as botocore signs it, `age` seconds ago."""
    headers = {"X-Amz-Target": TARGET + operation, "Content-Type": "application/x-amz-json-1.0"}
    request = AWSRequest("POST", URL + "/", headers, body)
    auth = SigV4Auth(Credentials(KEY, SECRET, token), service, "eu-west-1")
    time = datetime.datetime.now(UTC) - datetime.timedelta(seconds=age)
    stamp = time.strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = stamp
    request.headers["X-Amz-Date"] = stamp
    if token:
        request.headers["X-Amz-Security-Token"] = token
    canonical = auth.canonical_request(request)
    text = auth.string_to_sign(request, canonical)
    auth._inject_signature_to_request(request, auth.signature(text, request))
    return dict(request.headers)


def changed(headers, **replaced):
    made = dict(headers)
    for name, (before, after) in replaced.items():
        name = name.replace("_", "-")
        assert before in made[name], made
        made[name] = made[name].replace(before, after)
    return made


def raw():
    same(send(signed(), b"{}")[0], 200)
    same(send(signed(token="t"), b"{}")[0], 200)
    bad = (403, "InvalidSignatureException")
    for headers, body in [
        (signed(), b'{"MaxResults":1}'),
        (changed(signed(), Authorization=("eu-west-1", "us-east-1")), b"{}"),
        (changed(signed(), X_Amz_Target=("ListDatabases", "ListTables")), b"{}"),
        (changed(signed(token="t"), X_Amz_Security_Token=("t", "u")), b"{}"),
        ({**signed(), "X-Amz-Security-Token": "added"}, b"{}"),
        ({**signed(), "X-Amz-Content-Sha256": "0" * 64}, b"{}"),
        (changed(signed(), Authorization=("x-amz-date;", "")), b"{}"),
        (signed(service="dynamodb"), b"{}"),
    ]:
        same(send(headers, body)[:2], bad)
    same(send(signed(age=290), b"{}")[0], 200)
    same(send(signed(age=-290), b"{}")[0], 200)
    for age, words in [(310, "Signature expired: "), (-310, "Signature not yet current: ")]:
        status, name, message = send(signed(age=age), b"{}")
        same((status, name), bad)
        contains(message, words)
    without = lambda *names: {name: value for name, value in signed().items() if name not in names}
    same(send(without("Authorization"), b"{}")[:2], (403, "MissingAuthenticationTokenException"))
    same(send(without("X-Amz-Date"), b"{}")[:2], (400, "IncompleteSignatureException"))
    same(send(changed(signed(), Authorization=("Signature=", "X=")), b"{}")[:2],
         (400, "IncompleteSignatureException"))
    # Compressed: what is signed is what is on the wire.
    import gzip
    body = gzip.compress(b'{"MaxResults":1}')
    same(send({**signed(body), "Content-Encoding": "gzip"}, body)[0], 200)


def regions(database):
    """With `auth.region = "eu-west-1"`: what was signed for another region, or another service."""
    home, service = "eu-west-1", "timestream"
    client(URL).create_database(DatabaseName=database)
    table = client(URL).create_table(DatabaseName=database, TableName="cpu")["Table"]
    contains(table["Arn"], f":{home}:")
    client(URL).write_records(DatabaseName=database, TableName="cpu", Records=[record()])
    for region in ("us-east-1", "eu-west-10", "EU-WEST-1", "anything"):
        foreign = client(URL, region=region)
        for call, more in [
            (foreign.list_databases, {}),
            (foreign.describe_endpoints, {}),
            (foreign.write_records, {"DatabaseName": database, "TableName": "cpu", "Records": [record("2")]}),
            (foreign.delete_table, {"DatabaseName": database, "TableName": "cpu"}),
        ]:
            message = refused("InvalidSignatureException", 403, call, **more)["Error"]["Message"]
            contains(message, f"scoped to a valid region, not '{region}'", f"'{home}'")
    # The scope is refused for what it says, whether or not the signature is right.
    status, name, message = send(changed(signed(), Authorization=(home, "us-east-1")), b"{}")
    same((status, name), (403, "InvalidSignatureException"))
    contains(message, "not 'us-east-1'")
    for other in ("dynamodb", "Timestream", "timestream-write"):
        status, name, message = send(signed(service=other), b"{}")
        same((status, name), (403, "InvalidSignatureException"))
        contains(message, f"scoped to correct service: '{service}'")
    same(client(URL).describe_table(DatabaseName=database, TableName="cpu")["Table"]["TableStatus"], "ACTIVE")


if len(sys.argv) > 2:
    regions(sys.argv[2])
else:
    for part in (scopes, clients, raw):
        part()
print("signatures are verified")
