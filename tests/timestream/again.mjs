// Writes through a port that hangs up on every first attempt: `node again.mjs URL DATABASE CALLS`.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(new URL("../.tools/js/", import.meta.url));
const { TimestreamWriteClient, WriteRecordsCommand } = require("@aws-sdk/client-timestream-write");

const [endpoint, DatabaseName, calls] = process.argv.slice(2);
const credentials = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "any" };
const client = new TimestreamWriteClient({ endpoint, region: "eu-west-1", credentials, maxAttempts: 5 });
for (let number = 0; number < Number(calls); number += 1) {
  // The second supersedes the first: executed again, the first would be refused.
  const Records = [1, 2].map((version) => ({
    Dimensions: [{ Name: "host", Value: `js-${number}` }],
    MeasureName: "m",
    MeasureValue: String(version),
    Version: version,
    Time: String(Date.now() - (Date.now() % 60000)),
  }));
  const answer = await client.send(new WriteRecordsCommand({ DatabaseName, TableName: "cpu", Records }));
  assert.equal(answer.RecordsIngested.Total, 2);
  assert.equal(answer.$metadata.attempts, 2);
}
