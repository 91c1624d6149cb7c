"""Writes a fleet with the real influxdb-client: gzip off and on, synchronous and in batches.

write.py URL BUCKET FILE: FILE has one JSON object a line, {"measurement", "tags", "fields", "time"}; a
quarter of the lines is written in each mode. Prints how many. Any error of the client ends it.
"""

import json
import sys
import time

from influxdb_client import InfluxDBClient, Point, WriteOptions
from influxdb_client.client.write_api import SYNCHRONOUS

POINTS_PER_CALL = 5_000
MODES = [(gzip, batching) for gzip in (False, True) for batching in (False, True)]


def point(line):
    """The point of a line; numbers keep the type that they have in JSON."""
    record = json.loads(line)
    made = Point(record["measurement"]).time(record["time"])
    for name, value in record["tags"].items():
        made = made.tag(name, value)
    for name, value in record["fields"].items():
        made = made.field(name, value)
    return made


def write(url, bucket, points, gzip, batching):
    """Writes points in one mode; returns what went wrong."""
    errors = []
    options = SYNCHRONOUS
    callbacks = {}
    if batching:
        options = WriteOptions(batch_size=POINTS_PER_CALL, flush_interval=1_000)
        callbacks["error_callback"] = lambda _, data, error: errors.append(repr(error))
    with InfluxDBClient(url=url, token="unused", org="fleet", enable_gzip=gzip) as client:
        # Closing a batching writer waits for its last batch.
        with client.write_api(write_options=options, **callbacks) as writer:
            for begin in range(0, len(points), POINTS_PER_CALL):
                writer.write(bucket=bucket, record=points[begin : begin + POINTS_PER_CALL])
    return errors


def main():
    url, bucket, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        points = [point(line) for line in file]
    for number, (gzip, batching) in enumerate(MODES):
        mine = points[number :: len(MODES)]
        begin = time.monotonic()
        errors = write(url, bucket, mine, gzip, batching)
        if errors:
            sys.exit(f"gzip={gzip} batching={batching}: {errors}")
        seconds = time.monotonic() - begin
        print(f"gzip={gzip} batching={batching}: {len(mine)} points in {seconds:.1f} s")


main()
