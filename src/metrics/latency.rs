//! A distribution of durations, kept exactly by an HDR histogram and shown to Prometheus as a classic
//! histogram with fixed bounds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use prometheus::core::{Collector, Desc};
use prometheus::proto;

/// Upper bounds of the buckets that Prometheus sees, in seconds: 50 us to 30 s, about three a decade.
const BOUNDS_S: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
    2.0, 5.0, 10.0, 30.0,
];

/// Longest duration told apart, ns; longer ones count as this long.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Three digits: a percentile is off by less than one part in a thousand.
const DIGITS: u8 = 3;

/// How far back [`Latency::recent`] reaches at least, once it was asked for as long.
pub const RECENT: Duration = Duration::from_secs(10);

/// A distribution of durations, shared by threads.
#[derive(Debug, Clone)]
pub struct Latency {
    histogram: Arc<Mutex<Distribution>>,
    /// What [`Latency::recent`] subtracts. Locked alone.
    earlier: Arc<Mutex<Earlier>>,
    desc: Arc<Desc>,
}

/// The distribution as it stood at two moments, [`RECENT`] or more apart.
#[derive(Debug, Default)]
struct Earlier {
    older: Option<Snapshot>,
    newer: Option<Snapshot>,
}

#[derive(Debug)]
struct Snapshot {
    at: Duration,
    ns: Histogram<u64>,
}

/// A distribution of a stretch of time.
#[derive(Debug)]
pub struct Recent {
    /// How long it is; `None` is since the start.
    pub window: Option<Duration>,
    ns: Histogram<u64>,
}

impl Recent {
    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.ns.len()
    }

    /// The duration that `quantile` (0 to 1) of them do not exceed; `None` where there are none.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        (!self.ns.is_empty()).then(|| Duration::from_nanos(self.ns.value_at_quantile(quantile)))
    }
}

#[derive(Debug)]
struct Distribution {
    ns: Histogram<u64>,
    sum_ns: u128,
}

impl Latency {
    /// An empty distribution called `name`.
    ///
    /// # Errors
    ///
    /// When `name` is no metric name.
    pub fn new(name: &str, help: &str) -> Result<Self, prometheus::Error> {
        let desc =
            Desc::new(name.into(), help.into(), Vec::new(), std::collections::HashMap::new())?;
        let ns = Histogram::new_with_max(LONGEST_NS, DIGITS).expect("constant bounds are valid");
        Ok(Self {
            histogram: Arc::new(Mutex::new(Distribution { ns, sum_ns: 0 })),
            earlier: Arc::default(),
            desc: Arc::new(desc),
        })
    }

    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // A thread that panicked here left at worst one count undone.
        let mut all = self.histogram.lock().unwrap_or_else(PoisonError::into_inner);
        all.ns.saturating_record(ns);
        all.sum_ns += u128::from(ns);
    }

    /// The duration that `quantile` (0 to 1) of all counted ones do not exceed.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let all = self.histogram.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_nanos(all.ns.value_at_quantile(quantile))
    }

    /// What was counted lately, asked at `now`, a monotonic time: in the last [`RECENT`] or up to twice as
    /// long where somebody keeps asking, since somebody asked last where nobody did for longer, and
    /// since the start at first. Copies the distribution, so it is for people who look, not for requests.
    pub fn recent(&self, now: Duration) -> Recent {
        let current = self.counts().0;
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = |newer: &Snapshot| now.saturating_sub(newer.at) >= RECENT;
        if earlier.newer.as_ref().is_none_or(is_due) {
            earlier.older = earlier.newer.replace(Snapshot { at: now, ns: current.clone() });
        }
        match &earlier.older {
            None => Recent { window: None, ns: current },
            Some(older) => {
                let mut ns = current;
                // Both are of one shape, and counts only grow; a shape that differed would show all.
                let window = ns.subtract(&older.ns).is_ok().then(|| now.saturating_sub(older.at));
                Recent { window, ns }
            }
        }
    }

    fn counts(&self) -> (Histogram<u64>, u128) {
        let all = self.histogram.lock().unwrap_or_else(PoisonError::into_inner);
        (all.ns.clone(), all.sum_ns)
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.histogram.lock().unwrap_or_else(PoisonError::into_inner).ns.len()
    }
}

impl Collector for Latency {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut histogram = proto::Histogram::default();
        // Counted from a copy: eighteen walks over it under the lock would hold up who records.
        let (ns, sum_ns) = self.counts();
        histogram.set_sample_count(ns.len());
        #[expect(clippy::cast_precision_loss, reason = "a sum of seconds is a float anyway")]
        histogram.set_sample_sum(sum_ns as f64 / 1e9);
        histogram.set_bucket(BOUNDS_S.iter().map(|bound| bucket(&ns, *bound)).collect());
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

fn bucket(ns: &Histogram<u64>, bound_s: f64) -> proto::Bucket {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounds are positive and far below 2^63 ns"
    )]
    let below = ns.count_between(0, (bound_s * 1e9) as u64);
    let mut bucket = proto::Bucket::default();
    bucket.set_upper_bound(bound_s);
    bucket.set_cumulative_count(below);
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_sees_what_was_recorded() {
        let latency = Latency::new("x_seconds", "help").unwrap();
        for ms in [1, 3, 40] {
            latency.record(Duration::from_millis(ms));
        }
        let family = latency.collect().remove(0);
        let histogram = family.get_metric()[0].get_histogram();
        assert_eq!(histogram.get_sample_count(), 3);
        assert!((histogram.get_sample_sum() - 0.044).abs() < 1e-9);
        let at = |bound: f64| {
            histogram
                .get_bucket()
                .iter()
                .find(|b| (b.upper_bound() - bound).abs() < 1e-12)
                .map(proto::Bucket::cumulative_count)
        };
        assert_eq!(
            (at(0.0005), at(0.002), at(0.005), at(0.05)),
            (Some(0), Some(1), Some(2), Some(3))
        );
        let counts: Vec<u64> =
            histogram.get_bucket().iter().map(proto::Bucket::cumulative_count).collect();
        assert!(counts.is_sorted(), "buckets are cumulative: {counts:?}");
        assert_eq!(latency.count(), 3);
        assert!(latency.quantile(1.0) >= Duration::from_millis(40));
    }

    #[test]
    fn what_is_recent_forgets_what_is_older_than_two_windows() {
        let latency = Latency::new("x_seconds", "help").unwrap();
        latency.record(Duration::from_secs(5));
        let first = latency.recent(RECENT);
        assert_eq!((first.window, first.count()), (None, 1));
        latency.record(Duration::from_millis(2));
        let second = latency.recent(RECENT * 2);
        assert_eq!((second.window, second.count()), (Some(RECENT), 1));
        assert!(second.quantile(0.99).unwrap() < Duration::from_millis(3));
        // Asked again within the window: nothing moves on.
        assert_eq!(latency.recent(RECENT * 2).count(), 1);
        let third = latency.recent(RECENT * 3);
        assert_eq!((third.count(), third.quantile(0.5)), (0, None));
    }
}
