"""The truth table of versions, row by row; duplicates inside a request; CommonAttributes; repetitions."""

import concurrent.futures
import itertools
import json
import urllib.request
import uuid

from aws import URL, client, contains, invalid, now_ms, refused, same

ts = client(URL)
DB, TABLE = "truth", "rows"
ts.create_database(DatabaseName=DB)
ts.create_table(DatabaseName=DB, TableName=TABLE)
NOW, hosts = now_ms(), itertools.count()

LOWER = ("The record version {} is lower than the existing version {}. "
         "A higher version is required to update the measure value.")
EQUAL = ("A record already exists with the same time, dimensions, measure name, and record version. "
         "A higher record version must be specified in order to update the measure value. "
         "Specifying record version is supported by the latest SDKs.")


def record(host, value="1.5", version=None, **more):
    made = {"Dimensions": [{"Name": "host", "Value": str(host)}], "MeasureName": "m",
            "MeasureValue": value, "Time": str(NOW), **more}
    if version is not None:
        made["Version"] = version
    return made


def write(*records, **common):
    """How many were taken, or the rejections."""
    attributes = {"CommonAttributes": common} if common else {}
    answer = ts.write_records(DatabaseName=DB, TableName=TABLE, Records=list(records), **attributes)
    same(answer["RecordsIngested"]["Total"], len(records))
    return len(records)


def rejections(*records):
    response = refused("RejectedRecordsException", 419, ts.write_records,
                       DatabaseName=DB, TableName=TABLE, Records=list(records))
    ingested = response["RecordsIngested"]["Total"] if "RecordsIngested" in response else None
    assert ingested in (None, len(records) - len(response["RejectedRecords"]))
    return [(r["RecordIndex"], r["Reason"], r.get("ExistingVersion")) for r in response["RejectedRecords"]]


def rows():
    for (existing, old), (new, value), verdict in [
        ((None, None), (None, "1.5"), "taken"),
        ((None, None), (7, "1.5"), "taken"),
        ((2, "1.5"), (3, "2.5"), "taken"),
        ((2, "1.5"), (3, "1.5"), "taken"),
        ((2, "1.5"), (2, "1.5"), "taken"),
        ((None, "1.5"), (1, "1.5"), "taken"),
        ((2, "1.5"), (2, "2.5"), EQUAL),
        ((None, "1.5"), (None, "2.5"), EQUAL),
        ((200, "1.5"), (2, "2.5"), LOWER.format(2, 200)),
        ((200, "1.5"), (2, "1.5"), LOWER.format(2, 200)),
        ((1, "1.5"), (2**63 - 1, "2.5"), "taken"),
        ((2**63 - 1, "1.5"), (1, "2.5"), LOWER.format(1, 2**63 - 1)),
    ]:
        host = next(hosts)
        if old is not None:
            write(record(host, old, existing))
        if verdict == "taken":
            write(record(host, value, new))
            # What stands now is the new one: to say it again is no conflict, anything else is.
            write(record(host, value, new))
            rejections(record(host, "9.5", new))
        else:
            same(rejections(record(host, value, new)), [(0, verdict, existing or 1)])
            write(record(host, old, existing))
    host = next(hosts)
    for version in (0, -1):
        contains(invalid(ts.write_records, DatabaseName=DB, TableName=TABLE,
                         Records=[record(host, version=version)]), "Invalid version for record.", f"'{version}'")
    refused("SerializationException", 400, ts.write_records, DatabaseName=DB, TableName=TABLE,
            Records=[record(host, version=2**63)])


def identity():
    host = next(hosts)
    write(record(host))
    for other in [
        record(host, "2.5", Time=str(NOW + 1)),
        record(host, "2.5", MeasureName="other"),
        record(host, "2.5", Dimensions=[{"Name": "host", "Value": str(host)}, {"Name": "x", "Value": "1"}]),
        record(host, "2.5", Dimensions=[{"Name": "host", "Value": f"{host}."}]),
    ]:
        write(other)
    ns = {"Time": str(NOW * 1_000_000), "TimeUnit": "NANOSECONDS"}
    same(rejections(record(host, "2.5", **ns))[0][1], EQUAL)
    two = [{"Name": "host", "Value": str(host)}, {"Name": "rack", "Value": "1"}]
    write(record(host, Dimensions=two))
    same(rejections(record(host, "2.5", Dimensions=two[::-1]))[0][1], EQUAL)


def inside_one_request():
    host = next(hosts)
    same(write(record(host), record(host)), 2)
    host = next(hosts)
    same(rejections(record(host), record(host, "2.5")), [(1, EQUAL, 1)])
    host = next(hosts)
    write(record(host, "1", 1), record(host, "2", 2), record(host, "3", 3))
    same(rejections(record(host, "9", 3)), [(0, EQUAL, 3)])
    hosts_ = [next(hosts) for _ in range(50)]
    found = rejections(*[record(h, v) for v in ("1", "2") for h in hosts_])
    same([index for index, _, _ in found], list(range(50, 100)))


def common_attributes():
    host = next(hosts)
    dimension = [{"Name": "host", "Value": str(host)}]
    values = [{"Name": "a", "Value": "1", "Type": "BIGINT"}, {"Name": "b", "Value": "x", "Type": "VARCHAR"}]
    for common, own in [
        ({"MeasureName": "c1"}, {"Dimensions": dimension, "MeasureValue": "1", "Time": str(NOW)}),
        ({"MeasureValue": "1", "MeasureValueType": "BIGINT"},
         {"Dimensions": dimension, "MeasureName": "c2", "Time": str(NOW)}),
        ({"MeasureValues": values, "MeasureValueType": "MULTI"},
         {"Dimensions": dimension, "MeasureName": "c3", "Time": str(NOW)}),
        ({"Time": str(NOW // 1000), "TimeUnit": "SECONDS"},
         {"Dimensions": dimension, "MeasureName": "c4", "MeasureValue": "1"}),
        ({"Dimensions": dimension}, {"MeasureName": "c5", "MeasureValue": "1", "Time": str(NOW)}),
        ({"Dimensions": dimension, "MeasureValues": values, "MeasureValueType": "MULTI"},
         {"Dimensions": [{"Name": "rack", "Value": "1"}], "MeasureName": "c6", "Time": str(NOW)}),
        ({"Version": 5, "MeasureName": "hidden"},
         {"Dimensions": dimension, "MeasureName": "c7", "MeasureValue": "1", "Time": str(NOW)}),
    ]:
        same(write(own, **common), 1)
    lower = {"Dimensions": dimension, "MeasureName": "c7", "MeasureValue": "1", "Time": str(NOW), "Version": 4}
    same(rejections(lower), [(0, LOWER.format(4, 5), 5)])
    contains(invalid(ts.write_records, DatabaseName=DB, TableName=TABLE, Records=[record(host)],
                     CommonAttributes={"Dimensions": dimension}), "RecordIndex 0", "'host'")


def send(body, invocation):
    """One try of a call, as an SDK repeats it."""
    headers = {"X-Amz-Target": "Timestream_20181101.WriteRecords", "Content-Type": "application/x-amz-json-1.0"}
    if invocation:
        headers["amz-sdk-invocation-id"] = invocation
    request = urllib.request.Request(URL, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def repetitions():
    host = next(hosts)
    body = {"DatabaseName": DB, "TableName": TABLE, "Records": [record(host, "1", 1), record(host, "2", 2)]}
    call = str(uuid.uuid4())
    first = send(body, call)
    same(first[0], 200)
    # Somebody else writes in between; who repeats must not be told that nothing was taken.
    write(record(host, "3", 3))
    same(send(body, call), first)
    status, answer = send(body, str(uuid.uuid4()))
    same((status, [r["RecordIndex"] for r in answer["RejectedRecords"]]), (419, [0, 1]))
    same(send(body, None)[0], 419)
    bad = {"DatabaseName": DB, "TableName": TABLE, "Records": [record(host, "0", 1)]}
    same(send(bad, call)[0], 419)
    same(send(bad, call)[1]["RecordsIngested"], {"Total": 0, "MemoryStore": 0, "MagneticStore": 0})


def at_the_same_time():
    """Sixteen clients: each series keeps the order of its own, and one call sent eight times is one call."""
    def ascending(host):
        for version in range(1, 11):
            write(record(host, str(version), version), record(host, str(version + 0.5), version, MeasureName="n"))
        return rejections(record(host, "0", 10))[0][2]

    def once(body):
        return send(body, call)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        same(list(pool.map(ascending, [next(hosts) for _ in range(16)])), [10] * 16)
        for _ in range(5):
            host, call = next(hosts), str(uuid.uuid4())
            body = {"DatabaseName": DB, "TableName": TABLE, "Records": [record(host, "1", 1), record(host, "2", 2)]}
            answers = list(pool.map(once, [body] * 8))
            same(answers, [answers[0]] * 8)
            same(answers[0][0], 200)


for part in (rows, identity, inside_one_request, common_attributes, repetitions, at_the_same_time):
    part()
print("the truth table holds")
