//! The table of all metrics: `tidegate_<module>_<noun>_<unit>[_total]`, base units, bounded labels.

use prometheus::{Counter, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::latency::Latency;

macro_rules! catalog {
    ($($field:ident: $kind:ident $(($($label:literal),+))? = $name:literal, $help:literal;)+) => {
        /// Every metric of the process.
        #[derive(Debug, Clone)]
        pub struct Metrics {
            pub(super) registry: Registry,
            $(#[doc = $help] pub $field: $kind,)+
        }

        impl Metrics {
            /// All metrics at zero, registered.
            ///
            /// # Errors
            ///
            /// Only when the table above is wrong, which its test excludes.
            pub fn new() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                $(
                    let $field = make!($kind, $name, $help $(, $($label),+)?)?;
                    registry.register(Box::new($field.clone()))?;
                )+
                let metrics = Self { registry, $($field,)+ };
                metrics.start_at_zero();
                Ok(metrics)
            }
        }
    };
}

macro_rules! make {
    (Latency, $name:literal, $help:literal) => {
        Latency::new($name, $help)
    };
    ($kind:ident, $name:literal, $help:literal) => {
        $kind::with_opts(Opts::new($name, $help))
    };
    ($kind:ident, $name:literal, $help:literal, $($label:literal),+) => {
        $kind::new(Opts::new($name, $help), &[$($label),+])
    };
}

catalog! {
    build_info: IntGaugeVec("version") = "tidegate_build_info", "1, with the version as a label";
    start_time_seconds: IntGauge = "tidegate_start_time_seconds", "When the process started, seconds since 1970";
    http_requests: IntCounterVec("endpoint", "code") = "tidegate_http_requests_total", "Requests answered, by endpoint and status";
    http_request_duration: Latency = "tidegate_http_request_duration_seconds", "From a request's header to its answer";
    http_body_bytes: IntCounter = "tidegate_http_request_body_bytes_total", "Bytes of request bodies on the wire";
    http_inflated_bytes: IntCounter = "tidegate_http_inflated_body_bytes_total", "Bytes of request bodies after decompression";
    http_connections: IntGauge = "tidegate_http_connections", "Open connections";
    http_in_flight: IntGauge = "tidegate_http_requests_in_flight", "Requests being answered";
    repeated_writes: IntCounter = "tidegate_api_repeated_writes_total", "Writes and changes of the catalog that were answered as the same request was before";
    answers_forgotten: IntCounter = "tidegate_api_answers_forgotten_total", "Answers to writes given up before their time, for want of room";
    ingest_records: IntCounterVec("protocol") = "tidegate_ingest_records_total", "Records accepted, by protocol";
    ingest_refused: IntCounterVec("reason") = "tidegate_ingest_refused_records_total", "Records refused before the log, by reason";
    ingest_ack_duration: Latency = "tidegate_ingest_ack_duration_seconds", "From a decoded request to its acknowledgement";
    ingest_in_flight_bytes: IntGauge = "tidegate_ingest_in_flight_bytes", "Bytes of requests admitted and not yet acknowledged";
    ingest_busy: IntCounterVec("cause") = "tidegate_ingest_busy_total", "Requests answered 503, by what was full";
    wal_appended_lsn: IntGauge = "tidegate_wal_appended_lsn", "Last frame appended";
    wal_durable_lsn: IntGauge = "tidegate_wal_durable_lsn", "Last frame synced";
    wal_applied_lsn: IntGauge = "tidegate_wal_applied_lsn", "Last frame that the engine has executed";
    wal_checkpoint_lsn: IntGauge = "tidegate_wal_checkpoint_lsn", "Last frame that is stored outside the log";
    wal_size_bytes: IntGauge = "tidegate_wal_size_bytes", "Bytes of segments that hold unstored frames";
    wal_limit_bytes: IntGauge = "tidegate_wal_limit_bytes", "Most bytes that such segments may take";
    wal_segments: IntGauge = "tidegate_wal_segments", "Segments that hold unstored frames";
    wal_retained_segments: IntGauge = "tidegate_wal_retained_segments", "Segments below the checkpoint that are kept to be sent again";
    wal_retained_bytes: IntGauge = "tidegate_wal_retained_bytes", "Bytes of them";
    wal_frames: IntCounter = "tidegate_wal_frames_total", "Frames committed";
    wal_frame_bytes: IntCounter = "tidegate_wal_frame_bytes_total", "Bytes of frames committed";
    wal_syncs: IntCounter = "tidegate_wal_syncs_total", "Syncs of the log";
    wal_sync_duration: Latency = "tidegate_wal_sync_duration_seconds", "One sync of the log";
    wal_poisoned: IntGauge = "tidegate_wal_poisoned", "1 after a failed sync, until the restart";
    shard_queue_frames: IntGaugeVec("shard") = "tidegate_shard_queue_frames", "Frames waiting for a shard";
    shard_records: IntCounterVec("shard") = "tidegate_shard_records_total", "Records that a shard has written";
    shard_dropped_records: IntCounter = "tidegate_shard_dropped_records_total", "Records dropped because their table was deleted";
    shard_retries: IntCounter = "tidegate_shard_retries_total", "Engine calls that were tried again";
    shard_visible_delay: Latency = "tidegate_shard_visible_delay_seconds", "From a request's receipt until its records are in the engine";
    batch_batches: IntCounterVec("cause") = "tidegate_batch_batches_total", "Batches given to the engine, by what closed them";
    batch_records: IntCounter = "tidegate_batch_records_total", "Records in them";
    batch_saved_bytes: IntCounter = "tidegate_batch_common_attributes_saved_bytes_total", "Bytes of names and values said once a batch instead of once a record";
    engine_outcomes: IntCounterVec("outcome") = "tidegate_engine_outcomes_total", "Records by what the engine did with them";
    engine_memory_bytes: IntGauge = "tidegate_engine_memory_bytes", "Bytes of the memory store";
    engine_memory_limit_bytes: IntGauge = "tidegate_engine_memory_limit_bytes", "Most bytes that the memory store may take";
    engine_memory_rows: IntGauge = "tidegate_engine_memory_rows", "Rows in the memory store";
    engine_series: IntGauge = "tidegate_engine_series", "Series known in memory";
    engine_files: IntGauge = "tidegate_engine_files", "Files of the magnetic store";
    engine_file_bytes: IntGauge = "tidegate_engine_file_bytes", "Their bytes";
    engine_compactions: IntCounter = "tidegate_engine_compactions_total", "Times that small files became one";
    engine_compacted_files: IntCounter = "tidegate_engine_compacted_files_total", "Files that did";
    engine_compacted_bytes: IntCounter = "tidegate_engine_compacted_bytes_total", "Bytes written for it";
    engine_expired_files: IntCounter = "tidegate_engine_expired_files_total", "Files dropped since all their rows had expired";
    engine_expired_rows: IntCounter = "tidegate_engine_expired_rows_total", "Their rows";
    engine_expired_bytes: IntCounter = "tidegate_engine_expired_bytes_total", "Their bytes";
    engine_deleted_files: IntCounter = "tidegate_engine_deleted_files_total", "Files dropped with their table";
    load_tasks: IntGaugeVec("status") = "tidegate_load_tasks", "Batch-load tasks that are known, by status";
    load_records: IntCounterVec("outcome") = "tidegate_load_records_total", "Records of batch loads, by what became of them";
    load_source_retries: IntCounter = "tidegate_load_source_retries_total", "Reads of a source, and writes of a report, that were tried again";
    engine_remote_sessions: IntGauge = "tidegate_engine_remote_sessions", "Open connections to a database elsewhere";
    engine_remote_sessions_made: IntCounter = "tidegate_engine_remote_sessions_made_total", "Connections that were made to it";
    engine_remote_transactions: IntCounter = "tidegate_engine_remote_transactions_total", "Transactions that it has committed";
    engine_remote_undone: IntCounter = "tidegate_engine_remote_undone_turns_total", "Turns of a shard that were undone and done again";
    engine_remote_statements: IntCounter = "tidegate_engine_remote_statements_total", "Statements that were sent to it";
    engine_remote_statement_seconds: Counter = "tidegate_engine_remote_statement_seconds_total", "How long their answers took altogether";
    upstream_requests: IntCounter = "tidegate_engine_upstream_requests_total", "Requests that the server behind the engine took";
    upstream_records: IntCounter = "tidegate_engine_upstream_records_total", "Records in them";
    upstream_sent_bytes: IntCounter = "tidegate_engine_upstream_sent_bytes_total", "Bytes of request bodies sent to it, those sent again too";
    upstream_saved_bytes: IntCounter = "tidegate_engine_upstream_saved_bytes_total", "Bytes not sent to it because they were common to all records of a request";
    upstream_metered_bytes: IntCounter = "tidegate_engine_upstream_metered_bytes_total", "Bytes that Timestream would meter of them, whole KiB a request";
    upstream_single_bytes: IntCounter = "tidegate_engine_upstream_single_metered_bytes_total", "The same if each request carried one record";
    reject_records: IntCounterVec("reason") = "tidegate_reject_records_total", "Records and lines that were refused for good, each of them reported, by reason";
    reject_reports: IntCounter = "tidegate_reject_reports_total", "Reports written";
    reject_retries: IntCounter = "tidegate_reject_retries_total", "Reports that had to be tried again";
}

/// Who sent a record.
pub const PROTOCOLS: [&str; 5] = ["line", "json", "timestream", "datazone", "batch"];

/// What can be full.
pub const BUSY_CAUSES: [&str; 5] = ["memory", "wal", "catalog", "starting", "stopping"];

/// Marks that the load generator reads back from the server that it loads.
pub const WAL_MARKS: [&str; 2] = ["tidegate_wal_applied_lsn", "tidegate_wal_durable_lsn"];

/// What an engine does with a record.
pub const OUTCOMES: [&str; 4] = ["stored", "updated", "unchanged", "rejected"];

/// What becomes of a record of a batch load.
pub const LOAD_OUTCOMES: [&str; 3] = ["ingested", "parse_failure", "ingestion_failure"];

/// What closes a batch.
pub const BATCH_CAUSES: [&str; 2] = ["full", "drained"];

impl Metrics {
    /// Makes every label that can occur, so that a rate sees the first event.
    fn start_at_zero(&self) {
        self.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for (family, labels) in [
            (&self.ingest_records, &PROTOCOLS[..]),
            (&self.ingest_busy, &BUSY_CAUSES),
            (&self.engine_outcomes, &OUTCOMES),
            (&self.batch_batches, &BATCH_CAUSES),
            (&self.load_records, &LOAD_OUTCOMES),
        ] {
            for label in labels {
                family.with_label_values(&[*label]).reset();
            }
        }
    }

    /// The same for the reasons of refusals, whose list a neighbour of this module has.
    pub fn start_reasons_at_zero(&self, reasons: impl IntoIterator<Item = &'static str>) {
        for reason in reasons {
            self.ingest_refused.with_label_values(&[reason]).reset();
            self.reject_records.with_label_values(&[reason]).reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_printed_and_named_by_the_rule() {
        let metrics = Metrics::new().unwrap();
        metrics.start_reasons_at_zero(["version_conflict"]);
        let text = metrics.text().unwrap();
        for family in metrics.registry.gather() {
            let name = family.name();
            assert!(name.starts_with("tidegate_"), "{name}");
            let is_counter = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        }
        assert!(WAL_MARKS.iter().all(|mark| text.contains(&format!("\n{mark} "))));
        assert!(text.contains("tidegate_reject_records_total{reason=\"version_conflict\"} 0"));
    }
}
