//! The table of all metrics: `tidegate_<module>_<noun>_<unit>[_total]`, base units, bounded labels.

use prometheus::{
    Counter, CounterVec, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

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
    server_ready: IntGauge = "tidegate_server_ready", "1 while writes are taken, as /ready says; else 0";
    server_component_up: IntGaugeVec("component") = "tidegate_server_component_up", "1 while a part is well; 0 while /health says that it fails or warns";
    server_disk_free_bytes: IntGaugeVec("folder") = "tidegate_server_disk_free_bytes", "Bytes that can still be written to the file system of a folder; log and data may share one";
    server_disk_size_bytes: IntGaugeVec("folder") = "tidegate_server_disk_size_bytes", "Bytes of the file system of a folder";
    server_private_memory_bytes: IntGauge = "tidegate_server_private_memory_bytes", "Resident memory that is the process's alone: without mapped files such as the log, which the system can take back";
    process_cpu_seconds: Counter = "process_cpu_seconds_total", "User and system time of the processor that the process took";
    process_resident_memory_bytes: IntGauge = "process_resident_memory_bytes", "Resident memory, the mapped log included";
    process_virtual_memory_bytes: IntGauge = "process_virtual_memory_bytes", "Virtual memory of the process";
    process_open_fds: IntGauge = "process_open_fds", "Open file descriptors";
    process_max_fds: IntGauge = "process_max_fds", "Most file descriptors that may be open";
    process_threads: IntGauge = "process_threads", "Threads of the process";
    process_start_time_seconds: IntGauge = "process_start_time_seconds", "When the process started, seconds since 1970";
    http_requests: IntCounterVec("endpoint", "code") = "tidegate_http_requests_total", "Requests answered, by endpoint and status";
    http_request_duration: Latency = "tidegate_http_request_duration_seconds", "From a request's header to its answer";
    http_body_bytes: IntCounter = "tidegate_http_request_body_bytes_total", "Bytes of request bodies on the wire";
    http_inflated_bytes: IntCounter = "tidegate_http_inflated_body_bytes_total", "Bytes of request bodies after decompression";
    http_connections: IntGauge = "tidegate_http_connections", "Open connections of clients";
    http_displaced: IntCounter = "tidegate_http_displaced_connections_total", "Idle connections ended to make room for new ones";
    http_handshake_failures: IntCounter = "tidegate_http_handshake_failures_total", "TLS handshakes that came to nothing";
    http_certificate_expiry: IntGauge = "tidegate_http_certificate_expiry_seconds", "When the first certificate of the chain expires, seconds since 1970; 0 without TLS";
    server_reloads: IntCounter = "tidegate_server_reloads_total", "Times that settings or the certificate were read again and taken";
    server_reload_failures: IntCounter = "tidegate_server_reload_failures_total", "Times that they could not be used, so that all stayed as it was";
    http_in_flight: IntGauge = "tidegate_http_requests_in_flight", "Requests being answered";
    repeated_writes: IntCounter = "tidegate_api_repeated_writes_total", "Writes and changes of the catalog that were answered as the same request was before";
    answers_forgotten: IntCounter = "tidegate_api_answers_forgotten_total", "Answers to writes given up before their time, for want of room";
    ingest_records: IntCounterVec("protocol") = "tidegate_ingest_records_total", "Records accepted, by protocol";
    ingest_requests: IntCounterVec("protocol") = "tidegate_ingest_requests_total", "Write requests that were decoded, by protocol";
    ingest_body_bytes: IntCounterVec("protocol") = "tidegate_ingest_body_bytes_total", "Bytes of bodies of write requests, inflated, by protocol";
    ingest_decoded_records: IntCounterVec("protocol") = "tidegate_ingest_decoded_records_total", "Lines and records that were decoded, refused ones too, by protocol";
    ingest_decode_seconds: CounterVec("protocol") = "tidegate_ingest_decode_seconds_total", "How long threads worked on write requests, by protocol: decode, encode, and hand over to the log";
    ingest_refused: IntCounterVec("reason") = "tidegate_ingest_refused_records_total", "Records refused before the log, by reason";
    ingest_ack_duration: Latency = "tidegate_ingest_ack_duration_seconds", "From a body that was read until its write is acknowledged: decode, append, and the wait for its durability";
    ingest_in_flight_bytes: IntGauge = "tidegate_ingest_in_flight_bytes", "Bytes of requests admitted and not yet acknowledged";
    ingest_memory_limit_bytes: IntGauge = "tidegate_ingest_memory_limit_bytes", "Most bytes that requests may take which are not acknowledged; more are answered 503";
    ingest_busy: IntCounterVec("cause") = "tidegate_ingest_busy_total", "Requests answered 503, by what was full";
    wal_appended_lsn: IntGauge = "tidegate_wal_appended_lsn", "Last frame appended";
    wal_durable_lsn: IntGauge = "tidegate_wal_durable_lsn", "Last frame synced";
    wal_applied_lsn: IntGauge = "tidegate_wal_applied_lsn", "Last frame that the engine has executed";
    wal_checkpoint_lsn: IntGauge = "tidegate_wal_checkpoint_lsn", "Last frame that is stored outside the log";
    wal_size_bytes: IntGauge = "tidegate_wal_size_bytes", "Bytes of segments that hold unstored frames";
    wal_limit_bytes: IntGauge = "tidegate_wal_limit_bytes", "Most bytes that segments may take; then writes are answered 503";
    wal_segments: IntGauge = "tidegate_wal_segments", "Segments that hold unstored frames";
    wal_retained_segments: IntGauge = "tidegate_wal_retained_segments", "Segments below the checkpoint that are kept to be sent again";
    wal_retained_bytes: IntGauge = "tidegate_wal_retained_bytes", "Bytes of segments below the checkpoint that are kept to be sent again";
    wal_pending_bytes: IntGauge = "tidegate_wal_pending_bytes", "Bytes of frames that wait for the next write to the log";
    wal_files_bytes: IntGauge = "tidegate_wal_files_bytes", "Bytes of all segment files: those kept, the spare, and those that wait to be used again, too";
    wal_frames: IntCounter = "tidegate_wal_frames_total", "Frames committed";
    wal_frame_bytes: IntCounter = "tidegate_wal_frame_bytes_total", "Bytes of frames committed";
    wal_syncs: IntCounter = "tidegate_wal_syncs_total", "Syncs of the log";
    wal_sync_duration: Latency = "tidegate_wal_sync_duration_seconds", "One sync of the log";
    wal_poisoned: IntGauge = "tidegate_wal_poisoned", "1 after a failed sync, until the restart";
    shard_queue_frames: IntGaugeVec("shard") = "tidegate_shard_queue_frames", "Frames waiting for a shard";
    shard_queue_limit_frames: IntGauge = "tidegate_shard_queue_limit_frames", "Most frames that may wait for a shard; beyond it they wait in the log";
    shard_turns: IntCounterVec("shard") = "tidegate_shard_turns_total", "Turns of a shard: some frames executed together, and one commit of the engine";
    shard_busy_seconds: CounterVec("shard") = "tidegate_shard_busy_seconds_total", "How long a shard executed frames; a rate near 1 is a shard that does nothing else";
    shard_oldest_unapplied_age: Gauge = "tidegate_shard_oldest_unapplied_age_seconds", "Since when the oldest durable record waits that the engine has not executed: its age since receipt, 0 where there is none";
    shard_records: IntCounterVec("shard") = "tidegate_shard_records_total", "Records that a shard has written";
    shard_dropped_records: IntCounter = "tidegate_shard_dropped_records_total", "Records dropped because their table was deleted";
    shard_retries: IntCounter = "tidegate_shard_retries_total", "Engine calls that were tried again";
    shard_visible_delay: Latency = "tidegate_shard_visible_delay_seconds", "From the receipt of the oldest request of a shard's turn until the turn is in the engine; after a restart with the time that the process was away";
    shard_visible_after_ack: Latency = "tidegate_shard_visible_after_ack_seconds", "From a write's acknowledgement until all of it is in the engine, of one write at a time: the next is followed when the last is visible";
    batch_batches: IntCounterVec("cause") = "tidegate_batch_batches_total", "Batches given to the engine, by what closed them";
    batch_records: IntCounter = "tidegate_batch_records_total", "Records in batches given to the engine";
    batch_saved_bytes: IntCounter = "tidegate_batch_common_attributes_saved_bytes_total", "Bytes of names and values said once a batch instead of once a record";
    engine_outcomes: IntCounterVec("outcome") = "tidegate_engine_outcomes_total", "Records by what the engine did with them";
    engine_memory_bytes: IntGauge = "tidegate_engine_memory_bytes", "Bytes of the memory store";
    engine_memory_limit_bytes: IntGauge = "tidegate_engine_memory_limit_bytes", "Most bytes that the memory store may take";
    engine_memory_rows: IntGauge = "tidegate_engine_memory_rows", "Rows in the memory store";
    engine_series: IntGauge = "tidegate_engine_series", "Series known in memory";
    engine_files: IntGauge = "tidegate_engine_files", "Files of the magnetic store";
    engine_file_bytes: IntGauge = "tidegate_engine_file_bytes", "Bytes of the files of the magnetic store";
    engine_flushes: IntCounter = "tidegate_engine_flushes_total", "Times that the memory store was written to files";
    engine_flush_failures: IntCounter = "tidegate_engine_flush_failures_total", "Flushes that failed; memory and log keep the records";
    engine_flushed_rows: IntCounter = "tidegate_engine_flushed_rows_total", "Rows that left the memory store";
    engine_flushed_bytes: IntCounter = "tidegate_engine_flushed_bytes_total", "Bytes of files that flushes have written";
    engine_flush_seconds: Counter = "tidegate_engine_flush_seconds_total", "How long flushes took altogether";
    engine_last_flush_timestamp: Gauge = "tidegate_engine_last_flush_timestamp_seconds", "When the last flush ended well, seconds since 1970; 0 before the first of this process";
    engine_last_flush_duration: Gauge = "tidegate_engine_last_flush_duration_seconds", "How long the last flush took";
    engine_last_flush_rows: IntGauge = "tidegate_engine_last_flush_rows", "Rows that the last flush wrote";
    engine_compactions: IntCounter = "tidegate_engine_compactions_total", "Times that small files became one";
    engine_compacted_files: IntCounter = "tidegate_engine_compacted_files_total", "Small files that became one";
    engine_compacted_bytes: IntCounter = "tidegate_engine_compacted_bytes_total", "Bytes of files that compactions have written";
    engine_compaction_seconds: Counter = "tidegate_engine_compaction_seconds_total", "How long compactions took altogether";
    engine_expired_files: IntCounter = "tidegate_engine_expired_files_total", "Files dropped since all their rows had expired";
    engine_expired_rows: IntCounter = "tidegate_engine_expired_rows_total", "Rows of files that were dropped since all had expired";
    engine_expired_bytes: IntCounter = "tidegate_engine_expired_bytes_total", "Bytes of files that were dropped since all their rows had expired";
    engine_deleted_files: IntCounter = "tidegate_engine_deleted_files_total", "Files dropped with their table";
    load_tasks: IntGaugeVec("status") = "tidegate_load_tasks", "Batch-load tasks that are known, by status";
    load_records: IntCounterVec("outcome") = "tidegate_load_records_total", "Records of batch loads, by what became of them";
    load_source_retries: IntCounter = "tidegate_load_source_retries_total", "Reads of a source, and writes of a report, that were tried again";
    engine_remote_sessions: IntGauge = "tidegate_engine_remote_sessions", "Open connections to a database elsewhere";
    engine_remote_sessions_made: IntCounter = "tidegate_engine_remote_sessions_made_total", "Connections that were made to a database elsewhere";
    engine_remote_transactions: IntCounter = "tidegate_engine_remote_transactions_total", "Transactions that a database elsewhere has committed";
    engine_remote_undone: IntCounter = "tidegate_engine_remote_undone_turns_total", "Turns of a shard that were undone and done again";
    engine_remote_statements: IntCounter = "tidegate_engine_remote_statements_total", "Statements that were sent to a database elsewhere";
    engine_remote_statement_seconds: Counter = "tidegate_engine_remote_statement_seconds_total", "How long the answers to such statements took altogether";
    upstream_requests: IntCounter = "tidegate_engine_upstream_requests_total", "Requests that the server behind the engine took";
    upstream_records: IntCounter = "tidegate_engine_upstream_records_total", "Records in requests that the server behind the engine took";
    upstream_sent_bytes: IntCounter = "tidegate_engine_upstream_sent_bytes_total", "Bytes of request bodies sent to the server behind the engine, those sent again too";
    upstream_saved_bytes: IntCounter = "tidegate_engine_upstream_saved_bytes_total", "Bytes not sent to the server behind the engine because they were common to all records of a request";
    upstream_metered_bytes: IntCounter = "tidegate_engine_upstream_metered_bytes_total", "Bytes that Timestream would meter of what was sent, whole KiB a request";
    upstream_single_bytes: IntCounter = "tidegate_engine_upstream_single_metered_bytes_total", "The same if each request carried one record";
    reject_records: IntCounterVec("reason") = "tidegate_reject_records_total", "Records and lines that were refused for good, each of them reported, by reason";
    reject_reports: IntCounter = "tidegate_reject_reports_total", "Reports written to the reject sink";
    reject_retries: IntCounter = "tidegate_reject_retries_total", "Reports that had to be tried again";
    reject_removed: IntCounter = "tidegate_reject_removed_objects_total", "Reports and marks that were removed for their age";
    reject_sweep_failures: IntCounter = "tidegate_reject_sweep_failures_total", "Rounds of removing old reports that the sink broke off";
}

/// Who sent a record.
pub const PROTOCOLS: [&str; 5] = ["line", "json", "timestream", "datazone", "batch"];

/// The folders whose file systems are looked at.
pub const FOLDERS: [&str; 2] = ["data", "log"];

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
            (&self.ingest_requests, &PROTOCOLS),
            (&self.ingest_body_bytes, &PROTOCOLS),
            (&self.ingest_decoded_records, &PROTOCOLS),
            (&self.ingest_busy, &BUSY_CAUSES),
            (&self.engine_outcomes, &OUTCOMES),
            (&self.batch_batches, &BATCH_CAUSES),
            (&self.load_records, &LOAD_OUTCOMES),
        ] {
            for label in labels {
                family.with_label_values(&[*label]).reset();
            }
        }
        for protocol in PROTOCOLS {
            self.ingest_decode_seconds.with_label_values(&[protocol]).reset();
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
            assert!(name.starts_with("tidegate_") || name.starts_with("process_"), "{name}");
            let is_counter = family.get_field_type() == prometheus::proto::MetricType::COUNTER;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        }
        assert!(WAL_MARKS.iter().all(|mark| text.contains(&format!("\n{mark} "))));
        assert!(text.contains("tidegate_reject_records_total{reason=\"version_conflict\"} 0"));
    }
}
