// Every operation once, by the SDK for JavaScript; by URL, or by the environment and discovery.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(new URL("../.tools/js/", import.meta.url));
const sdk = require("@aws-sdk/client-timestream-write");

const [url, DatabaseName] = process.argv.slice(2);
const client = new sdk.TimestreamWriteClient({
  region: "eu-west-1",
  credentials: { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "any" },
  maxAttempts: 1,
  ...(url === "discover" ? {} : { endpoint: url }),
});
const call = (name, input = {}) => client.send(new sdk[`${name}Command`](input));
const refused = async (status, name, operation, input) => {
  const error = await call(operation, input).then(() => null, (error) => error);
  assert.equal(error?.name, name, `${operation}: ${error}`);
  assert.equal(error.$metadata.httpStatusCode, status);
  assert.equal(error.$metadata.requestId.length, 26);
  assert.ok(error.message.length > 0);
  return error;
};

const TableName = "cpu";
const ARN = `arn:aws:timestream:eu-west-1:000000000000:database/${DatabaseName}`;
const made = await call("CreateDatabase", { DatabaseName, Tags: [{ Key: "k", Value: "" }] });
assert.equal(made.Database.Arn, ARN);
assert.ok(Math.abs(made.Database.CreationTime - Date.now()) < 60_000);
await refused(409, "ConflictException", "CreateDatabase", { DatabaseName });
assert.deepEqual((await call("DescribeDatabase", { DatabaseName })).Database, made.Database);
const updated = await call("UpdateDatabase", { DatabaseName, KmsKeyId: "alias/x" });
assert.equal(updated.Database.KmsKeyId, "alias/x");
const names = (await call("ListDatabases")).Databases.map((database) => database.DatabaseName);
assert.ok(names.includes(DatabaseName));

const table = (await call("CreateTable", { DatabaseName, TableName })).Table;
assert.equal(table.TableStatus, "ACTIVE");
assert.deepEqual((await call("DescribeTable", { DatabaseName, TableName })).Table, table);
const RetentionProperties = { MemoryStoreRetentionPeriodInHours: 9, MagneticStoreRetentionPeriodInDays: 8 };
const changed = await call("UpdateTable", { DatabaseName, TableName, RetentionProperties });
assert.deepEqual(changed.Table.RetentionProperties, RetentionProperties);
assert.equal((await call("ListTables", { DatabaseName })).Tables.length, 1);
await call("TagResource", { ResourceARN: ARN, Tags: [{ Key: "a", Value: "b" }] });
await call("UntagResource", { ResourceARN: ARN, TagKeys: ["k"] });
assert.deepEqual((await call("ListTagsForResource", { ResourceARN: ARN })).Tags, [{ Key: "a", Value: "b" }]);

const record = (host, MeasureValue, more = {}) => ({
  Dimensions: [{ Name: "host", Value: host }], MeasureName: "é☃", MeasureValue,
  Time: String(1_000_000 * Math.floor(Date.now() / 1_000_000)), ...more,
});
const written = await call("WriteRecords", { DatabaseName, TableName, Records: [record("a", "1"), record("b", "2")] });
assert.deepEqual(written.RecordsIngested, { Total: 2, MemoryStore: 2, MagneticStore: 0 });
const error = await refused(419, "RejectedRecordsException", "WriteRecords", {
  DatabaseName, TableName, Records: [record("c", "1"), record("a", "7")],
});
assert.equal(error.RejectedRecords.length, 1);
assert.equal(error.RejectedRecords[0].RecordIndex, 1);
assert.equal(error.RejectedRecords[0].ExistingVersion, 1);
assert.match(error.RejectedRecords[0].Reason, /^A record already exists with the same time/);
await refused(400, "ValidationException", "WriteRecords", {
  DatabaseName, TableName, Records: [record("a", "1", { Version: 0 })],
});
await refused(404, "ResourceNotFoundException", "WriteRecords", {
  DatabaseName, TableName: "none", Records: [record("a", "1")],
});

const { Endpoints } = await call("DescribeEndpoints");
assert.deepEqual(Endpoints, [{ Address: "127.0.0.1", CachePeriodInMinutes: 1440 }]);

const place = { BucketName: "not-there", ObjectKeyPrefix: "loads" };
const { TaskId } = await call("CreateBatchLoadTask", {
  TargetDatabaseName: DatabaseName, TargetTableName: TableName,
  DataSourceConfiguration: { DataFormat: "CSV", DataSourceS3Configuration: place },
  ReportConfiguration: { ReportS3Configuration: place },
  DataModelConfiguration: { DataModel: {
    TimeColumn: "time", DimensionMappings: [{ SourceColumn: "host" }],
    MultiMeasureMappings: {
      TargetMultiMeasureName: "m",
      MultiMeasureAttributeMappings: [{ SourceColumn: "v", MeasureValueType: "DOUBLE" }],
    },
  } },
});
const describe = async () => (await call("DescribeBatchLoadTask", { TaskId })).BatchLoadTaskDescription;
const end = Date.now() + 60_000;
while ((await describe()).TaskStatus !== "FAILED") {
  assert.ok(Date.now() < end, "a load from nowhere ends");
  await new Promise((resolve) => setTimeout(resolve, 50));
}
assert.ok((await call("ListBatchLoadTasks")).BatchLoadTasks.some((task) => task.TaskId === TaskId));
await refused(400, "ValidationException", "ResumeBatchLoadTask", { TaskId });
await refused(400, "ValidationException", "DeleteDatabase", { DatabaseName });
await call("DeleteTable", { DatabaseName, TableName });
await call("DeleteDatabase", { DatabaseName });
await refused(404, "ResourceNotFoundException", "DescribeDatabase", { DatabaseName });
console.log("the SDK for JavaScript ran every operation,", url === "discover" ? "by discovery" : "by URL");
