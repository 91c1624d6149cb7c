//! Columns of names into Parquet, by runs: the names of a series once, however many rows it has.
//!
//! The Arrow writer takes a dictionary apart again and looks up the text of every row, eleven
//! columns of it where a series has ten dimensions: half of all that a flush did. What is known
//! here is which number each series has in a column, and how many rows follow each other; that is
//! nearly what a page of Parquet holds.
//!
//! | page | encoding | holds |
//! |---|---|---|
//! | dictionary | PLAIN | the different names of the row group, in the order of their coming |
//! | data, of [`BLOCK_ROWS`] rows | RLE: a length of 4 bytes, then levels of 1 bit | which rows have a name; only in a column that may have none |
//! | | `RLE_DICTIONARY`: a byte that says how many bits, then numbers of so many | the place in the dictionary of each row that has one |
//!
//! Each page is compressed with zstd. Levels and numbers are hybrids of runs and of packed bits; a
//! number that comes eight times or more is a run. Source: Apache Parquet, "Encodings", "RLE".
//!
//! A column with no name at all in a row group, or with more than [`DICTIONARY_BYTES_MAX`] of
//! them, is left to the Arrow writer, which knows what to do without a dictionary.

use std::io::Write;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, EncodingMask, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use crate::record::varint::put as put_varint;

use super::names::NameColumn;
use super::points::BLOCK_ROWS;
use super::store::index;

/// The level of zstd that all columns are compressed with.
pub(super) const ZSTD_LEVEL: i32 = 1;

/// Most bytes of a dictionary: whoever reads the row group has it in memory as a whole.
const DICTIONARY_BYTES_MAX: usize = 8 << 20;

/// Longest name by which readers are told where they need not look.
const STATISTICS_BYTES_MAX: usize = 64;

/// Fewest repetitions that become a run.
const RUN_MIN: usize = 8;

/// A name that is none.
const NONE: u32 = u32::MAX;

/// What the columns of names of one row group need and the next one's need again: taken from the
/// allocator each time, it would be memory that the system has to clear.
#[derive(Default)]
pub(super) struct Spare {
    /// By column: for each number a place that is [`NONE`].
    places: Vec<Vec<u32>>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Spare {
    fn places(&mut self, column: usize, count: usize) -> Vec<u32> {
        let mut places = self.places.get_mut(column).map(std::mem::take).unwrap_or_default();
        debug_assert!(places.iter().all(|place| *place == NONE), "given back as it was");
        places.resize(count, NONE);
        places
    }

    fn give_back(&mut self, column: usize, places: Vec<u32>) {
        if self.places.len() <= column {
            self.places.resize_with(column + 1, Vec::new);
        }
        self.places[column] = places;
    }
}

/// A column of names of a row group in the making.
#[derive(Debug)]
pub(super) struct NameRuns<'n> {
    /// `None` where no series has it.
    names: Option<&'n NameColumn>,
    /// For each number of `names`, its place in the dictionary, or [`NONE`].
    places: Vec<u32>,
    /// Which of the file's columns of names it is.
    column: usize,
    /// Numbers of `names`.
    dictionary: Vec<u32>,
    /// Place in the dictionary, or [`NONE`], and how many rows.
    runs: Vec<(u32, usize)>,
    rows: usize,
}

impl<'n> NameRuns<'n> {
    /// The file's column of names `column`, without rows.
    pub(super) fn new(names: Option<&'n NameColumn>, column: usize, spare: &mut Spare) -> Self {
        let places = spare.places(column, names.map_or(0, NameColumn::len));
        Self { names, places, column, dictionary: Vec::new(), runs: Vec::new(), rows: 0 }
    }

    /// Gives back what the next row group's column needs.
    fn end(mut self, spare: &mut Spare) {
        for &number in &self.dictionary {
            self.places[number as usize] = NONE;
        }
        spare.give_back(self.column, self.places);
    }

    /// Gives the rows from `first` on, `rows` of them, the name of this number; those before it that
    /// have got none have none.
    pub(super) fn push(&mut self, number: u32, first: usize, rows: usize) {
        self.fill(first);
        let place = &mut self.places[number as usize];
        if *place == NONE {
            *place = index(self.dictionary.len());
            self.dictionary.push(number);
        }
        let place = *place;
        self.extend(place, rows);
    }

    /// No row up to `rows` that has got no name has one.
    pub(super) fn fill(&mut self, rows: usize) {
        assert!(self.rows <= rows, "rows come in their order");
        if self.rows < rows {
            self.extend(NONE, rows - self.rows);
        }
    }

    fn extend(&mut self, place: u32, rows: usize) {
        self.rows += rows;
        match self.runs.last_mut() {
            Some((last, count)) if *last == place => *count += rows,
            _ => self.runs.push((place, rows)),
        }
    }

    fn texts(&self) -> impl Iterator<Item = &'n str> {
        let names = self.names;
        self.dictionary.iter().map(move |&at| names.expect("it has names").text(at))
    }

    fn text_bytes(&self, number: u32) -> usize {
        self.names.expect("it has names").text_bytes(number)
    }

    /// Whether it can be written here.
    pub(super) fn has_dictionary(&self) -> bool {
        let bytes: usize =
            self.dictionary.iter().map(|&at| self.text_bytes(at) + size_of::<u32>()).sum();
        !self.dictionary.is_empty() && bytes <= DICTIONARY_BYTES_MAX
    }

    /// The column for the Arrow writer.
    pub(super) fn into_array(self) -> Result<ArrayRef, ParquetError> {
        let place = |place: u32| (place != NONE).then(|| place.cast_signed());
        let codes = self.runs.iter().flat_map(|&(at, rows)| std::iter::repeat_n(place(at), rows));
        let codes: Int32Array = codes.collect();
        let names = if self.dictionary.is_empty() { vec![""] } else { self.texts().collect() };
        let names = Arc::new(StringArray::from(names));
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(codes, names)?))
    }

    /// Writes the row group's next column.
    pub(super) fn write<W: Write + Send>(
        self,
        column: ColumnDescPtr,
        group: &mut SerializedRowGroupWriter<'_, W>,
        spare: &mut Spare,
    ) -> Result<(), ParquetError> {
        assert!(!self.dictionary.is_empty(), "other columns are the Arrow writer's");
        let zstd = match spare.zstd.take() {
            Some(zstd) => zstd,
            None => zstd::bulk::Compressor::new(ZSTD_LEVEL)?,
        };
        let mut out = TrackedWrite::new(Vec::new());
        let mut pages = Pages::new(&mut out, zstd);
        pages.put_dictionary(self.texts(), self.dictionary.len())?;
        let mut runs = Runs { runs: &self.runs, taken: 0 };
        let mut left = self.rows;
        while left > 0 {
            let rows = left.min(BLOCK_ROWS);
            left -= rows;
            let texts = |place: u32| self.text_bytes(self.dictionary[place as usize]);
            pages.put_page(&mut runs, rows, column.max_def_level() > 0, texts)?;
        }
        let (close, zstd) = pages.close(self.statistics(), column, self.rows)?;
        spare.zstd = Some(zstd);
        group.append_column(&Bytes::from(out.into_inner()?), close)?;
        self.end(spare);
        Ok(())
    }

    /// The least and the greatest name, and how many rows have none.
    fn statistics(&self) -> Statistics {
        let absent = self.runs.iter().filter(|run| run.0 == NONE).map(|run| run.1 as u64).sum();
        // Numbers are ordered as the names are.
        let ends = [self.dictionary.iter().min(), self.dictionary.iter().max()];
        let [min, max] = ends.map(|end| {
            let text = self.names.expect("it has names").text(*end.expect("it has a name"));
            (text.len() <= STATISTICS_BYTES_MAX).then(|| ByteArray::from(text))
        });
        let (min, max) = min.zip(max).unzip();
        Statistics::from(ValueStatistics::new(min, max, None, Some(absent), false))
    }
}

/// What is left of a column's runs.
struct Runs<'r> {
    runs: &'r [(u32, usize)],
    /// Rows of the first that were taken.
    taken: usize,
}

impl Runs<'_> {
    /// Takes the next rows of one run, `rows` at most.
    fn take(&mut self, rows: usize) -> (u32, usize) {
        let (place, count) = self.runs[0];
        let rows = rows.min(count - self.taken);
        self.taken += rows;
        if self.taken == count {
            self.runs = &self.runs[1..];
            self.taken = 0;
        }
        (place, rows)
    }
}

/// The pages of a column.
struct Pages<'p> {
    writer: SerializedPageWriter<'p, Vec<u8>>,
    zstd: zstd::bulk::Compressor<'static>,
    offsets: OffsetIndexBuilder,
    /// Bits of a place in the dictionary.
    bits: u32,
    dictionary_at: u64,
    data_at: Option<u64>,
    compressed_bytes: usize,
    bytes: usize,
    text_bytes: usize,
}

impl<'p> Pages<'p> {
    fn new(out: &'p mut TrackedWrite<Vec<u8>>, zstd: zstd::bulk::Compressor<'static>) -> Self {
        Self {
            writer: SerializedPageWriter::new(out),
            zstd,
            offsets: OffsetIndexBuilder::new(),
            bits: 0,
            dictionary_at: 0,
            data_at: None,
            compressed_bytes: 0,
            bytes: 0,
            text_bytes: 0,
        }
    }

    fn put_dictionary<'t>(
        &mut self,
        texts: impl Iterator<Item = &'t str>,
        count: usize,
    ) -> Result<(), ParquetError> {
        // One bit at least: not every reader takes numbers of none.
        self.bits = (usize::BITS - (count - 1).leading_zeros()).max(1);
        let mut plain = Vec::new();
        for text in texts {
            plain.extend_from_slice(&index(text.len()).to_le_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let page = Page::DictionaryPage {
            buf: self.zstd.compress(&plain)?.into(),
            num_values: index(count),
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        self.dictionary_at = self.put(page, plain.len())?.offset;
        Ok(())
    }

    /// Writes the next `rows`; `text_bytes` says how long the name of a place is.
    fn put_page(
        &mut self,
        runs: &mut Runs<'_>,
        rows: usize,
        has_levels: bool,
        text_bytes: impl Fn(u32) -> usize,
    ) -> Result<(), ParquetError> {
        let (mut levels, mut places) = (Hybrid::new(1), Hybrid::new(self.bits));
        let (mut left, mut bytes) = (rows, 0);
        while left > 0 {
            let (place, count) = runs.take(left);
            left -= count;
            levels.push(u32::from(place != NONE), count);
            if place != NONE {
                places.push(place, count);
                bytes += text_bytes(place) * count;
            }
        }
        let mut plain = Vec::new();
        if has_levels {
            let levels = levels.finish();
            plain.extend_from_slice(&index(levels.len()).to_le_bytes());
            plain.extend_from_slice(&levels);
        }
        plain.push(u8::try_from(self.bits).expect("places are of 32 bits"));
        plain.extend_from_slice(&places.finish());
        let page = Page::DataPage {
            buf: self.zstd.compress(&plain)?.into(),
            num_values: index(rows),
            encoding: Encoding::RLE_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let put = self.put(page, plain.len())?;
        self.data_at.get_or_insert(put.offset);
        let offset = i64::try_from(put.offset).expect("a column is shorter than that");
        let size = i32::try_from(put.compressed_size).expect("a page is shorter than that");
        self.offsets.append_row_count(signed(rows));
        self.offsets.append_offset_and_size(offset, size);
        self.offsets.append_unencoded_byte_array_data_bytes(Some(signed(bytes)));
        self.text_bytes += bytes;
        Ok(())
    }

    fn put(&mut self, page: Page, plain_bytes: usize) -> Result<PageWriteSpec, ParquetError> {
        let put = self.writer.write_page(CompressedPage::new(page, plain_bytes))?;
        self.compressed_bytes += put.compressed_size;
        self.bytes += put.uncompressed_size;
        Ok(put)
    }

    /// What the row group is told of the column, and what compressed it.
    fn close(
        self,
        statistics: Statistics,
        column: ColumnDescPtr,
        rows: usize,
    ) -> Result<(ColumnCloseResult, zstd::bulk::Compressor<'static>), ParquetError> {
        let encodings = [Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY];
        let data_at = self.data_at.expect("a row group has rows");
        let metadata = ColumnChunkMetaData::builder(column)
            .set_compression(compression())
            .set_encodings_mask(EncodingMask::new_from_encodings(encodings.iter()))
            .set_total_compressed_size(signed(self.compressed_bytes))
            .set_total_uncompressed_size(signed(self.bytes))
            .set_num_values(signed(rows))
            .set_data_page_offset(data_at.cast_signed())
            .set_dictionary_page_offset(Some(self.dictionary_at.cast_signed()))
            .set_statistics(statistics)
            .set_unencoded_byte_array_data_bytes(Some(signed(self.text_bytes)))
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: self.compressed_bytes as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(self.offsets.build()),
        };
        Ok((close, self.zstd))
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).expect("what is in memory is counted in 63 bits")
}

/// How all columns are compressed.
pub(super) fn compression() -> Compression {
    Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).expect("1 is a level of zstd"))
}

/// Numbers of few bits: runs of one number, and groups of eight whose bits are packed.
#[derive(Debug)]
struct Hybrid {
    bits: u32,
    out: Vec<u8>,
    /// Numbers that are to be packed.
    packed: Vec<u32>,
}

impl Hybrid {
    fn new(bits: u32) -> Self {
        Self { bits, out: Vec::new(), packed: Vec::new() }
    }

    /// Appends `number`, `count` times.
    fn push(&mut self, number: u32, count: usize) {
        debug_assert!(number.checked_shr(self.bits).unwrap_or(0) == 0, "it fits the bits");
        // A run may begin only where a group of eight ends.
        let open = self.packed.len() % RUN_MIN;
        let fill = if open == 0 { 0 } else { count.min(RUN_MIN - open) };
        self.packed.extend(std::iter::repeat_n(number, fill));
        let count = count - fill;
        if count < RUN_MIN {
            self.packed.extend(std::iter::repeat_n(number, count));
            return;
        }
        self.pack();
        put_varint(&mut self.out, (count as u64) << 1);
        let bytes = self.bits.div_ceil(8) as usize;
        self.out.extend_from_slice(&number.to_le_bytes()[..bytes]);
    }

    /// Writes what is to be packed; zeros fill the last group.
    fn pack(&mut self) {
        if self.packed.is_empty() {
            return;
        }
        let groups = self.packed.len().div_ceil(RUN_MIN);
        self.packed.resize(groups * RUN_MIN, 0);
        put_varint(&mut self.out, (groups as u64) << 1 | 1);
        let (mut word, mut held) = (0_u64, 0);
        for &number in &self.packed {
            word |= u64::from(number) << held;
            held += self.bits;
            while held >= 8 {
                self.out.push(word.to_le_bytes()[0]);
                word >>= 8;
                held -= 8;
            }
        }
        assert_eq!(held, 0, "eight numbers fill whole bytes");
        self.packed.clear();
    }

    fn finish(mut self) -> Vec<u8> {
        self.pack();
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads numbers back, by the format's text and not by the code above.
    fn read(bytes: &[u8], bits: u32, count: usize) -> Vec<u32> {
        let (mut rest, mut numbers) = (bytes, Vec::new());
        while !rest.is_empty() {
            let head = crate::record::varint::take(&mut rest).unwrap();
            let times = usize::try_from(head >> 1).unwrap();
            if head & 1 == 0 {
                let (value, after) = rest.split_at(bits.div_ceil(8) as usize);
                let number = value.iter().rev().fold(0, |n, &byte| n << 8 | u32::from(byte));
                numbers.extend(std::iter::repeat_n(number, times));
                rest = after;
            } else {
                let (packed, after) = rest.split_at(times * bits as usize);
                let bit = |at: usize| u32::from(packed[at / 8] >> (at % 8) & 1);
                numbers.extend((0..times * 8).map(|number| {
                    let begin = number * bits as usize;
                    (0..bits as usize).fold(0, |n, at| n | bit(begin + at) << at)
                }));
                rest = after;
            }
        }
        assert!(numbers.len() - count < 8, "only a last group is filled up");
        assert!(numbers[count..].iter().all(|&number| number == 0));
        numbers.truncate(count);
        numbers
    }

    #[test]
    fn numbers_of_any_bits_and_runs_are_read_as_they_were_written() {
        let mut seed = 11_u64;
        let mut below = |end: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) % end
        };
        for bits in [1, 2, 3, 7, 8, 9, 17, 20, 31, 32] {
            for longest in [1, 2, 9, 40, 1_000] {
                let (mut hybrid, mut expected) = (Hybrid::new(bits), Vec::new());
                for _ in 0..300 {
                    let number = u32::try_from(below(1 << bits)).unwrap();
                    let count = usize::try_from(1 + below(longest)).unwrap();
                    hybrid.push(number, count);
                    expected.extend(std::iter::repeat_n(number, count));
                }
                assert_eq!(read(&hybrid.finish(), bits, expected.len()), expected, "{bits} bits");
            }
        }
        assert!(Hybrid::new(5).finish().is_empty());
    }
}
