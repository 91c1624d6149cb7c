"""10,000 points page by page, while others post to the same form and to others."""

import threading

from aws import client, form, items, of, same

COUNT, CHUNK = 10_000, 500
datazone = client()
entity = of("pages")
there = []
for begin in range(0, COUNT, CHUNK):
    # Every second time twice, so that pages end within a time.
    forms = [form(1_700_000_000 + (at // 2) * 60) for at in range(begin, begin + CHUNK)]
    there += [point["id"] for point in datazone.post_time_series_data_points(**entity, forms=forms)["forms"]]
same(len(set(there)), COUNT)

over, posted = threading.Event(), []


def others(number):
    mine, at = client(), 0
    while not over.is_set():
        # Newer, older, and in the middle of what is being listed.
        times = [1_800_000_000 + at, 1_600_000_000 + at, 1_700_000_000 + at * 60]
        answer = mine.post_time_series_data_points(**entity, forms=[form(time) for time in times])
        mine.post_time_series_data_points(**of(f"pages{number}"), forms=[form(1_700_000_000)])
        posted.extend(point["id"] for point in answer["forms"])
        at += 1


threads = [threading.Thread(target=others, args=(number,)) for number in range(2)]
for thread in threads:
    thread.start()
try:
    listed = items(datazone, entity)
finally:
    over.set()
    for thread in threads:
        thread.join()
ids = [item["id"] for item in listed]
same(len(set(ids)), len(ids))
same([id for id in ids if id in set(there)], sorted(there, reverse=True))
assert set(ids) <= set(there) | set(posted)
assert posted, "nobody posted meanwhile"
times = [item["timestamp"] for item in listed]
same(times, sorted(times, reverse=True))
# And all of them afterwards.
same({item["id"] for item in items(datazone, entity)}, set(there) | set(posted))
print(f"{len(ids)} points in pages while {len(posted)} were posted")
