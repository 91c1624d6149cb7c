//! Memory for requests: a budget of bytes that every body takes from before it is read.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{IngestError, Options, RETRY_AFTER};
use crate::metrics::Metrics;

/// The budget is counted in units of this many bytes, since a semaphore counts in 32 bits.
const UNIT_BYTES: usize = 1024;

/// The memory that all requests share.
#[derive(Debug)]
pub(super) struct Memory {
    units: Arc<Semaphore>,
    units_max: usize,
    wait: Duration,
    in_flight: IntGauge,
}

/// Memory reserved for one request's body. Dropping it gives the memory back.
#[derive(Debug)]
pub struct Admission {
    permit: OwnedSemaphorePermit,
    units: Arc<Semaphore>,
    reserved: usize,
    in_flight: IntGauge,
}

impl Memory {
    pub(super) fn new(options: &Options, metrics: &Metrics) -> Self {
        let units_max = options.memory_bytes_max.as_usize().div_ceil(UNIT_BYTES);
        assert!(units_max <= Semaphore::MAX_PERMITS, "checked with the settings");
        metrics.ingest_memory_limit_bytes.set(gauge(units_max * UNIT_BYTES));
        Self {
            units: Arc::new(Semaphore::new(units_max)),
            units_max,
            wait: options.admit_wait.0,
            in_flight: metrics.ingest_in_flight_bytes.clone(),
        }
    }

    /// Reserves memory for `bytes`; `None` when there is none within the wait, or never will be.
    pub(super) async fn admit(&self, bytes: usize) -> Option<Admission> {
        let units = bytes.div_ceil(UNIT_BYTES);
        if units > self.units_max {
            return None;
        }
        let units = u32::try_from(units).ok()?;
        // Who finds memory free need not wait, and has no use for a timer.
        let permit = match Arc::clone(&self.units).try_acquire_many_owned(units) {
            Ok(permit) => permit,
            Err(_none) => {
                let ask = Arc::clone(&self.units).acquire_many_owned(units);
                // Ok(Err) cannot be: the semaphore is never closed.
                Box::pin(tokio::time::timeout(self.wait, ask)).await.ok()?.ok()?
            }
        };
        let mut admission = Admission {
            permit,
            units: Arc::clone(&self.units),
            reserved: bytes,
            in_flight: self.in_flight.clone(),
        };
        admission.reserved = admission.permit.num_permits() * UNIT_BYTES;
        assert!(admission.reserved >= bytes, "what is reserved has room for the body");
        admission.in_flight.add(gauge(admission.reserved));
        Some(admission)
    }
}

impl Admission {
    /// Reserves `bytes` more, as the body arrives or inflates.
    ///
    /// # Errors
    ///
    /// [`IngestError::Busy`] when the memory for requests is used up; what was reserved stays until
    /// this is dropped.
    pub fn grow(&mut self, bytes: usize) -> Result<(), IngestError> {
        let busy = IngestError::Busy { cause: "memory", retry_after: RETRY_AFTER };
        let Ok(units) = u32::try_from(bytes.div_ceil(UNIT_BYTES)) else { return Err(busy) };
        let Ok(more) = Arc::clone(&self.units).try_acquire_many_owned(units) else {
            return Err(busy);
        };
        let grown = more.num_permits() * UNIT_BYTES;
        self.permit.merge(more);
        self.reserved += grown;
        assert_eq!(
            self.reserved,
            self.permit.num_permits() * UNIT_BYTES,
            "what is held is given back"
        );
        self.in_flight.add(gauge(grown));
        Ok(())
    }

    /// Bytes reserved.
    pub const fn reserved(&self) -> usize {
        self.reserved
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.in_flight.sub(gauge(self.reserved));
    }
}

fn gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::{Bytes, Span};

    fn memory(kib: u64) -> (Memory, Metrics) {
        let metrics = Metrics::new().unwrap();
        let options = Options {
            memory_bytes_max: Bytes(kib << 10),
            admit_wait: Span::ms(1),
            ..Options::default()
        };
        (Memory::new(&options, &metrics), metrics)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn what_is_reserved_is_not_given_twice_and_comes_back() {
        let (memory, metrics) = memory(4);
        run(async {
            let mut first = memory.admit(2048).await.unwrap();
            assert!(memory.admit(4096).await.is_none());
            first.grow(2048).unwrap();
            assert!(first.grow(1).is_err());
            assert_eq!(metrics.ingest_in_flight_bytes.get(), 4096);
            drop(first);
            assert_eq!(metrics.ingest_in_flight_bytes.get(), 0);
            assert!(memory.admit(4096).await.is_some());
        });
    }

    #[test]
    fn more_than_there_is_at_all_is_refused_without_waiting() {
        let (memory, _metrics) = memory(4);
        assert!(run(memory.admit(4097)).is_none());
    }
}
