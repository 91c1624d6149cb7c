"""Sources, models and reports in Azure Blob Storage."""

import gzip

from loads import *  # noqa: F403

ts.create_database(DatabaseName="loads")
ts.create_table(DatabaseName="loads", TableName="rows")
store.put("reports", "r/keep.txt", b"")
# Larger than a block of the gateway's, so that it is fetched by ranges.
store.put("source", "a/one.csv", HEADER + rows(150_000))
store.put("source", "a/two.csv.gz", gzip.compress((HEADER + rows(200, first=150_000)).encode()))
store.put("source", "ab/other.csv", HEADER + rows(1))
store.put("source", "model.json", json.dumps(MODEL))
model = {"DataModelS3Configuration": {"BucketName": "source", "ObjectKey": "model.json"}}
found = load("a/", model=model)
same((found["TaskStatus"], counts(found)), ("SUCCEEDED", (150_200, 150_200, 0, 0, 0)))
store.put("source", "bad.csv", HEADER + rows(3) + f"{NOW},h,x,1\n")
found = load("bad.csv")
same((found["TaskStatus"], counts(found)), ("FAILED", (4, 3, 1, 0, 0)))
contains(found["ErrorMessage"], "the error report is az://reports/r/" + found["TaskId"])
(file,) = report(found)["fileErrors"]
same((file["fileName"], file["errors"][0]["lineRanges"]), ("bad.csv", [[5, 5]]))
found = load("x", bucket="nobody")
same(found["TaskStatus"], "FAILED")
contains(found["ErrorMessage"], "cannot list az://nobody/x: there is no such bucket")
contains(load("none/")["ErrorMessage"], "no object in az://source")
print("Azure Blob Storage has source, model and report")
