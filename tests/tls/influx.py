"""influx.py URL CA BUCKET: the real influxdb-client writes over TLS, and refuses a server it does not know."""

import sys

from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS

url, ca, bucket = sys.argv[1:]


def write(**tls):
    with InfluxDBClient(url=url, token="t", org="o", retries=False, **tls) as client:
        with client.write_api(write_options=SYNCHRONOUS) as writer:
            for number in range(100):
                writer.write(bucket=bucket, record=Point("py").tag("n", str(number)).field("v", number).time(number))


write(ssl_ca_cert=ca)
try:
    write()
except Exception as error:
    assert "CERTIFICATE_VERIFY_FAILED" in str(error), error
else:
    raise AssertionError("a server that no authority knows was trusted")
print("influxdb-client wrote 100 points over TLS")
