//! Every limit of a record, in one place, each with its source. Limits of a request as bytes on a
//! socket belong to `http`, limits of the log to `wal`.

/// Most records one batch, or one `WriteRecords` request, may carry.
/// Source: Timestream developer guide, "Quotas".
pub const RECORDS_PER_REQUEST_MAX: usize = 100;

/// Most dimensions of one record. Source: Timestream developer guide, "Quotas".
pub const DIMENSIONS_MAX: usize = 128;

/// Most attributes of one record in a relaxed table. Timestream's own limit is 256; agents that
/// send line protocol write wider records.
pub const ATTRIBUTES_MAX: usize = 1024;

/// Longest database or table name, in bytes. Source: Timestream developer guide, "Quotas".
pub const TABLE_NAME_BYTES_MAX: usize = 256;

/// Most databases. Source: Timestream developer guide, "Quotas".
pub const DATABASES_MAX: usize = 500;

/// Most tables of all databases. Source: Timestream developer guide, "Quotas".
pub const TABLES_MAX: usize = 50_000;

/// Most attribute columns of one table, unless its settings say otherwise.
/// Source: Timestream developer guide, "Quotas", unique measures across MULTI records per table.
pub const COLUMNS_PER_TABLE_MAX: usize = 1024;

/// Hours in the memory store of a table, unless it is made with others.
/// Source: Timestream developer guide, "Quotas".
pub const MEMORY_RETENTION_HOURS_DEFAULT: u32 = 6;

/// Most hours in the memory store of a table. Source: Timestream developer guide, "Quotas".
pub const MEMORY_RETENTION_HOURS_MAX: u32 = 8_766;

/// Most days in the magnetic store of a table, and the days unless it is made with others.
/// Source: Timestream developer guide, "Quotas".
pub const MAGNETIC_RETENTION_DAYS_MAX: u32 = 73_000;

/// How far ahead of its receipt a record of a strict table may be, ns.
/// Source: Timestream developer guide, "Quotas", future ingestion.
pub const FUTURE_INGESTION_NS_MAX: i64 = 15 * NS_PER_MINUTE;

/// How much longer than its retention a strict table takes a record, ns. Source: the time ranges in
/// refusals of Timestream, which are 40 minutes longer than the retentions: what the future leaves.
pub const LATE_INGESTION_NS_MAX: i64 = 25 * NS_PER_MINUTE;

const NS_PER_MINUTE: i64 = 60_000_000_000;

/// Most tags of a database or table. Source: Timestream API, `TagList`.
pub const TAGS_PER_RESOURCE_MAX: usize = 200;

/// Most characters of a tag's key. Source: Timestream API, `Tag`.
pub const TAG_KEY_CHARS_MAX: usize = 128;

/// Most characters of a tag's value. Source: Timestream API, `Tag`.
pub const TAG_VALUE_CHARS_MAX: usize = 256;

/// Most dimension names of one strict table. Source: Timestream developer guide, "Quotas".
pub const DIMENSIONS_PER_TABLE_MAX: usize = 128;

/// Most measure names of one strict table. Source: Timestream developer guide, "Quotas".
pub const MEASURE_NAMES_PER_TABLE_MAX: usize = 8_192;

/// Most measures of one MULTI record in a strict table. Source: Timestream developer guide, "Quotas".
pub const MEASURES_PER_RECORD_MAX: usize = 256;

/// Longest name of a dimension in a strict table, in bytes.
/// Source: Timestream developer guide, "Quotas".
pub const DIMENSION_NAME_BYTES_MAX: usize = 60;

/// Longest name of a measure in a strict table, in bytes.
/// Source: Timestream developer guide, "Quotas".
pub const MEASURE_NAME_BYTES_MAX: usize = 256;

/// Most bytes of the dimensions of one series in a strict table, names and values.
/// Source: Timestream developer guide, "Quotas".
pub const SERIES_BYTES_MAX: usize = 2_048;

/// Longest value in a strict table, in bytes. Source: Timestream API, `MeasureValue`.
pub const VALUE_BYTES_MAX: usize = 2_048;

/// Most bytes of all values of one record in a strict table.
/// Source: Timestream developer guide, "Quotas".
pub const RECORD_VALUE_BYTES_MAX: usize = 2_048;

/// Shortest name of a database or table in Timestream's API, in bytes.
/// Source: `CloudFormation`, `AWS::Timestream::Table`.
pub const RESOURCE_NAME_BYTES_MIN: usize = 3;

/// Longest measurement, key or tag value of line protocol, in bytes.
/// Source: `InfluxDB` documentation, "Line protocol", limits.
pub const NAME_BYTES_MAX: usize = 65_536;

/// Longest string value of line protocol and JSON, in bytes.
/// Source: `InfluxDB` 3 documentation, "Line protocol", limits.
pub const VARCHAR_BYTES_MAX: usize = 1 << 20;

/// Most characters of the content of a time series data point.
/// Source: Amazon `DataZone` API, `TimeSeriesDataPointFormInput`.
pub const CONTENT_CHARS_MAX: usize = 500_000;

/// Longest string value of any record in a relaxed table, in bytes: the longest content, each of its
/// characters of four bytes.
pub const TEXT_BYTES_MAX: usize = CONTENT_CHARS_MAX * 4;

/// Longest line of line protocol, or text of one JSON record, in bytes.
pub const LINE_BYTES_MAX: usize = 4 << 20;

/// Earliest time of a record. Source: `InfluxDB` 1.12, `models.MinNanoTime`.
pub const TIME_NS_MIN: i64 = i64::MIN + 2;

/// Latest time of a record. Source: `InfluxDB` 1.12, `models.MaxNanoTime`.
pub const TIME_NS_MAX: i64 = i64::MAX - 1;

/// Most refusals that one reply names; the rest is counted. Source: `InfluxDB` Cloud documentation,
/// "Troubleshoot issues writing data".
pub const REFUSALS_NAMED_MAX: usize = 100;

/// Most bytes of a refused line that a reply quotes.
pub const REFUSED_TEXT_QUOTED_BYTES_MAX: usize = 256;

const _: () = assert!(VARCHAR_BYTES_MAX < LINE_BYTES_MAX);
const _: () = assert!(VARCHAR_BYTES_MAX <= TEXT_BYTES_MAX);
const _: () = assert!(NAME_BYTES_MAX < LINE_BYTES_MAX);
