"""An SDK whose connections break: each call's first attempt reaches the server whole and is not answered.

`again.py URL DATABASE` writes by boto3, `again.py URL DATABASE COMMAND ..` by a command that is given the
broken server's URL, the database and the number of calls."""

import socket
import subprocess
import sys
import threading

import boto3
from botocore.config import Config

from aws import KEY, REGION, SECRET, now_ms, same

CALLS = 10


def forwarder(target):
    """A port that passes requests on. It hangs up on every other connection once its request has been
    passed on, without an answer: while it is executed, or after."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen = []

    def serve(connection, breaks):
        with connection, socket.create_connection(target) as server:
            request = read_request(connection)
            if request is None:
                return
            seen.append(request)
            server.sendall(request)
            if breaks:
                connection.shutdown(socket.SHUT_RDWR)
                server.recv(1 << 16)
                return
            # One request a connection, so that the next one is a connection of its own.
            head, _, body = server.recv(1 << 16).partition(b"\r\n\r\n")
            connection.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)

    def accept():
        breaks = True
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, breaks), daemon=True).start()
            breaks = not breaks

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1], seen


def read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(1 << 16)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(1 << 16)
    return head + b"\r\n\r\n" + body


def client(url, attempts):
    config = Config(retries={"max_attempts": attempts, "mode": "standard"}, read_timeout=60)
    return boto3.client("timestream-write", endpoint_url=url, region_name=REGION, config=config,
                        aws_access_key_id=KEY, aws_secret_access_key=SECRET)


def invocation(request):
    return next(line for line in request.lower().split(b"\r\n") if line.startswith(b"amz-sdk-invocation-id"))


host, port = sys.argv[1].removeprefix("http://").split(":")
database = sys.argv[2]
direct = client(sys.argv[1], 1)
direct.create_database(DatabaseName=database)
direct.create_table(DatabaseName=database, TableName="cpu")
port, seen = forwarder((host, int(port)))
broken_url, command = f"http://127.0.0.1:{port}", sys.argv[3:]
if command:
    subprocess.run([*command, broken_url, database, str(CALLS)], check=True)
broken = client(broken_url, 4)
for number in range(0 if command else CALLS):
    # The second supersedes the first: executed again, the first would be refused.
    record = {"Dimensions": [{"Name": "host", "Value": str(number)}], "MeasureName": "m", "Time": str(now_ms())}
    records = [{**record, "MeasureValue": str(version), "Version": version} for version in (1, 2)]
    answer = broken.write_records(DatabaseName=database, TableName="cpu", Records=records)
    same(answer["RecordsIngested"]["Total"], 2)
    same(answer["ResponseMetadata"]["RetryAttempts"], 1)
same(len(seen), 2 * CALLS)
same(len({invocation(request) for request in seen}), CALLS)
print(f"{CALLS} calls were each sent twice and executed once")
