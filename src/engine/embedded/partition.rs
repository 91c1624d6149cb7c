//! Where in the data folder a row's file is: `<database>/<table>-<id>/date=<day>/<number>.parquet`.
//!
//! Names never become raw paths. Letters, digits, `_` and `-` stand for themselves, every other byte
//! as `%XX`, and so does a first `_`, since readers of such folders skip what begins with one. A name
//! whose encoding is longer than a file name may be is cut and ends in `~` and the hash of the whole;
//! the catalog, and each file's metadata, have it in full.

use std::fmt::Write;
use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_64;

use crate::base::fs::TEMPORARY_SUFFIX;
pub(super) use crate::base::units::DAY_NS;
use crate::engine::catalog::Table;

/// Longest encoded name; with its table's number it stays below the 255 bytes of a file name.
const ENCODED_BYTES_MAX: usize = 200;

/// The day of a time, counted from 1970-01-01.
pub(super) fn day_of(time_ns: i64) -> i32 {
    i32::try_from(time_ns.div_euclid(DAY_NS)).expect("64-bit nanoseconds are a few 100,000 days")
}

/// The first nanosecond of a day, or of all time for the day in which that begins.
pub(super) fn day_begin(day: i32) -> i64 {
    i64::from(day).checked_mul(DAY_NS).unwrap_or(i64::MIN)
}

/// The first nanosecond after a day, or the end of time.
pub(super) fn day_end(day: i32) -> i64 {
    (i64::from(day) + 1).checked_mul(DAY_NS).unwrap_or(i64::MAX)
}

/// A table's folder below the magnetic store's.
pub(super) fn table_dir(table: &Table) -> PathBuf {
    let mut path = PathBuf::from(encode(&table.database));
    path.push(format!("{}-{}", encode(&table.name), table.id));
    path
}

/// A day's folder below its table's.
pub(super) fn day_dir(day: i32) -> String {
    // 719,468 days lie between 0000-03-01 and 1970-01-01. A year that begins in March has its leap
    // day at the end, so that months fall out of a linear formula. Source: H. Hinnant,
    // "chrono-Compatible Low-Level Date Algorithms".
    let days = i64::from(day) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("date={year:04}-{month:02}-{day_of_month:02}")
}

/// The name under which readers find a file.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:010}.parquet")
}

/// The name of a file that no reader shall find yet; see [`super::magnetic`].
pub(super) fn unpublished_name(number: u64, generation: u32) -> String {
    format!(".{number:010}-{generation}.parquet{TEMPORARY_SUFFIX}")
}

/// The name of a file that no reader shall find any more.
pub(super) fn retired_name(number: u64, generation: u32) -> String {
    format!(".{number:010}-{generation}.retired{TEMPORARY_SUFFIX}")
}

/// Whether a file of this name can only be ours.
pub(super) fn is_ours(name: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.strip_suffix(".parquet").is_some_and(is_digits)
        || name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX)
}

fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' && at > 0 {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all");
        }
    }
    if encoded.len() > ENCODED_BYTES_MAX {
        encoded.truncate(ENCODED_BYTES_MAX);
        write!(encoded, "~{:016x}", xxh3_64(name.as_bytes())).expect("a string takes all");
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_leave_their_folder_and_stay_distinct() {
        let long = ["ä".repeat(128), format!("{}b", "ä".repeat(127))];
        let names = [
            "a", "A", "..", ".", "../a", "a/b", "_a", "a_b", "%2E", "a=b", "a b", "~", &long[0],
            &long[1],
        ];
        let mut encoded: Vec<String> = names.iter().map(|name| encode(name)).collect();
        for name in &encoded {
            assert!(!name.contains(['/', '.', '=', '\0']), "{name}");
            assert!(!name.starts_with('_') && name.len() + "-4294967295".len() <= 255, "{name}");
        }
        encoded.sort();
        encoded.dedup();
        assert_eq!(encoded.len(), names.len());
    }

    #[test]
    fn days_are_named_as_people_write_them() {
        for (day, name) in [
            (0, "date=1970-01-01"),
            (-1, "date=1969-12-31"),
            (58, "date=1970-02-28"),
            (59, "date=1970-03-01"),
            (11_016, "date=2000-02-29"),
            (20_779, "date=2026-11-22"),
            (day_of(i64::MIN), "date=1677-09-21"),
            (day_of(i64::MAX), "date=2262-04-11"),
        ] {
            assert_eq!(day_dir(day), name);
        }
        assert_eq!(day_of(-1), -1);
        assert_eq!(day_of(day_begin(5)), 5);
        assert_eq!(day_of(day_end(5) - 1), 5);
        assert_eq!(day_begin(day_of(i64::MIN)), i64::MIN);
        assert_eq!(day_end(day_of(i64::MAX)), i64::MAX);
    }
}
