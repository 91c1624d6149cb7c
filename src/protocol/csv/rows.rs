//! Bytes to rows. The parser is the `csv` crate's own (`csv-core`) without that crate's buffers: those
//! grow with a row, and a quote that is left open makes the rest of a file one row. Here a row is
//! bounded, an open quote at the end of the file is told, and a row knows the lines that it stands in.
//!
//! Where white space around fields is to be left out, blanks in front of a field are dropped before the
//! parser sees them: to it a quote behind a blank is text like other, and what the quotes hold would be
//! cut at every separator. Behind a quoted field they are text of the field, which [`super::plan`] trims.

use csv_core::{ReadFieldResult, ReadRecordResult, Reader, ReaderBuilder};

use super::model::Dialect;

/// Longest row, in bytes of its fields. Source: Timestream developer guide, "Quotas", batch load.
pub const ROW_BYTES_MAX: usize = 16 << 20;

/// Most fields of a row.
const FIELDS_MAX: usize = 1 << 16;

/// First sizes of the buffers.
const BYTES_MIN: usize = 4 << 10;
const FIELDS_MIN: usize = 64;

/// What was found in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A row, which [`Rows`] shows until it is asked again.
    Row,
    /// Nothing yet: more input is needed.
    More,
    /// A row that is larger than [`ROW_BYTES_MAX`]; what follows cannot be read.
    TooLong,
    /// The input is at its end.
    End,
    /// The input is at its end within quotes; what was read since they were opened is no row.
    Open,
}

/// Reads rows out of pieces of a file.
#[derive(Debug)]
pub struct Rows {
    core: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
    text_filled: usize,
    ends_filled: usize,
    /// Whether a row was begun and has not ended.
    is_within: bool,
    /// Bytes of the file consumed.
    offset: u64,
    /// The line of the next byte, from 1.
    line: u64,
    /// The first and last line of the row.
    lines: (u64, u64),
    /// Whether the last byte consumed of a row ended a line.
    is_at_line: bool,
    /// What blanks are not, where blanks around fields are dropped: the separator may be one itself.
    trimmed: Option<u8>,
    /// Whether a field of a row was ended and nothing of the next was seen.
    is_at_field: bool,
}

impl Rows {
    /// Rows of a file of this form, whose next byte is the one at `offset`, in `line`: between rows.
    pub fn new(dialect: &Dialect, (offset, line): (u64, u64)) -> Self {
        let mut builder = ReaderBuilder::new();
        builder.delimiter(dialect.separator).quote(dialect.quote).escape(dialect.escape);
        let mut core = builder.build();
        // An empty line, so that the parser is not at what it takes for the beginning of a file, where
        // it swallows a byte order mark: reading that goes on in the middle must find what it found
        // before, and a mark at the true beginning is told.
        let (_, primed, ..) = core.read_record(b"\n", &mut [0], &mut [0]);
        debug_assert_eq!(primed, 1, "an empty line is passed over");
        Self {
            core,
            text: vec![0; BYTES_MIN],
            ends: vec![0; FIELDS_MIN],
            text_filled: 0,
            ends_filled: 0,
            is_within: false,
            offset,
            line,
            lines: (line, line),
            is_at_line: false,
            trimmed: dialect.trims.then_some(dialect.separator),
            is_at_field: false,
        }
    }

    /// Whether the byte is nothing in front of a field.
    fn is_blank(&self, byte: u8) -> bool {
        matches!(byte, b' ' | b'\t') && self.trimmed.is_some_and(|separator| separator != byte)
    }

    /// How many bytes in front are to be passed over.
    fn blanks(&self, input: &[u8]) -> usize {
        input.iter().take_while(|byte| self.is_blank(**byte)).count()
    }

    /// Consumes input up to the end of the next row, and says how much and what it found.
    pub fn next(&mut self, input: &[u8]) -> (usize, Step) {
        let mut used = 0;
        if !self.is_within {
            (self.text_filled, self.ends_filled) = (0, 0);
            let is_nothing = |byte: &&u8| matches!(byte, b'\n' | b'\r') || self.is_blank(**byte);
            used = input.iter().take_while(is_nothing).count();
            self.pass(input, used);
            if used == input.len() {
                return (used, Step::More);
            }
            self.is_within = true;
            self.lines = (self.line, self.line);
        }
        let rest = input.get(used..).unwrap_or_default();
        let (more, step) = self.read(rest);
        (used.saturating_add(more), step)
    }

    /// Says what the end of the input is, after all of it was consumed.
    pub fn end(&mut self) -> Step {
        if !self.is_within {
            return Step::End;
        }
        // Within quotes the end of a line is text like other.
        let (line, offset, is_at_line) = (self.line, self.offset, self.is_at_line);
        let (_, step) = self.read(b"\n");
        (self.line, self.offset, self.is_at_line) = (line, offset, is_at_line);
        self.lines.1 = if is_at_line { line.saturating_sub(1) } else { line };
        if step == Step::More { Step::Open } else { step }
    }

    fn read(&mut self, input: &[u8]) -> (usize, Step) {
        let mut used = 0_usize;
        loop {
            if self.is_at_field {
                let blanks = self.blanks(input.get(used..).unwrap_or_default());
                used =
                    used.saturating_add(self.pass(input.get(used..).unwrap_or_default(), blanks));
            }
            let rest = input.get(used..).unwrap_or_default();
            // To the parser of single fields nothing is the end of the file.
            if self.trimmed.is_some() && rest.is_empty() {
                return (used, Step::More);
            }
            let (result, bytes) = self.parse(rest);
            used = used.saturating_add(self.pass(rest, bytes));
            match result {
                None => {}
                Some(ReadRecordResult::InputEmpty) => return (used, Step::More),
                Some(ReadRecordResult::OutputFull) if self.text.len() <= ROW_BYTES_MAX => {
                    // One byte more than a row may have: the parser asks for room before it needs it.
                    let larger = self.text.len().saturating_mul(2).min(ROW_BYTES_MAX + 1);
                    self.text.resize(larger, 0);
                }
                Some(ReadRecordResult::OutputEndsFull) if self.ends.len() < FIELDS_MAX => {
                    self.ends.resize(self.ends.len().saturating_mul(2), 0);
                }
                Some(ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull) => {
                    self.lines.1 = self.line;
                    return (used, Step::TooLong);
                }
                Some(ReadRecordResult::Record | ReadRecordResult::End) => {
                    self.is_within = false;
                    let before = u64::from(self.is_at_line);
                    self.lines.1 = self.line.saturating_sub(before).max(self.lines.0);
                    return (used, Step::Row);
                }
            }
        }
    }

    /// Parses on, and says how many bytes it took; nothing where only a field ended.
    fn parse(&mut self, rest: &[u8]) -> (Option<ReadRecordResult>, usize) {
        let text = self.text.get_mut(self.text_filled..).unwrap_or_default();
        let ends = self.ends.get_mut(self.ends_filled..).unwrap_or_default();
        if self.trimmed.is_none() {
            let (result, bytes, text, ends) = self.core.read_record(rest, text, ends);
            self.text_filled = self.text_filled.saturating_add(text);
            self.ends_filled = self.ends_filled.saturating_add(ends);
            return (Some(result), bytes);
        }
        // Field by field, since only so the parser tells where one begins.
        let Some(end) = ends.first_mut() else {
            return (Some(ReadRecordResult::OutputEndsFull), 0);
        };
        self.is_at_field = false;
        let (result, bytes, text) = self.core.read_field(rest, text);
        self.text_filled = self.text_filled.saturating_add(text);
        let result = match result {
            ReadFieldResult::InputEmpty => Some(ReadRecordResult::InputEmpty),
            ReadFieldResult::OutputFull => Some(ReadRecordResult::OutputFull),
            ReadFieldResult::End => Some(ReadRecordResult::End),
            ReadFieldResult::Field { record_end } => {
                *end = self.text_filled;
                self.ends_filled = self.ends_filled.saturating_add(1);
                self.is_at_field = !record_end;
                record_end.then_some(ReadRecordResult::Record)
            }
        };
        (result, bytes)
    }

    /// Counts the first bytes of the input as consumed.
    fn pass(&mut self, input: &[u8], count: usize) -> usize {
        let bytes = input.get(..count).unwrap_or_default();
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        let lines = memchr::memchr_iter(b'\n', bytes).count();
        self.line = self.line.saturating_add(lines as u64);
        if let Some(last) = bytes.last() {
            self.is_at_line = *last == b'\n';
        }
        bytes.len()
    }

    /// The bytes of the row's fields, one behind the other.
    pub fn text(&self) -> &[u8] {
        self.text.get(..self.text_filled).unwrap_or_default()
    }

    /// Where each field ends in [`Self::text`].
    pub fn ends(&self) -> &[usize] {
        self.ends.get(..self.ends_filled).unwrap_or_default()
    }

    /// The first and the last line of the row, from 1.
    pub const fn lines(&self) -> (u64, u64) {
        self.lines
    }

    /// Bytes of the file that are consumed, and the line of the next one: between rows, where to go on.
    pub const fn position(&self) -> (u64, u64) {
        (self.offset, self.line)
    }
}
