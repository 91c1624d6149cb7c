//! What the system says of this process, under the names that every Prometheus client library gives.
//! Source: Prometheus documentation, "Writing client libraries", "Standard and runtime collectors".

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::Metrics;

/// What the kernel writes of this process. Source: proc(5).
const STATUS: &str = "/proc/self/status";
const DESCRIPTORS: &str = "/proc/self/fd";

impl Metrics {
    /// Sets the metrics of the process. What the system does not tell stays as it was.
    pub fn read_process(&self) {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        #[expect(clippy::cast_precision_loss, reason = "seconds of a processor are far below 2^53")]
        let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
        // Two who read at once could both add what is missing; the next reading is right again, and a
        // counter must not go back.
        self.process_cpu_seconds.inc_by((seconds - self.process_cpu_seconds.get()).max(0.0));
        self.process_start_time_seconds.set(self.start_time_seconds.get());
        if let Ok(status) = fs::read_to_string(STATUS) {
            for (key, gauge) in [
                ("VmRSS:", &self.process_resident_memory_bytes),
                ("VmSize:", &self.process_virtual_memory_bytes),
                ("RssAnon:", &self.server_private_memory_bytes),
            ] {
                if let Some(kib) = number_in(&status, key) {
                    gauge.set(kib << 10);
                }
            }
            if let Some(threads) = number_in(&status, "Threads:") {
                self.process_threads.set(threads);
            }
        }
        if let Ok(open) = fs::read_dir(DESCRIPTORS) {
            // One of them is the listing's own.
            let open = open.count().saturating_sub(1);
            self.process_open_fds.set(i64::try_from(open).unwrap_or(i64::MAX));
        }
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        self.process_max_fds.set(i64::try_from(most).unwrap_or(i64::MAX));
    }
}

/// The number behind `key`: of KiB, or of things.
fn number_in(status: &str, key: &str) -> Option<i64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_as_the_system_says() {
        let metrics = Metrics::new().unwrap();
        metrics.read_process();
        assert!(metrics.process_resident_memory_bytes.get() > 1 << 20);
        assert!(
            metrics.process_virtual_memory_bytes.get()
                > metrics.process_resident_memory_bytes.get()
        );
        assert!(metrics.server_private_memory_bytes.get() > 0);
        assert!(metrics.process_threads.get() >= 1);
        assert!((3..=metrics.process_max_fds.get()).contains(&metrics.process_open_fds.get()));
        assert!(metrics.process_cpu_seconds.get() > 0.0);
    }

    #[test]
    fn a_status_without_the_line_tells_nothing() {
        assert_eq!(number_in("VmRSS:\t  12 kB\nThreads:\t3\n", "Threads:"), Some(3));
        assert_eq!(number_in("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
        assert_eq!(number_in("VmRSS: many kB\n", "VmRSS:"), None);
        assert_eq!(number_in("", "VmRSS:"), None);
    }
}
