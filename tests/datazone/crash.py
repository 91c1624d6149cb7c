"""Before and after `kill -9`: what was posted, deleted and answered."""

import json
import sys

from aws import client, form, items, of, refused, same

datazone = client()
post, delete = datazone.post_time_series_data_points, datazone.delete_time_series_data_points
phase, path = sys.argv[2], sys.argv[3]
entity = of("crash")
first = {**entity, "forms": [form(1), form(1), form(2)], "clientToken": "first"}
gone = {**entity, "forms": [form(at, "gone") for at in range(20)], "clientToken": "gone"}
plain = lambda forms: [{**form, "timestamp": form["timestamp"].timestamp()} for form in forms]

if phase == "before":
    answers = {"first": plain(post(**first)["forms"]), "gone": plain(post(**gone)["forms"])}
    delete(**entity, formName="gone", clientToken="delete")
    answers["after"] = [point["id"] for point in post(**entity, forms=[form(3, "gone")])["forms"]]
    with open(path, "w") as file:
        json.dump(answers, file)
else:
    with open(path) as file:
        answers = json.load(file)
    same(plain(post(**first)["forms"]), answers["first"])
    same(plain(post(**gone)["forms"]), answers["gone"])
    refused("ConflictException", 409, post, **{**first, "forms": [form(9)]})
    refused("ValidationException", 400, delete, **entity, formName="rules", clientToken="delete")
    # Its repetition deletes nothing that came after it.
    delete(**entity, formName="gone", clientToken="delete")
    same([item["id"] for item in items(datazone, entity, "gone")], answers["after"])
    same({item["id"] for item in items(datazone, entity)}, {point["id"] for point in answers["first"]})
print(f"crash, {phase}")
