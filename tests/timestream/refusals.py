"""What fails a whole request, and what one record; the limits, each at its bound and beyond."""

import itertools
import json
import urllib.request

from aws import URL, client, contains, invalid, now_ms, refused, same

ts = client(URL)
DB, TABLE, LATE, KEYED = "refusals", "plain", "late", "keyed"
ts.create_database(DatabaseName=DB)
ts.create_table(DatabaseName=DB, TableName=TABLE, RetentionProperties={
    "MemoryStoreRetentionPeriodInHours": 12, "MagneticStoreRetentionPeriodInDays": 5})
ts.create_table(
    DatabaseName=DB, TableName=LATE, MagneticStoreWriteProperties={"EnableMagneticStoreWrites": True},
    RetentionProperties={"MemoryStoreRetentionPeriodInHours": 12, "MagneticStoreRetentionPeriodInDays": 5})
ts.create_table(DatabaseName=DB, TableName=KEYED, Schema={"CompositePartitionKey": [
    {"Type": "DIMENSION", "Name": "host", "EnforcementInRecord": "REQUIRED"}]})
hosts = itertools.count()
MINUTE, HOUR = 60_000, 3_600_000


def record(**more):
    return {"Dimensions": [{"Name": "host", "Value": str(next(hosts))}], "MeasureName": "m",
            "MeasureValue": "1.5", "Time": str(now_ms()), **more}


def multi(values, **more):
    made = record(MeasureValueType="MULTI", MeasureValues=values, **more)
    del made["MeasureValue"]
    return made


def write(*records, table=TABLE):
    answer = ts.write_records(DatabaseName=DB, TableName=table, Records=list(records))
    return answer["RecordsIngested"]


def whole(*records, table=TABLE):
    return invalid(ts.write_records, DatabaseName=DB, TableName=table, Records=list(records))


def rejected(*records, table=TABLE):
    """Indexes and reasons; the others are stored."""
    response = refused("RejectedRecordsException", 419, ts.write_records, DatabaseName=DB,
                       TableName=table, Records=list(records))
    return [(r["RecordIndex"], r["Reason"]) for r in response["RejectedRecords"]]


def without(member):
    return {name: value for name, value in record().items() if name != member}


def whole_requests():
    good = record()
    for bad, parts in [
        (without("Dimensions"), ["At least one dimension is required for a record."]),
        (without("Time"), ["Invalid time for record.", "Time is missing"]),
        (record(Time="yesterday"), ["Invalid time for record.", "'yesterday'"]),
        (record(Time="1.5"), ["Invalid time for record.", "'1.5'"]),
        (record(Time="-1"), ["Invalid time for record."]),
        (without("MeasureName"), ["Measure name is required"]),
        (without("MeasureValue"), ["A measure value is required"]),
        (record(Version=0), ["Invalid version for record.", "'0'"]),
        (record(MeasureValueType="TIMESTAMP", MeasureValue="1"), ["TIMESTAMP is not taken"]),
        (record(MeasureValue="NaN"), ["Invalid DOUBLE", "'NaN'", "NaN and Infinity cannot be stored"]),
        (record(MeasureValue="Infinity"), ["Invalid DOUBLE"]),
        (record(MeasureValue="abc"), ["Invalid DOUBLE", "'abc'"]),
        (record(MeasureValue="1.0", MeasureValueType="BIGINT"), ["Invalid BIGINT", "'1.0'"]),
        (record(MeasureValue="2", MeasureValueType="BOOLEAN"), ["Invalid BOOLEAN", "'2'"]),
        (record(MeasureValueType="MULTI"), ["MeasureValue is not taken"]),
        (multi([]), ["MeasureValues are required"]),
        (multi([{"Name": "a", "Value": "1", "Type": "MULTI"}]), ["MULTI is no type"]),
        (record(MeasureValues=[{"Name": "a", "Value": "1", "Type": "BIGINT"}]), ["exclude each other"]),
        (record(Dimensions=[{"Name": "a", "Value": "1"}, {"Name": "a", "Value": "2"}]), ["unique", "'a'"]),
        (record(Dimensions=[{"Name": "time", "Value": "1"}]), ["\"time\" is reserved"]),
        (record(Dimensions=[{"Name": "ts_x", "Value": "1"}]), ["reserved"]),
        (record(MeasureName="measure_name_x"), ["reserved"]),
        (record(MeasureName="a:b"), ["':'"]),
    ]:
        contains(whole(good, bad), "RecordIndex 1", *parts)
    for bad, parts in [
        (record(MeasureValueType="FLOAT"), ["'records.2.member.measureValueType'", "enum value set"]),
        (record(TimeUnit="HOURS"), ["'records.2.member.timeUnit'"]),
        (record(MeasureValue="x" * 2049, MeasureValueType="VARCHAR"),
         ["'records.2.member.measureValue'", "less than or equal to 2048"]),
        (record(Dimensions=[{"Name": f"d{at}", "Value": "v"} for at in range(129)]),
         ["'records.2.member.dimensions'", "less than or equal to 128"]),
    ]:
        contains(whole(good, bad), "1 validation error detected: Value '", *parts)
    # Nothing of all that was stored: the good one is new still, with any value.
    same(write(dict(good, MeasureValue="7"))["Total"], 1)


def windows():
    now = now_ms()
    D = ") of the data ingestion window."
    start = "The record timestamp is outside the time range ["
    for table, ago, store in [
        (TABLE, 0, "MemoryStore"), (TABLE, 12 * HOUR + 24 * MINUTE, "MemoryStore"),
        (TABLE, -14 * MINUTE, "MemoryStore"), (TABLE, 12 * HOUR + 26 * MINUTE, None),
        (TABLE, -16 * MINUTE, None), (TABLE, 24 * HOUR, None),
        (LATE, 12 * HOUR + 24 * MINUTE, "MemoryStore"), (LATE, 12 * HOUR + 26 * MINUTE, "MagneticStore"),
        (LATE, 132 * HOUR + 24 * MINUTE, "MagneticStore"), (LATE, 132 * HOUR + 26 * MINUTE, None),
        (LATE, -16 * MINUTE, None),
    ]:
        one = record(Time=str(now - ago))
        if store:
            same({k: v for k, v in write(one, table=table).items() if v}, {"Total": 1, store: 1})
        else:
            ((index, reason),) = rejected(record(), one, table=table)
            same(index, 1)
            contains(reason, start, ") of the memory store." if table == TABLE else D)
    late = record(Time=str(now - 13 * HOUR))
    same(write(record(), late, table=LATE), {"Total": 2, "MemoryStore": 1, "MagneticStore": 1})


def conflicts_of_the_magnetic_store():
    """Not answered but reported, where the table names a place for reports; else answered as all others."""
    late = record(Time=str(now_ms() - 20 * HOUR))
    same(write(late, table=LATE)["MagneticStore"], 1)
    ((index, reason),) = rejected(record(), dict(late, MeasureValue="7"), table=LATE)
    contains(reason, "A record already exists with the same time")
    ts.update_table(DatabaseName=DB, TableName=LATE, MagneticStoreWriteProperties={
        "EnableMagneticStoreWrites": True, "MagneticStoreRejectedDataLocation": {
            "S3Configuration": {"BucketName": "bucket", "ObjectKeyPrefix": "late-reports"}}})
    found = write(record(), dict(late, MeasureValue="7"), table=LATE)
    same(found, {"Total": 2, "MemoryStore": 1, "MagneticStore": 1})
    same(write(late, table=LATE)["MagneticStore"], 1)


def partition_keys():
    lacking = record(Dimensions=[{"Name": "rack", "Value": "1"}])
    ((index, reason),) = rejected(record(), lacking, record(), table=KEYED)
    same(index, 1)
    contains(reason, "host", "partition key")
    ts.update_table(DatabaseName=DB, TableName=KEYED, Schema={"CompositePartitionKey": [
        {"Type": "DIMENSION", "Name": "host", "EnforcementInRecord": "OPTIONAL"}]})
    same(write(lacking, table=KEYED)["Total"], 1)


def values():
    now = now_ms()
    taken = [
        ("BIGINT", str(2**63 - 1)), ("BIGINT", str(-(2**63))), ("DOUBLE", "1e-05"), ("DOUBLE", "1"),
        ("DOUBLE", "1.7976931348623157E308"), ("BOOLEAN", "True"), ("BOOLEAN", "false"),
        ("VARCHAR", "x" * 2048), ("VARCHAR", "\u00e9\u2603 \" \\ \n"),
    ]
    same(write(*[record(MeasureValueType=name, MeasureValue=value) for name, value in taken])["Total"], 9)
    same(write(multi([{"Name": f"m{name}{at}", "Value": value[:256], "Type": name}
                      for at, (name, value) in enumerate(taken)]
                     + [{"Name": "when", "Value": str(now), "Type": "TIMESTAMP"}]))["Total"], 1)
    for name, bad in [("BIGINT", str(2**63)), ("BIGINT", str(-(2**63) - 1)), ("DOUBLE", "1e309")]:
        contains(whole(record(MeasureValueType=name, MeasureValue=bad)), f"Invalid {name}", bad)


def limits():
    same(write(*[record() for _ in range(100)])["Total"], 100)
    contains(whole(*[record() for _ in range(101)]),
             "'[101 records]' at 'records' failed to satisfy constraint: Member must have length less than "
             "or equal to 100")
    named = lambda length: record(Dimensions=[{"Name": "d" * length, "Value": "v"}])
    same(write(named(60))["Total"], 1)
    contains(whole(named(61)), "60 bytes")
    same(write(record(MeasureName="m" * 256))["Total"], 1)
    contains(whole(record(MeasureName="m" * 257)), "256 bytes")
    pairs = lambda size: record(Dimensions=[{"Name": "d", "Value": "v" * (size - 1)}])
    same(write(pairs(2048))["Total"], 1)
    same(len(rejected(record(), pairs(2049))), 1)
    several = lambda count: multi([{"Name": f"a{at}", "Value": "1", "Type": "BIGINT"} for at in range(count)])
    same(write(several(256))["Total"], 1)
    same(rejected(record(), several(257))[0][0], 1)
    ts.create_table(DatabaseName=DB, TableName="dimensions")
    wide = record(Dimensions=[{"Name": f"d{at}", "Value": "v"} for at in range(128)])
    same(write(wide, table="dimensions")["Total"], 1)
    ((index, reason),) = rejected(wide, record(Dimensions=[{"Name": "more", "Value": "v"}]), table="dimensions")
    same(index, 1)
    contains(reason, "128")
    ts.create_table(DatabaseName=DB, TableName="measures")
    for part in range(4):
        names = [f"c{part * 256 + at}" for at in range(256)]
        same(write(multi([{"Name": n, "Value": "1", "Type": "BIGINT"} for n in names]), table="measures")["Total"], 1)
    same(rejected(record(), multi([{"Name": "c1024", "Value": "1", "Type": "BIGINT"}]), table="measures")[0][0], 1)


def quotas():
    """The greater ones. Most tables of all databases, 50,000, would take minutes: the catalog's own test."""
    ts.create_table(DatabaseName=DB, TableName="names")
    for first in range(0, 8192, 100):
        some = [record(MeasureName=f"m{at}") for at in range(first, min(first + 100, 8192))]
        same(write(*some, table="names")["Total"], len(some))
    ((index, reason),) = rejected(record(MeasureName="m8191"), record(MeasureName="more"), table="names")
    same(index, 1)
    contains(reason, "8192")
    databases, token = 0, {}
    while token is not None:
        page = ts.list_databases(MaxResults=20, **token)
        databases += len(page["Databases"])
        token = {"NextToken": page["NextToken"]} if page.get("NextToken") else None
    for at in range(databases, 500):
        ts.create_database(DatabaseName=f"quota{at}")
    response = refused("ServiceQuotaExceededException", 402, ts.create_database, DatabaseName="one-too-many")
    contains(response["Message"], "500")
    ts.delete_database(DatabaseName="quota499")
    ts.create_database(DatabaseName="one-too-many")


def names():
    for length, is_taken in [(2, False), (3, True), (256, True), (257, False)]:
        name = "n" * length
        for call, more in [(ts.create_table, {"DatabaseName": DB, "TableName": name}),
                           (ts.create_database, {"DatabaseName": name})]:
            if is_taken:
                call(**more)
            else:
                contains(invalid(call, **more), "failed to satisfy constraint", "length")
    for name in ["a b", "a/b", "\u00e9\u00e9\u00e9", "a:b"]:
        contains(invalid(ts.create_table, DatabaseName=DB, TableName=name), "[a-zA-Z0-9_.-]+")
    for hours, days, is_taken in [(1, 1, True), (8766, 73000, True), (8767, 1, False), (1, 73001, False)]:
        more = {"DatabaseName": DB, "TableName": f"r{hours}-{days}", "RetentionProperties": {
            "MemoryStoreRetentionPeriodInHours": hours, "MagneticStoreRetentionPeriodInDays": days}}
        if is_taken:
            ts.create_table(**more)
        else:
            contains(invalid(ts.create_table, **more), "retentionProperties.")
    tags = lambda count, key=1, value=0: [{"Key": f"{at}".rjust(key, "k"), "Value": "v" * value} for at in range(count)]
    for made, is_taken in [(tags(200), True), (tags(201), False), (tags(1, 128, 256), True),
                           (tags(1, 129), False), (tags(1, 1, 257), False)]:
        more = {"DatabaseName": DB, "TableName": f"tags{next(hosts)}", "Tags": made}
        if is_taken:
            ts.create_table(**more)
        else:
            contains(invalid(ts.create_table, **more), "'tags")


def raw(target, body):
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    if target:
        headers["X-Amz-Target"] = target
    try:
        with urllib.request.urlopen(urllib.request.Request(URL, body, headers)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wire():
    prefix = "Timestream_20181101."
    for target in (None, "", prefix, prefix + "Query", "DynamoDB_20120810.WriteRecords"):
        status, body = raw(target, b"{}")
        same((status, body["__type"]), (404, "com.amazon.coral.service#UnknownOperationException"))
    for body in (b"{", b"[]", b"\xff", b'{"MaxResults":"x"}', b'{"MaxResults":1.5}'):
        status, answer = raw(prefix + "ListDatabases", body)
        same((status, answer["__type"]), (400, "com.amazon.coral.service#SerializationException"))
    for body in (b"", b"{}", b'{"MaxResults":null,"Later":[1]}'):
        status, answer = raw(prefix + "ListDatabases", body)
        same(status, 200)
        assert isinstance(answer["Databases"][0]["CreationTime"], float), answer
    status, answer = raw(prefix + "CreateDatabase", b"{}")
    contains(answer["Message"], "Value null at 'databaseName'", "Member must not be null")
    same(raw(prefix + "WriteRecords", b'{"Records":[{"MeasureValue":1}]}')[0], 400)


for part in (whole_requests, windows, conflicts_of_the_magnetic_store, partition_keys, values, limits, names, wire, quotas):
    part()
print("requests and records are refused as they must be")
