//! What the way in counts: with labels looked up once, since a look-up takes a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::{Counter, IntCounter};

use super::{Durability, Parts, Protocol, Receipt};
use crate::metrics::Metrics;

/// Counters by protocol.
#[derive(Debug)]
pub(super) struct Tally([OfProtocol; Protocol::ALL.len()]);

/// What is counted of one protocol's requests.
#[derive(Debug)]
pub(super) struct OfProtocol {
    requests: IntCounter,
    body_bytes: IntCounter,
    decoded_records: IntCounter,
    decode_seconds: Counter,
    records: IntCounter,
}

impl Tally {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self(Protocol::ALL.map(|protocol| {
            let label = &[protocol.label()];
            OfProtocol {
                requests: metrics.ingest_requests.with_label_values(label),
                body_bytes: metrics.ingest_body_bytes.with_label_values(label),
                decoded_records: metrics.ingest_decoded_records.with_label_values(label),
                decode_seconds: metrics.ingest_decode_seconds.with_label_values(label),
                records: metrics.ingest_records.with_label_values(label),
            }
        }))
    }

    pub(super) fn of(&self, protocol: Protocol) -> &OfProtocol {
        &self.0[protocol as usize]
    }
}

impl OfProtocol {
    /// Counts a request that was decoded; `receipt` where something can come of it.
    pub(super) fn decoded(&self, body_bytes: usize, took: Duration, receipt: Option<&Receipt>) {
        self.requests.inc();
        self.body_bytes.inc_by(body_bytes as u64);
        self.decode_seconds.inc_by(took.as_secs_f64());
        if let Some(receipt) = receipt {
            self.decoded_records.inc_by(receipt.accepted + receipt.refused);
        }
    }

    /// Counts records of a request whose others are the gateway's own.
    pub(super) fn sent(&self, records: u64) {
        self.decoded_records.inc_by(records);
        self.records.inc_by(records);
    }

    /// Counts records that were acknowledged.
    pub(super) fn accepted(&self, records: u64) {
        self.records.inc_by(records);
    }
}

/// Follows one acknowledged write at a time until the engine has executed it. To follow all would
/// register each with the marks, which take a lock; one after another tells the delay as well.
#[derive(Debug, Default)]
pub(super) struct Follow {
    is_busy: Arc<AtomicBool>,
}

impl Follow {
    /// Follows the write of `receipt`, acknowledged at `acknowledged`, unless another is followed.
    pub(super) fn until_visible(&self, parts: &Parts, receipt: &Receipt, acknowledged: Duration) {
        // A frame has one who waits, and that was the request itself.
        let Some(lsn) = receipt.lsn.filter(|_| receipt.durability != Durability::Applied) else {
            return;
        };
        // Relaxed: whoever comes too late or too early follows one write more or less.
        if self.is_busy.load(Ordering::Relaxed) || self.is_busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let (clock, is_busy) = (Arc::clone(&parts.clock), Arc::clone(&self.is_busy));
        let visible_after_ack = parts.metrics.shard_visible_after_ack.clone();
        // Marks that are abandoned drop this without a call, and nothing more is visible then.
        parts.marks.when_applied(
            lsn,
            Box::new(move |_verdicts| {
                visible_after_ack.record(clock.monotonic().saturating_sub(acknowledged));
                is_busy.store(false, Ordering::Relaxed);
            }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::catalog::PROTOCOLS;

    #[test]
    fn each_protocol_has_its_own_counters() {
        let metrics = Metrics::new().unwrap();
        let tally = Tally::new(&metrics);
        for (at, protocol) in Protocol::ALL.into_iter().enumerate() {
            tally.of(protocol).accepted(at as u64 + 1);
            assert_eq!(protocol.label(), PROTOCOLS[at]);
            let counter = metrics.ingest_records.with_label_values(&[protocol.label()]);
            assert_eq!(counter.get(), at as u64 + 1);
        }
    }
}
