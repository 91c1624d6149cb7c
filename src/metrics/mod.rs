//! Floor 1: every metric, in one table ([`catalog`]), and how it is printed. Other modules count
//! through the [`catalog::Metrics`] that they were given; nobody else names a metric.

pub mod catalog;
pub mod latency;
mod options;
mod process;

pub use catalog::Metrics;
pub use latency::Latency;
pub use options::Options;

use prometheus::TextEncoder;

impl Metrics {
    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    ///
    /// Only when two metrics disagree about themselves, which the catalog's test excludes.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        self.read_process();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
