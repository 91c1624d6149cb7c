//! Packing records into a payload.

use std::ops::Range;

use hashbrown::HashTable;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::super::varint::{put, put_bytes, put_signed};
use super::super::{Attribute, MeasureKind, Record, TableId, Value};
use super::{BUCKETS, Bucket, HEADER_BYTES, PAYLOAD_VERSION, SECTION_ENTRY_BYTES};

/// Index of a family in the payload under construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FamilyId(pub u32);

/// Index of a layout in the payload under construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LayoutId(pub u32);

/// Builds one payload. Reused from request to request, so that its buffers are allocated once.
///
/// The caller first asks for the record's [`FamilyId`] and [`LayoutId`], checks what is new about
/// them (names, types: once a request, not once a record) and then pushes the record.
#[derive(Debug)]
pub struct PayloadBuilder {
    received_ns: i64,
    families: Vec<FamilyEntry>,
    families_by_hash: HashTable<u32>,
    family_bytes: Vec<u8>,
    family_hint: usize,
    layouts: Vec<LayoutEntry>,
    layouts_by_hash: HashTable<u32>,
    layout_bytes: Vec<u8>,
    layout_hint: usize,
    names: Names,
    /// Kept for its allocation.
    order: Vec<u16>,
    sections: Vec<Section>,
    series: HashTable<SeriesEntry>,
    refused: Vec<u8>,
    refused_count: u32,
    records: u32,
    scratch: Vec<u8>,
}

/// A family as it arrived: two orders of arrival of the same names are two entries with one encoding
/// and one hash.
#[derive(Debug)]
struct FamilyEntry {
    table: TableId,
    /// The measure name, and behind it those of the dimensions, in the order of arrival, to recognise the
    /// next record's without sorting them. With each dimension stands its place in the order of arrival
    /// of the name that is sorted there.
    names: Range<usize>,
    hash: u64,
}

#[derive(Debug)]
struct LayoutEntry {
    kind: MeasureKind,
    /// The names of the attributes, each with the number of its type.
    names: Range<usize>,
}

/// The names of all families and layouts, in one piece: a request of one line has half a dozen, and an
/// allocation for each would take longer than packing its record.
#[derive(Debug, Default)]
struct Names {
    text: String,
    /// Where each name ends in `text`, and what stands with it.
    ends: Vec<(usize, u16)>,
}

impl Names {
    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn push(&mut self, name: &str, with: u16) {
        self.text.push_str(name);
        self.ends.push((self.text.len(), with));
    }

    /// These names, and what stands with each.
    fn all(&self, range: Range<usize>) -> impl Iterator<Item = (&str, u16)> {
        let start = range.start.checked_sub(1).map_or(0, |before| self.ends[before].0);
        self.ends[range].iter().scan(start, |start, &(end, with)| {
            let name = &self.text[*start..end];
            *start = end;
            Some((name, with))
        })
    }
}

#[derive(Debug, Default)]
struct Section {
    bytes: Vec<u8>,
    records: u32,
    series: u32,
    time_ns: i64,
    version: i64,
    number: i64,
}

/// Where in its section a series was written first.
#[derive(Debug, Clone, Copy)]
struct SeriesEntry {
    hash: u64,
    family: u32,
    section: u16,
    /// From 1, as the records of the section refer to it.
    number: u32,
    values_at: usize,
    values_len: usize,
}

impl PayloadBuilder {
    /// A builder for payloads of `sections` sections, one a shard.
    pub fn new(sections: usize) -> Self {
        assert!(sections >= 1, "a payload has a section for at least one shard");
        assert!(sections <= BUCKETS, "a shard owns at least one bucket");
        Self {
            received_ns: 0,
            families: Vec::new(),
            families_by_hash: HashTable::new(),
            family_bytes: Vec::new(),
            family_hint: 0,
            layouts: Vec::new(),
            layouts_by_hash: HashTable::new(),
            layout_bytes: Vec::new(),
            layout_hint: 0,
            names: Names::default(),
            order: Vec::new(),
            sections: (0..sections).map(|_| Section::default()).collect(),
            series: HashTable::new(),
            refused: Vec::new(),
            refused_count: 0,
            records: 0,
            scratch: Vec::new(),
        }
    }

    /// Forgets all records and begins the payload of a request received at `received_ns`.
    pub fn start(&mut self, received_ns: i64) {
        self.received_ns = received_ns;
        self.families.clear();
        self.families_by_hash.clear();
        self.family_bytes.clear();
        self.family_hint = 0;
        self.layouts.clear();
        self.layouts_by_hash.clear();
        self.layout_bytes.clear();
        self.layout_hint = 0;
        self.names.clear();
        self.series.clear();
        self.refused.clear();
        self.refused_count = 0;
        self.records = 0;
        for section in &mut self.sections {
            section.bytes.clear();
            *section = Section {
                bytes: std::mem::take(&mut section.bytes),
                time_ns: received_ns,
                ..Section::default()
            };
        }
    }

    /// Records pushed since [`Self::start`].
    pub const fn records(&self) -> u32 {
        self.records
    }

    /// Refused lines since [`Self::start`].
    pub const fn refused(&self) -> u32 {
        self.refused_count
    }

    /// Whether there is anything to append.
    pub const fn is_empty(&self) -> bool {
        self.records == 0 && self.refused_count == 0
    }

    /// Bytes that [`Self::finish`] would write.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES
            + self.sections.len() * SECTION_ENTRY_BYTES
            + self.family_bytes.len()
            + self.layout_bytes.len()
            + self.refused.len()
            + self.sections.iter().map(|section| section.bytes.len()).sum::<usize>()
    }

    /// The family of `record` in `table`, and whether this is its first record in the request.
    pub fn family(&mut self, table: TableId, record: &Record<'_>) -> (FamilyId, bool) {
        // Lines of one kind come in runs or in turns, so the last family or the one after it is
        // nearly always right, and comparing is cheaper than hashing.
        for at in [self.family_hint, self.family_hint + 1, 0] {
            if self.families.get(at).is_some_and(|f| f.is_of(&self.names, table, record)) {
                self.family_hint = at;
                return (FamilyId(index(at)), false);
            }
        }
        let hash = arrival_hash(table, record);
        let (families, names) = (&self.families, &self.names);
        let found = self
            .families_by_hash
            .find(hash, |&at| families[at as usize].is_of(names, table, record))
            .copied();
        let (at, is_new) = match found {
            Some(at) => (at, false),
            None => (self.add_family(table, record, hash), true),
        };
        self.family_hint = at as usize;
        (FamilyId(at), is_new)
    }

    /// The layout of `record`, and whether this is its first record in the request.
    pub fn layout(&mut self, record: &Record<'_>) -> (LayoutId, bool) {
        for at in [self.layout_hint, self.layout_hint + 1, 0] {
            if self.layouts.get(at).is_some_and(|layout| layout.is_of(&self.names, record)) {
                self.layout_hint = at;
                return (LayoutId(index(at)), false);
            }
        }
        let hash = layout_hash(record);
        let (layouts, names) = (&self.layouts, &self.names);
        let found = self
            .layouts_by_hash
            .find(hash, |&at| layouts[at as usize].is_of(names, record))
            .copied();
        let (at, is_new) = match found {
            Some(at) => (at, false),
            None => (self.add_layout(record, hash), true),
        };
        self.layout_hint = at as usize;
        (LayoutId(at), is_new)
    }

    /// Adds `record`, whose family and layout were asked for before, with its final time and version.
    pub fn push(
        &mut self,
        ids: (FamilyId, LayoutId),
        record: &Record<'_>,
        time_ns: i64,
        version: i64,
    ) {
        let (family_id, layout_id) = ids;
        let family = &self.families[family_id.0 as usize];
        debug_assert_eq!(family.dimensions(), record.dimensions.len(), "the family of this record");
        self.scratch.clear();
        for &(_, place) in &self.names.ends[family.names.clone()][1..] {
            put_bytes(&mut self.scratch, record.dimensions[usize::from(place)].value.as_bytes());
        }
        let hash = xxh3_64_with_seed(&self.scratch, family.hash);
        let at = Bucket::of(hash).shard(self.sections.len());
        let key = SeriesKey { hash, family: family_id.0, section: at };
        let number = find_series(&self.series, &self.sections[at], &key, &self.scratch);
        let section = &mut self.sections[at];
        if let Some(number) = number {
            put(&mut section.bytes, u64::from(number));
        } else {
            let entry = section.begin_series(&key, &self.scratch);
            self.series.insert_unique(hash, entry, |entry| entry.hash);
        }
        put(&mut section.bytes, u64::from(layout_id.0));
        let number = record.origin.number.cast_signed();
        put_signed(&mut section.bytes, time_ns.wrapping_sub(section.time_ns));
        put_signed(&mut section.bytes, version.wrapping_sub(section.version));
        put_signed(&mut section.bytes, number.wrapping_sub(section.number));
        (section.time_ns, section.version, section.number) = (time_ns, version, number);
        self.scratch.clear();
        for attribute in &record.attributes {
            put_value(&mut self.scratch, attribute);
        }
        put_bytes(&mut section.bytes, &self.scratch);
        section.records += 1;
        self.records += 1;
    }

    /// Adds a line that was refused, so that it reaches the reject sink with the request's records: of
    /// which database, and how it was to be read.
    pub fn push_refused(
        &mut self,
        (database, reading): (&str, &str),
        refusal: &super::super::Refusal<'_>,
    ) {
        put(&mut self.refused, refusal.origin.number);
        self.refused.push(refusal.reason.number());
        put_bytes(&mut self.refused, database.as_bytes());
        put_bytes(&mut self.refused, refusal.message.as_bytes());
        put_bytes(&mut self.refused, refusal.origin.text);
        put_bytes(&mut self.refused, reading.as_bytes());
        self.refused_count += 1;
    }

    /// Writes the payload into `out`, replacing what it holds. The builder keeps its state until the
    /// next [`Self::start`].
    pub fn finish(&self, out: &mut Vec<u8>) {
        out.clear();
        out.reserve(self.bytes());
        out.push(PAYLOAD_VERSION);
        out.push(0);
        let sections = u16::try_from(self.sections.len()).expect("at most BUCKETS sections");
        out.extend_from_slice(&sections.to_le_bytes());
        for count in [index(self.families.len()), index(self.layouts.len()), self.refused_count] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        out.extend_from_slice(&self.received_ns.to_le_bytes());
        for bytes in [self.family_bytes.len() + self.layout_bytes.len(), self.refused.len()] {
            out.extend_from_slice(&index(bytes).to_le_bytes());
        }
        assert_eq!(out.len(), HEADER_BYTES, "the header is as long as its table says");
        for section in &self.sections {
            out.extend_from_slice(&index(section.bytes.len()).to_le_bytes());
            out.extend_from_slice(&section.records.to_le_bytes());
        }
        out.extend_from_slice(&self.family_bytes);
        out.extend_from_slice(&self.layout_bytes);
        out.extend_from_slice(&self.refused);
        for section in &self.sections {
            out.extend_from_slice(&section.bytes);
        }
        assert_eq!(out.len(), self.bytes(), "every part was written once");
    }

    fn add_family(&mut self, table: TableId, record: &Record<'_>, arrival: u64) -> u32 {
        let first = self.names.len();
        self.names.push(record.measure_name, 0);
        let begin = self.family_bytes.len();
        put(&mut self.family_bytes, u64::from(table.0));
        put_bytes(&mut self.family_bytes, record.measure_name.as_bytes());
        put(&mut self.family_bytes, record.dimensions.len() as u64);
        self.order.clear();
        for (place, dimension) in record.dimensions.iter().enumerate() {
            self.order.push(u16::try_from(place).expect("dimensions are limited"));
            self.names.push(dimension.name, 0);
        }
        let name = |place: u16| record.dimensions[usize::from(place)].name;
        self.order.sort_by(|&one, &other| name(one).cmp(name(other)));
        for (entry, &place) in self.names.ends[first + 1..].iter_mut().zip(&self.order) {
            entry.1 = place;
            put_bytes(&mut self.family_bytes, name(place).as_bytes());
        }
        let hash = xxh3_64(&self.family_bytes[begin..]);
        self.families.push(FamilyEntry { table, names: first..self.names.len(), hash });
        let at = index(self.families.len() - 1);
        let (families, names) = (&self.families, &self.names);
        self.families_by_hash
            .insert_unique(arrival, at, |&at| families[at as usize].arrival_hash(names));
        at
    }

    fn add_layout(&mut self, record: &Record<'_>, hash: u64) -> u32 {
        self.layout_bytes.push(u8::from(record.kind == MeasureKind::Multi));
        put(&mut self.layout_bytes, record.attributes.len() as u64);
        let first = self.names.len();
        for attribute in &record.attributes {
            let number = attribute.value.value_type().number();
            self.layout_bytes.push(number);
            put_bytes(&mut self.layout_bytes, attribute.name.as_bytes());
            self.names.push(attribute.name, u16::from(number));
        }
        self.layouts.push(LayoutEntry { kind: record.kind, names: first..self.names.len() });
        let at = index(self.layouts.len() - 1);
        let (layouts, names) = (&self.layouts, &self.names);
        self.layouts_by_hash.insert_unique(hash, at, |&at| layouts[at as usize].hash(names));
        at
    }
}

/// What tells one series of the payload from another, but for its values.
struct SeriesKey {
    hash: u64,
    family: u32,
    section: usize,
}

impl Section {
    /// Writes a series where it occurs first.
    fn begin_series(&mut self, key: &SeriesKey, values: &[u8]) -> SeriesEntry {
        self.series += 1;
        put(&mut self.bytes, 0);
        put(&mut self.bytes, u64::from(key.family));
        self.bytes.extend_from_slice(&key.hash.to_le_bytes());
        put(&mut self.bytes, values.len() as u64);
        let values_at = self.bytes.len();
        self.bytes.extend_from_slice(values);
        SeriesEntry {
            hash: key.hash,
            family: key.family,
            section: u16::try_from(key.section).expect("at most BUCKETS sections"),
            number: self.series,
            values_at,
            values_len: values.len(),
        }
    }
}

/// The number of a series in its section, if the section has it. Equal hashes are not enough: two
/// series that were taken for one would lose records.
fn find_series(
    series: &HashTable<SeriesEntry>,
    section: &Section,
    key: &SeriesKey,
    values: &[u8],
) -> Option<u32> {
    series
        .find(key.hash, |entry| {
            entry.hash == key.hash
                && entry.family == key.family
                && usize::from(entry.section) == key.section
                && section.bytes[entry.values_at..entry.values_at + entry.values_len] == *values
        })
        .map(|entry| entry.number)
}

impl FamilyEntry {
    fn dimensions(&self) -> usize {
        self.names.len() - 1
    }

    fn is_of(&self, names: &Names, table: TableId, record: &Record<'_>) -> bool {
        let arrived =
            std::iter::once(record.measure_name).chain(record.dimensions.iter().map(|d| d.name));
        self.table == table
            && self.dimensions() == record.dimensions.len()
            && names.all(self.names.clone()).map(|(name, _)| name).eq(arrived)
    }

    fn arrival_hash(&self, names: &Names) -> u64 {
        let mut all = names.all(self.names.clone()).map(|(name, _)| name);
        let measure_name = all.next().expect("a family has a measure name");
        hash_names(u64::from(self.table.0), measure_name, all)
    }
}

impl LayoutEntry {
    fn is_of(&self, names: &Names, record: &Record<'_>) -> bool {
        let arrived =
            record.attributes.iter().map(|a| (a.name, u16::from(a.value.value_type().number())));
        self.kind == record.kind
            && self.names.len() == record.attributes.len()
            && names.all(self.names.clone()).eq(arrived)
    }

    fn hash(&self, names: &Names) -> u64 {
        hash_layout(names.all(self.names.clone()))
    }
}

fn arrival_hash(table: TableId, record: &Record<'_>) -> u64 {
    let names = record.dimensions.iter().map(|d| d.name);
    hash_names(u64::from(table.0), record.measure_name, names)
}

fn layout_hash(record: &Record<'_>) -> u64 {
    hash_layout(
        record.attributes.iter().map(|a| (a.name, u16::from(a.value.value_type().number()))),
    )
}

// Both hashes live as long as a request and never leave it.
fn hash_names<'n>(table: u64, measure: &str, names: impl Iterator<Item = &'n str>) -> u64 {
    names.fold(xxh3_64_with_seed(measure.as_bytes(), table), |hash, name| {
        xxh3_64_with_seed(name.as_bytes(), hash)
    })
}

fn hash_layout<'n>(attributes: impl Iterator<Item = (&'n str, u16)>) -> u64 {
    attributes.fold(0, |hash, (name, number)| {
        xxh3_64_with_seed(name.as_bytes(), hash.rotate_left(8) ^ u64::from(number))
    })
}

#[inline]
fn put_value(out: &mut Vec<u8>, attribute: &Attribute<'_>) {
    match attribute.value {
        Value::Double(value) => out.extend_from_slice(&value.to_bits().to_le_bytes()),
        Value::Bigint(value) | Value::Timestamp(value) => put_signed(out, value),
        Value::Boolean(value) => out.push(u8::from(value)),
        Value::Varchar(value) => put_bytes(out, value.as_bytes()),
    }
}

/// Counts and lengths inside a payload fit 32 bits, since a payload does.
fn index(value: usize) -> u32 {
    u32::try_from(value).expect("payloads are bounded far below 4 GiB")
}
