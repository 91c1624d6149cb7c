"""Posts and deletes until the server is gone, and says in a ledger what it is about to do and what was
answered. Before that it holds the server against the ledger: each answered Post is there, nothing is left
of what an answered Delete removed, and what was under way is done again with its token."""

import json
import random
import sys
import threading

from botocore.exceptions import BotoCoreError, HTTPClientError

from aws import client, form, items, of, same

phase, path, seed = sys.argv[2:]
THREADS, FORMS = 4, ("a", "b")
write = threading.Lock()


def note(file, **what):
    with write:
        file.write(json.dumps(what) + "\n")
        file.flush()


def execute(datazone, op):
    """The ids that a Post gives; nothing of a Delete."""
    entity = of(f"storm{op['thread']}")
    if op["do"] == "delete":
        datazone.delete_time_series_data_points(**entity, formName=op["form"], clientToken=op["token"])
        return []
    forms = [form(at, op["form"], content=f"{op['token']}.{at}") for at in op["times"]]
    answer = datazone.post_time_series_data_points(**entity, forms=forms, clientToken=op["token"])
    return [point["id"] for point in answer["forms"]]


def standing():
    """By thread: the points of each form that were answered, and what was asked last without an answer."""
    points = {(thread, name): set() for thread in range(THREADS) for name in FORMS}
    asked, posted, count = {}, set(), 0
    with open(path) as file:
        for line in map(json.loads, file):
            op = line["op"]
            if "ids" not in line:
                asked[op["thread"]] = op
                continue
            asked.pop(op["thread"])
            posted.add(op["thread"])
            count += 1
            apply(points, op, line["ids"])
    return points, asked, posted, count


def apply(points, op, ids):
    if op["do"] == "delete":
        points[op["thread"], op["form"]] = set()
    else:
        points[op["thread"], op["form"]] |= set(ids)


def check(datazone, file):
    points, asked, posted, count = standing()
    for op in asked.values():
        ids = execute(datazone, op)
        note(file, op=op, ids=ids)
        apply(points, op, ids)
        posted.add(op["thread"])
    for (thread, name), expected in points.items():
        if thread not in posted:
            # Nobody knows the entity yet.
            continue
        found = [item["id"] for item in items(datazone, of(f"storm{thread}"), name)]
        same(len(found), len(set(found)))
        same(set(found), expected)
    return posted, count


def storm(thread, is_known, file):
    random_, datazone = random.Random(f"{seed}.{thread}"), client()
    try:
        for at in range(1_000_000):
            name = random_.choice(FORMS)
            op = {"thread": thread, "form": name, "token": f"{seed}.{thread}.{at}", "do": "post",
                  "times": [random_.randrange(2_000_000_000) for _ in range(random_.randrange(1, 4))]}
            # The first one makes the entity known.
            if (is_known or at) and random_.random() < 0.2:
                op["do"] = "delete"
            note(file, op=op)
            note(file, op=op, ids=execute(datazone, op))
    except (BotoCoreError, HTTPClientError):
        return
    except BaseException as error:
        failed.append(repr(error))


failed = []
with open(path, "a") as ledger:
    posted, done = check(client(), ledger)
    if phase == "storm":
        threads = [threading.Thread(target=storm, args=(at, at in posted, ledger)) for at in range(THREADS)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
same(failed, [])
print(f"storm {seed}: {done} answered requests hold")
