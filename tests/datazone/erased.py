"""Posts two forms to two entities, and deletes one form of one."""

import sys

from aws import client, form, items, of, same

datazone = client()
for entity in ("left", "right"):
    for name in ("goes-away", "stays-here"):
        forms = [form(86_400 * at, name, content=f"{entity}.{name}.{at}") for at in range(20)]
        datazone.post_time_series_data_points(**of(entity), forms=forms)
if sys.argv[2] == "delete":
    datazone.delete_time_series_data_points(**of("left"), formName="goes-away")
    found = {(entity, name): len(items(datazone, of(entity), name))
             for entity in ("left", "right") for name in ("goes-away", "stays-here")}
    same(found.pop(("left", "goes-away")), 0)
    same(set(found.values()), {int(sys.argv[3])})
print("erased")
