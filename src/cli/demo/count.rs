//! What is there, against what each device was told: read back over HTTP, as any user would.

use std::fmt;

use serde_json::Value;

use super::super::client::Client;
use super::fleet::{Ledger, STEP_NS, tenths};
use super::grouped;

/// Rows that are asked for at once, about.
const ROWS: u64 = 100_000;

/// What was counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    acknowledged: u64,
    found: u64,
    lost: u64,
    doubled: u64,
    changed: u64,
    /// Records that no device was told of, or sent.
    invented: u64,
}

impl Count {
    /// Reads everything back and counts it. `plants_loss` counts one that never was.
    ///
    /// # Errors
    ///
    /// When the server does not answer an export, or the count is to end.
    pub(super) fn of(
        client: &mut Client,
        ledger: &Ledger,
        plants_loss: bool,
        is_asked_to_end: &dyn Fn() -> bool,
    ) -> Result<Self, String> {
        let mut expected = ledger.acknowledged.clone();
        if let Some(first) = expected.first_mut().filter(|_| plants_loss) {
            *first += 1;
        }
        let mut count = Self { acknowledged: expected.iter().sum(), ..Self::default() };
        let longest = expected.iter().copied().max().unwrap_or_default();
        let slice = (ROWS / (expected.len() as u64).max(1)).max(1);
        // One slice more than anybody sent: what nobody sent would be there.
        for begin in (0..=longest).step_by(usize::try_from(slice).unwrap_or(1)) {
            if is_asked_to_end() {
                return Err("interrupted".to_owned());
            }
            let (from, to) = (begin, begin + slice);
            let [from_ns, to_ns] = [from, to].map(|number| ledger.begin_ns + number * STEP_NS);
            let target = format!("/api/v1/export?db=demo&table=weather&from={from_ns}&to={to_ns}");
            let reply = client.get(&target).map_err(|error| error.to_string())?;
            if reply.status != 200 {
                let said = String::from_utf8_lossy(&reply.body).into_owned();
                return Err(format!("an export was answered {}: {said}", reply.status));
            }
            count.slice(&reply.body, &expected, (ledger.begin_ns, from..to));
        }
        Ok(count)
    }

    /// Counts the rows of records with these numbers.
    fn slice(
        &mut self,
        rows: &[u8],
        expected: &[u64],
        (begin_ns, own): (u64, std::ops::Range<u64>),
    ) {
        let width = own.end - own.start;
        let mut seen = vec![0_u8; expected.len() * usize::try_from(width).unwrap_or_default()];
        for row in rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()) {
            self.found += 1;
            let Some((device, number, is_equal)) = read(row, begin_ns) else {
                self.invented += 1;
                continue;
            };
            let at = number.checked_sub(own.start).filter(|at| *at < width);
            let place = at.and_then(|at| usize::try_from(device * width + at).ok());
            let is_expected = usize::try_from(device)
                .ok()
                .and_then(|device| expected.get(device))
                .is_some_and(|count| number < *count);
            let Some(times) = place.filter(|_| is_expected).and_then(|place| seen.get_mut(place))
            else {
                self.invented += 1;
                continue;
            };
            *times = times.saturating_add(1);
            self.doubled += u64::from(*times > 1);
            self.changed += u64::from(!is_equal);
        }
        for (device, count) in (0_u64..).zip(expected) {
            for at in 0..count.saturating_sub(own.start).min(width) {
                let place = usize::try_from(device * width + at).unwrap_or_default();
                self.lost += u64::from(seen[place] == 0);
            }
        }
    }

    /// Whether everything that was acknowledged is there, once and unchanged, and nothing else.
    pub(super) const fn is_whole(&self) -> bool {
        self.acknowledged > 0
            && self.found == self.acknowledged
            && self.lost == 0
            && self.doubled == 0
            && self.changed == 0
            && self.invented == 0
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, found, lost, doubled, changed, invented } = self;
        let [acknowledged, found] = [acknowledged, found].map(|count| grouped(*count));
        write!(
            f,
            "{acknowledged} acknowledged, {found} found: {lost} lost, {doubled} doubled, {changed} changed"
        )?;
        if *invented > 0 {
            write!(f, ", {invented} that nobody sent")?;
        }
        Ok(())
    }
}

/// The device of a row, the number of its record, and whether its values are those that were sent.
fn read(row: &[u8], begin_ns: u64) -> Option<(u64, u64, bool)> {
    let row: Value = serde_json::from_slice(row).ok()?;
    let device: u64 = row["tags"]["device"].as_str()?.strip_prefix('d')?.parse().ok()?;
    let after_ns = row["timestamp"].as_u64()?.checked_sub(begin_ns)?;
    if !after_ns.is_multiple_of(STEP_NS) {
        return None;
    }
    let number = after_ns / STEP_NS;
    let sent = super::as_f64(tenths(device, number)) / 10.0;
    // The nearest number to what was sent is what was stored: they are equal, or it was changed.
    let is_equal = row["fields"]["temperature"]
        .as_f64()
        .is_some_and(|found| found.to_bits() == sent.to_bits())
        && row["fields"]["battery"].as_u64() == Some(100 - number / 1000 % 100);
    Some((device, number, is_equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(device: u64, number: u64, tenths: u64) -> String {
        let (whole, tenth, time_ns) = (tenths / 10, tenths % 10, 1000 + number * STEP_NS);
        format!(
            "{{\"tags\":{{\"device\":\"d{device}\"}},\"fields\":{{\"temperature\":{whole}.{tenth},\
             \"battery\":100}},\"timestamp\":{time_ns}}}\n"
        )
    }

    fn counted(rows: &str) -> Count {
        let mut count = Count { acknowledged: 4, ..Count::default() };
        // Two devices, of two records each; the slice is of three numbers.
        count.slice(rows.as_bytes(), &[2, 2], (1000, 0..3));
        count
    }

    fn all() -> String {
        (0..2).flat_map(|d| (0..2).map(move |n| row(d, n, tenths(d, n)))).collect()
    }

    #[test]
    fn what_is_there_once_is_whole() {
        let count = counted(&all());
        assert!(count.is_whole(), "{count:?}");
        assert_eq!(count.to_string(), "4 acknowledged, 4 found: 0 lost, 0 doubled, 0 changed");
    }

    #[test]
    fn a_record_that_is_lost_doubled_changed_or_invented_is_found() {
        let one = row(1, 1, tenths(1, 1));
        let lost = counted(&all().replace(&one, ""));
        assert_eq!((lost.lost, lost.is_whole()), (1, false), "{lost:?}");
        let doubled = counted(&(all() + &one));
        assert_eq!((doubled.doubled, doubled.is_whole()), (1, false), "{doubled:?}");
        let changed = counted(&all().replace(&one, &row(1, 1, 7)));
        assert_eq!((changed.changed, changed.is_whole()), (1, false), "{changed:?}");
        for more in [row(1, 2, tenths(1, 2)), row(2, 0, tenths(2, 0)), "nonsense\n".to_owned()] {
            let invented = counted(&(all() + &more));
            assert_eq!(
                (invented.invented, invented.is_whole()),
                (1, false),
                "{more}: {invented:?}"
            );
        }
    }
}
