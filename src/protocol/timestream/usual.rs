//! The form that SDKs write, in one pass: each byte is looked at once, where the general reader in
//! [`super::shape`] passes over records to find their ends and then reads them.
//!
//! [`read`] answers only for what it knows for certain: an object of the members of the model, none of
//! them twice, none `null`, texts without control characters, a whole `Version`, lists within their
//! bounds. For anything else it answers `None`, and the general reader decides, and words what is wrong;
//! so there is one set of messages, and no body is taken or refused because of the way it was read
//! (`what_is_read_in_one_pass_reads_the_same_in_general`). Where a body is in the usual form to its end
//! but for the last byte, it is read twice: that costs its sender a third more, once, for an error.

use std::borrow::Cow;

use super::object::{List, Object};
use super::shape::{Attributes, Dimension, MeasureValue, Parsed, Text};
use crate::record::limits::RECORDS_PER_REQUEST_MAX;

/// Digits of a version that fits 64 bits whatever they are.
const VERSION_DIGITS_MAX: usize = 18;

/// Reads a body that is in the usual form.
pub(super) fn read(body: &[u8]) -> Option<Parsed<'_>> {
    let text = std::str::from_utf8(body).ok()?;
    let mut cursor = Cursor { text, bytes: body, at: 0 };
    let request = cursor.request()?;
    cursor.skip_blanks();
    (cursor.at == body.len()).then_some(request)
}

/// Where in a body the reader is.
struct Cursor<'a> {
    text: &'a str,
    /// Those of `text`.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn request(&mut self) -> Option<Parsed<'a>> {
        let (mut database, mut table, mut common, mut records) = (None, None, None, None);
        self.open(b'{')?;
        loop {
            if self.key(br#""Records""#) {
                let read = self.records()?;
                once(&mut records, read)?;
            } else if self.key(br#""DatabaseName""#) {
                self.text_of(&mut database)?;
            } else if self.key(br#""TableName""#) {
                self.text_of(&mut table)?;
            } else if self.key(br#""CommonAttributes""#) {
                self.colon()?;
                let read = self.attributes(Sizes::default())?;
                once(&mut common, read)?;
            } else {
                return None;
            }
            if self.ends(b'}')? {
                break;
            }
        }
        let count = records.as_ref().map(Vec::len);
        let records = records.unwrap_or_default();
        Some(Parsed { database, table, common: common.unwrap_or_default(), records, count })
    }

    fn records(&mut self) -> Option<Vec<(&'a str, Attributes<'a>)>> {
        self.colon()?;
        self.open(b'[')?;
        let mut all = Vec::with_capacity(RECORDS_PER_REQUEST_MAX);
        let mut sizes = Sizes::default();
        loop {
            if all.len() == RECORDS_PER_REQUEST_MAX {
                return None;
            }
            self.skip_blanks();
            let begin = self.at;
            let record = self.attributes(sizes)?;
            sizes = Sizes::of(&record);
            all.push((self.text.get(begin..self.at)?, record));
            if self.ends(b']')? {
                return Some(all);
            }
        }
    }

    fn attributes(&mut self, sizes: Sizes) -> Option<Attributes<'a>> {
        let mut read = Attributes::default();
        self.open(b'{')?;
        loop {
            if self.key(br#""Dimensions""#) {
                let list = self.list(sizes.dimensions, Self::dimension)?;
                once(&mut read.dimensions, list)?;
            } else if self.key(br#""MeasureValues""#) {
                let list = self.list(sizes.values, Self::measure_value)?;
                once(&mut read.measure_values, list)?;
            } else if self.key(br#""MeasureName""#) {
                self.text_of(&mut read.measure_name)?;
            } else if self.key(br#""MeasureValueType""#) {
                self.text_of(&mut read.measure_value_type)?;
            } else if self.key(br#""MeasureValue""#) {
                self.text_of(&mut read.measure_value)?;
            } else if self.key(br#""TimeUnit""#) {
                self.text_of(&mut read.time_unit)?;
            } else if self.key(br#""Time""#) {
                self.text_of(&mut read.time)?;
            } else if self.key(br#""Version""#) {
                let version = self.version()?;
                once(&mut read.version, version)?;
            } else {
                return None;
            }
            if self.ends(b'}')? {
                return Some(read);
            }
        }
    }

    fn dimension(&mut self) -> Option<Dimension<'a>> {
        let mut read = Dimension::default();
        self.open(b'{')?;
        loop {
            if self.key(br#""Name""#) {
                self.text_of(&mut read.name)?;
            } else if self.key(br#""Value""#) {
                self.text_of(&mut read.value)?;
            } else if self.key(br#""DimensionValueType""#) {
                self.text_of(&mut read.value_type)?;
            } else {
                return None;
            }
            if self.ends(b'}')? {
                return Some(read);
            }
        }
    }

    fn measure_value(&mut self) -> Option<MeasureValue<'a>> {
        let mut read = MeasureValue::default();
        self.open(b'{')?;
        loop {
            if self.key(br#""Name""#) {
                self.text_of(&mut read.name)?;
            } else if self.key(br#""Value""#) {
                self.text_of(&mut read.value)?;
            } else if self.key(br#""Type""#) {
                self.text_of(&mut read.value_type)?;
            } else {
                return None;
            }
            if self.ends(b'}')? {
                return Some(read);
            }
        }
    }

    /// A list of `item`s, of which there are `expected` in all likelihood.
    fn list<T, const MAX: usize>(
        &mut self,
        expected: usize,
        item: impl Fn(&mut Self) -> Option<T>,
    ) -> Option<List<Object<T>, MAX>> {
        self.colon()?;
        self.open(b'[')?;
        let mut items = Vec::with_capacity(expected);
        loop {
            if items.len() == MAX {
                return None;
            }
            items.push(Object(item(self)?));
            if self.ends(b']')? {
                let count = items.len();
                return Some(List { items, count });
            }
        }
    }

    fn version(&mut self) -> Option<i64> {
        self.colon()?;
        self.skip_blanks();
        let rest = self.bytes.get(self.at..)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > VERSION_DIGITS_MAX || (digits > 1 && rest.first() == Some(&b'0')) {
            return None;
        }
        let end = self.at.checked_add(digits)?;
        // What follows the digits must end the member, so a fraction or an exponent is left to others.
        let version = self.text.get(self.at..end)?.parse().ok()?;
        self.at = end;
        Some(version)
    }

    /// Reads a member's text into the place that is for it.
    #[inline]
    fn text_of(&mut self, place: &mut Option<Text<'a>>) -> Option<()> {
        self.colon()?;
        self.open(b'"')?;
        let begin = self.at;
        let end = self.end_of_plain()?;
        let read = if self.bytes.get(end) == Some(&b'"') {
            self.at = end.wrapping_add(1);
            Cow::Borrowed(self.text.get(begin..end)?)
        } else {
            Cow::Owned(self.escaped(begin, end)?)
        };
        once(place, Text(read))
    }

    /// Where the next quote, backslash or control character is.
    #[inline]
    fn end_of_plain(&self) -> Option<usize> {
        let mut at = self.at;
        while let Some(word) = self.bytes.get(at..)?.first_chunk() {
            match first_special(u64::from_le_bytes(*word)) {
                Some(offset) => return Some(at.wrapping_add(offset)),
                None => at = at.wrapping_add(size_of::<u64>()),
            }
        }
        let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        let offset = self.bytes.get(at..)?.iter().position(is_special)?;
        Some(at.wrapping_add(offset))
    }

    /// The text that began at `begin`, in which something is escaped, at `at` for the first time.
    #[cold]
    fn escaped(&mut self, begin: usize, mut at: usize) -> Option<String> {
        loop {
            self.at = at;
            at = self.end_of_plain()?;
            match self.bytes.get(at)? {
                b'"' => break,
                b'\\' => at = at.checked_add(2)?,
                _ => return None,
            }
        }
        self.at = at.checked_add(1)?;
        // With its quotes; what the escapes mean has one home.
        serde_json::from_str(self.text.get(begin.checked_sub(1)?..self.at)?).ok()
    }

    /// Whether the next member is the one of this name, which then is behind us.
    #[inline]
    fn key(&mut self, quoted: &[u8]) -> bool {
        let is_it = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(quoted));
        if is_it {
            self.at = self.at.wrapping_add(quoted.len());
        }
        is_it
    }

    #[inline]
    fn colon(&mut self) -> Option<()> {
        self.skip_blanks();
        self.take(b':')
    }

    /// Takes what begins a value, and the blanks on both sides of it but for those in a text.
    #[inline]
    fn open(&mut self, byte: u8) -> Option<()> {
        self.skip_blanks();
        self.take(byte)?;
        if byte != b'"' {
            self.skip_blanks();
        }
        Some(())
    }

    /// Takes a comma or the end of what is listed, and says whether it was the end.
    #[inline]
    fn ends(&mut self, end: u8) -> Option<bool> {
        self.skip_blanks();
        let found = *self.bytes.get(self.at)?;
        self.at = self.at.wrapping_add(1);
        if found == b',' {
            self.skip_blanks();
            return Some(false);
        }
        (found == end).then_some(true)
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        let is_it = self.bytes.get(self.at) == Some(&byte);
        self.at = self.at.wrapping_add(usize::from(is_it));
        is_it.then_some(())
    }

    #[inline]
    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at = self.at.wrapping_add(1);
        }
    }
}

/// How long the lists of a record are. Those of the next are as long, mostly.
#[derive(Clone, Copy, Default)]
struct Sizes {
    dimensions: usize,
    values: usize,
}

impl Sizes {
    fn of(record: &Attributes<'_>) -> Self {
        Self { dimensions: record.dimensions().len(), values: record.values().len() }
    }
}

/// Puts a member where it belongs, unless it was there before.
#[inline]
fn once<T>(place: &mut Option<T>, read: T) -> Option<()> {
    if place.is_some() {
        return None;
    }
    *place = Some(read);
    Some(())
}

/// The first of eight bytes that is a quote, a backslash or a control character; the lowest is first.
#[inline]
const fn first_special(word: u64) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES << 7;
    // A byte below a bound borrows from its highest bit, and its neighbour above it may too: so the
    // lowest that is found is one, which is all that is asked.
    let controls = word.wrapping_sub(ONES.wrapping_mul(0x20)) & !word;
    let quotes = word ^ ONES.wrapping_mul(b'"' as u64);
    let quotes = quotes.wrapping_sub(ONES) & !quotes;
    let backslashes = word ^ ONES.wrapping_mul(b'\\' as u64);
    let backslashes = backslashes.wrapping_sub(ONES) & !backslashes;
    match (controls | quotes | backslashes) & HIGHS {
        0 => None,
        found => Some(found.trailing_zeros() as usize / 8),
    }
}
