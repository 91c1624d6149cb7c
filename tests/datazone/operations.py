"""Every operation, and every constraint of the model at, under and over its bound."""

import datetime
import json
import urllib.error
import urllib.request

from aws import DOMAIN, FORM_TYPE, URL, client, form, invalid, items, of, refused, same

UTC = datetime.timezone.utc
datazone = client()
post, delete = datazone.post_time_series_data_points, datazone.delete_time_series_data_points
list_, get = datazone.list_time_series_data_points, datazone.get_time_series_data_point


def operations():
    refused("ResourceNotFoundException", 404, list_, **of(), formName="rules")
    refused("ResourceNotFoundException", 404, get, **of(), formName="rules", identifier="x")
    refused("ResourceNotFoundException", 404, delete, **of(), formName="rules")
    when = datetime.datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    answer = post(**of(), forms=[form(when), form(1704164646, content=None, typeRevision="8")])
    same(answer["ResponseMetadata"]["HTTPStatusCode"], 201)
    same((answer["domainId"], answer["entityId"], answer["entityType"]), (DOMAIN, "asset1", "ASSET"))
    first, second = answer["forms"]
    same(first["timestamp"], when)
    same((first["formName"], first["typeIdentifier"], first["typeRevision"]), ("rules", FORM_TYPE, "1"))
    same(first["content"], '{"passingPercentage":88.0}')
    same((second["typeRevision"], "content" in second), ("8", False))
    assert 1 <= len(first["id"]) <= 36 and first["id"] != second["id"]
    # Read after write, at once.
    listed = list_(**of(), formName="rules")
    same([item["id"] for item in listed["items"]], [second["id"], first["id"]])
    same("nextToken" in listed, False)
    same(listed["items"][1]["contentSummary"], first["content"])
    same(listed["items"][1]["timestamp"], when)
    for point in (first, second):
        got = get(**of(), formName="rules", identifier=point["id"])
        same(got["form"], point)
        same((got["domainId"], got["entityId"], got["entityType"], got["formName"]),
             (DOMAIN, "asset1", "ASSET", "rules"))
    # Two points of one time are two points.
    twins = post(**of("twins"), forms=[form(when), form(when)])["forms"]
    again = post(**of("twins"), forms=[form(when)])["forms"]
    same({i["id"] for i in items(datazone, of("twins"))}, {p["id"] for p in twins + again})
    same(len({p["id"] for p in twins + again}), 3)
    # Forms and entities do not see each other.
    same(list_(**of(), formName="other")["items"], [])
    refused("ResourceNotFoundException", 404, get, **of(), formName="other", identifier=first["id"])
    refused("ResourceNotFoundException", 404, get, **of("twins"), formName="rules", identifier=first["id"])
    refused("ResourceNotFoundException", 404, list_, **of(kind="LISTING"), formName="rules")
    for odd in ("x", "a" * 36, first["id"][:-1] + ("0" if first["id"][-1] != "0" else "1")):
        refused("ResourceNotFoundException", 404, get, **of(), formName="rules", identifier=odd)
    # A form whose name needs encoding; its whole way through signature, query and table.
    odd = "my form/é&=+%2F\u2603\n"
    point = post(**of("odd", "LISTING"), forms=[form(5, odd)])["forms"][0]
    same([i["id"] for i in items(datazone, of("odd", "LISTING"), odd)], [point["id"]])
    same(get(**of("odd", "LISTING"), formName=odd, identifier=point["id"])["form"]["formName"], odd)
    same(delete(**of("odd", "LISTING"), formName=odd)["ResponseMetadata"]["HTTPStatusCode"], 204)
    same(items(datazone, of("odd", "LISTING"), odd), [])
    same(delete(**of("odd", "LISTING"), formName="never")["ResponseMetadata"]["HTTPStatusCode"], 204)


def times():
    start = datetime.datetime(2024, 5, 1, tzinfo=UTC)
    day = datetime.timedelta(days=1)
    entity = of("times")
    for at in range(5):
        post(**entity, forms=[form(start + at * day)])
    between = lambda **more: [i["timestamp"] for i in items(datazone, entity, **more)]
    all_ = [start + at * day for at in (4, 3, 2, 1, 0)]
    same(between(), all_)
    same(between(startedAt=start + day), all_[:4])
    same(between(endedAt=start + day), all_[3:])
    same(between(startedAt=start + day, endedAt=start + 3 * day), all_[1:4])
    tick = datetime.timedelta(microseconds=1)
    same(between(startedAt=start + day + tick, endedAt=start + 3 * day - tick), [start + 2 * day])
    for size in (1, 2, 50):
        same(between(PaginationConfig={"PageSize": size}), all_)
    invalid(list_, **entity, formName="rules", startedAt=start + day, endedAt=start)
    # Before 1970, and what a number of seconds can hold of it.
    old = post(**of("old"), forms=[form(-1.5), form(0), form(0.000001)])["forms"]
    same([i["id"] for i in items(datazone, of("old"))], [old[2]["id"], old[1]["id"], old[0]["id"]])
    invalid(post, **of("old"), forms=[form(1e11)])


def constraints():
    one = [form(1)]
    for domain, is_good in [("dzd_a", True), ("dzd-" + "a" * 36, True), ("dzd-" + "a" * 37, False),
                            ("dzd_", False), ("dzd+a", False), ("xdzd_a", False), ("dzd_a/b", False)]:
        check(is_good, post, **of("e", domain=domain), forms=one)
    for entity, is_good in [("e", True), ("_-aZ9", True), ("e" * 36, True), ("e" * 37, False), ("", False),
                            ("e f", False), ("e/f", False), ("é", False)]:
        check(is_good, post, **of(entity), forms=one)
    for kind, is_good in [("ASSET", True), ("LISTING", True), ("asset", False), ("TABLE", False)]:
        check(is_good, post, **of("e", kind), forms=one)
    for member, value, is_good in [
        ("formName", "f" * 128, True), ("formName", "f" * 129, False), ("formName", "\u2603" * 128, True),
        ("typeIdentifier", "t" * 385, True), ("typeIdentifier", "t" * 386, False),
        ("typeIdentifier", ".t", False), ("typeIdentifier", "t.", False), ("typeIdentifier", "a.b.C_9", True),
        ("typeRevision", "r" * 64, True), ("typeRevision", "r" * 65, False),
        ("content", "", True), ("content", "c" * 500_000, True), ("content", "c" * 500_001, False),
        ("content", "\U0001F600" * 500_000, True), ("content", "\U0001F600" * 500_001, False),
    ]:
        check(is_good, post, **of("e"), forms=[{**one[0], member: value}])
    check(False, post, **of("e"), forms=[])
    check(True, post, **of("e"), forms=[form(at) for at in range(1000)])
    for token, is_good in [("!~", True), ("t" * 128, True), ("t" * 129, False), ("a b", False), ("é", False)]:
        check(is_good, post, **of("e"), forms=one, clientToken=token)
        if is_good:
            token = token[:-1] + "d"
        check(is_good, delete, **of("e"), formName="none", clientToken=token)
    for results, is_good in [(1, True), (50, True), (51, False)]:
        check(is_good, list_, **of("e"), formName="rules", maxResults=results)
    check(False, list_, **of("e"), formName="rules", nextToken="x" * 8192)
    check(False, list_, **of("e"), formName="rules", nextToken="x" * 8193)
    check(False, list_, **of("e"), formName="f" * 129)
    check(False, get, **of("e"), formName="f" * 129, identifier="x")
    check(False, get, **of("e"), formName="rules", identifier="x" * 37)
    check(False, get, **of("e"), formName="rules", identifier="x/y")
    check(False, delete, **of("e"), formName="f" * 129)
    # The longest content comes back whole, and its summary is its beginning.
    entity, longest = of("long"), "\U0001F600" * 250_000 + "é" * 250_000
    point = post(**entity, forms=[form(7, content=longest)])["forms"][0]
    same(get(**entity, formName="rules", identifier=point["id"])["form"]["content"], longest)
    same(items(datazone, entity)[0]["contentSummary"], longest[:20_000])
    for chars in (19_999, 20_000, 20_001):
        name = f"of {chars}"
        post(**entity, forms=[form(7, name, content="c" * chars)])
        same(len(items(datazone, entity, name)[0]["contentSummary"]), min(chars, 20_000))


def check(is_good, call, **more):
    if is_good:
        call(**more)
    else:
        invalid(call, **more)


def tokens():
    entity = of("tokens")
    ask = {**entity, "forms": [form(1), form(2.5)], "clientToken": "one"}
    first = post(**ask)
    for _ in range(3):
        again = post(**ask)
        same([again["forms"], again["ResponseMetadata"]["HTTPStatusCode"]], [first["forms"], 201])
    same(len(items(datazone, entity)), 2)
    for other in ({"forms": [form(1)]}, {"forms": [form(1), form(2.5, content="x")]}):
        refused("ConflictException", 409, post, **{**ask, **other})
    # A token is of its entity, and of its operation.
    post(**{**ask, **of("tokens2")})
    refused("ValidationException", 400, delete, **entity, formName="rules", clientToken="one")
    delete(**entity, formName="rules", clientToken="two")
    same(items(datazone, entity), [])
    refused("ValidationException", 400, delete, **entity, formName="other", clientToken="two")
    refused("ConflictException", 409, post, **{**ask, "clientToken": "two"})
    kept = post(**entity, forms=[form(3)])["forms"][0]
    delete(**entity, formName="rules", clientToken="two")
    same([i["id"] for i in items(datazone, entity)], [kept["id"]])
    # The first answer of what was deleted since is still the first answer.
    same(post(**ask)["forms"], first["forms"])
    same(len(items(datazone, entity)), 1)
    # Repetitions at the same time are one Post.
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(**{**ask, "clientToken": "many"})["forms"], range(16)))
    same(all(answer == answers[0] for answer in answers), True)
    same(len(items(datazone, entity)), 3)


def raw(method, path, body=None, **headers):
    """Status, headers and body of a request that no SDK would send."""
    request = urllib.request.Request(URL + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def requests():
    points = "/v2/domains/dzd_a/entities/ASSET/raw/time-series-data-points"
    body = json.dumps({"forms": [form(1)], "unknown": 1}).encode()
    status, headers, answer = raw("POST", points, body)
    same((status, headers["content-type"]), (201, "application/json"))
    point = json.loads(answer)["forms"][0]
    same(point["timestamp"], 1)
    same(set(point), {"formName", "typeIdentifier", "typeRevision", "timestamp", "content", "id"})
    same(raw("GET", f"{points}?formName=rules&unknown=1&formName=other")[0], 200)
    same(raw("GET", f"{points}/{point['id']}?formName=rules")[0], 200)
    same(raw("GET", points.replace("raw", "%72aw") + "?formName=rules")[0], 200)
    for method, path, status, code in [
        ("PUT", points, 405, "MethodNotAllowedException"),
        ("PATCH", points, 405, "MethodNotAllowedException"),
        ("HEAD", points, 405, "MethodNotAllowedException"),
        ("POST", points + "/x", 405, "MethodNotAllowedException"),
        ("DELETE", points + "/x", 405, "MethodNotAllowedException"),
        ("GET", points, 400, "ValidationException"),
        ("DELETE", points, 400, "ValidationException"),
        ("GET", points + "/?formName=rules", 400, "ValidationException"),
        ("GET", points + "?formName=%zz", 400, "ValidationException"),
        ("GET", points.replace("raw", "r%2Fw") + "?formName=rules", 400, "ValidationException"),
        ("GET", points.replace("raw", "") + "?formName=rules", 400, "ValidationException"),
        ("GET", points.replace("raw", "%zz") + "?formName=rules", 400, "ValidationException"),
        ("GET", points + "/x/y", 404, "ResourceNotFoundException"),
        ("GET", "/v2/domains/dzd_a/form-types/x", 404, "ResourceNotFoundException"),
    ]:
        found, headers, answer = raw(method, path)
        same((method, path, found, headers["x-amzn-errortype"]), (method, path, status, code))
        if method != "HEAD":
            same(list(json.loads(answer)), ["message"])
        if status == 405:
            same(headers["allow"] is not None, True)
    for body in (b"", b"{", b"[]", b'{"forms":5}', b'{"forms":[{}]}', b"\xff"):
        status, headers, _ = raw("POST", points, body)
        same((status, headers["x-amzn-errortype"]), (400, "ValidationException"))
    status, headers, _ = raw("POST", points, b" " * (33 << 20))
    same((status, headers["x-amzn-errortype"]), (413, "RequestEntityTooLargeException"))


for part in (operations, times, constraints, tokens, requests):
    part()
print("all operations, constraints, tokens and requests")
