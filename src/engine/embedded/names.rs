//! The names of some series as numbers: what sorts series, and what their columns in a file hold.
//!
//! A million series of ten dimensions have ten million texts, but few different ones a dimension,
//! one of them apart. Each text of a dimension is looked up once a series and from then on is a number
//! whose order is the text's order. Series are then sorted by a few machine words, where they were
//! sorted by texts of a hundred bytes each, and a row group's dictionary is found without a look at a
//! text.
//!
//! # The order of series
//!
//! By measure name, then by name and value of the first dimension, of the second, and so on; texts by
//! their bytes, what ends earlier first. It is that of [`SeriesKey::order`], which compares two
//! series without the others; the two must agree, since files sorted by one are merged by the other.
//!
//! # Sort words
//!
//! The numbers of a series are packed into the upper [`KEY_BITS`] of a word in that order, as
//! many as fit; below them stands the series' place. Series that differ in what did not fit only are
//! sorted by the rest.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};

use crate::record::varint;

use super::series::{FamilyKey, SeriesKey};
use super::store::{TableStore, index};

/// Bits of a sort word for the numbers of a series; the others are its place.
const KEY_BITS: u32 = u128::BITS - u32::BITS;

/// Names of some series, each at a place: that of its key among those that were given, or, after
/// [`SeriesNames::in_order`], that which it has in the order of series.
#[derive(Debug)]
pub(super) struct SeriesNames {
    measures: NameColumn,
    /// The dimensions of any of the series, sorted by name.
    dimensions: Vec<(Box<str>, NameColumn)>,
    families: Vec<FamilyNames>,
    series: Vec<SeriesPlace>,
    hashes: Vec<u64>,
    /// Of one series after the other, the number of the value of each of its dimensions.
    values: Vec<u32>,
}

/// What the series of a family have in common.
#[derive(Debug)]
struct FamilyNames {
    measure: u32,
    /// The places of its dimensions among all.
    dimensions: Box<[u32]>,
}

/// Where the numbers of a series stand.
#[derive(Debug, Clone, Copy)]
struct SeriesPlace {
    family: u32,
    /// Its first value.
    begin: usize,
}

/// A series in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sorted {
    /// Its place among the keys that were given.
    pub(super) place: usize,
    /// Whether it is the one before it once more.
    pub(super) is_again: bool,
}

/// The different texts of a column.
#[derive(Debug, Default)]
pub(super) struct NameColumn {
    /// One behind the other, in their order.
    texts: String,
    /// Where each ends; it begins where the one before ends.
    ends: Vec<usize>,
}

/// A column whose texts are being numbered, in the order of their coming.
#[derive(Debug, Default)]
struct Collector<'k> {
    texts: Vec<&'k [u8]>,
    /// Hashes and numbers. With the hash, since a table that grows would wait for each text again.
    by_text: HashTable<(u64, u32)>,
    hasher: RandomState,
}

impl<'k> Collector<'k> {
    fn number(&mut self, text: &'k [u8]) -> u32 {
        use std::hash::BuildHasher;
        let hash = self.hasher.hash_one(text);
        let texts = &self.texts;
        let is_it = |&(known, at): &(u64, u32)| known == hash && texts[at as usize] == text;
        if let Some(&(_, at)) = self.by_text.find(hash, is_it) {
            return at;
        }
        let at = index(self.texts.len());
        self.texts.push(text);
        self.by_text.insert_unique(hash, (hash, at), |&(hash, _)| hash);
        at
    }

    /// The texts in their order, and for each number that was given the place there.
    fn sorted(self) -> (NameColumn, Vec<u32>) {
        let texts = &self.texts;
        // What all begin with says nothing; the next bytes as one word nearly always decide.
        let common = common_prefix(texts);
        let mut order: Vec<(u64, u32)> =
            (0..).zip(texts).map(|(at, text)| (word_of(&text[common..]), at)).collect();
        order.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| texts[a.1 as usize].cmp(texts[b.1 as usize]))
        });
        let mut places = vec![0; texts.len()];
        let bytes = texts.iter().map(|text| text.len()).sum();
        let (mut sorted, mut ends) =
            (String::with_capacity(bytes), Vec::with_capacity(texts.len()));
        for (place, &(_, at)) in (0..).zip(&order) {
            places[at as usize] = place;
            let text = std::str::from_utf8(texts[at as usize]);
            sorted.push_str(text.expect("a payload's reader checked that names are text"));
            ends.push(sorted.len());
        }
        (NameColumn { texts: sorted, ends }, places)
    }
}

/// Bytes with which all texts begin.
fn common_prefix(texts: &[&[u8]]) -> usize {
    let Some((first, rest)) = texts.split_first() else { return 0 };
    rest.iter().fold(first.len(), |common, text| {
        first[..common].iter().zip(*text).take_while(|(a, b)| a == b).count()
    })
}

/// The first eight bytes; zeros where the text ends before.
fn word_of(text: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = text.len().min(8);
    bytes[..length].copy_from_slice(&text[..length]);
    // The first byte weighs most, as it does when texts are compared.
    u64::from_le_bytes(bytes).swap_bytes()
}

impl NameColumn {
    /// The text of a number.
    pub(super) fn text(&self, number: u32) -> &str {
        let number = number as usize;
        let begin = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.texts[begin..self.ends[number]]
    }

    /// How long the text of a number is; costs no look at the text.
    pub(super) fn text_bytes(&self, number: u32) -> usize {
        let number = number as usize;
        self.ends[number] - number.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    pub(super) const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bits that tell its numbers apart.
    fn bits(&self) -> u32 {
        bits_for(self.ends.len())
    }
}

/// Bits that tell `count` numbers apart.
fn bits_for(count: usize) -> u32 {
    usize::BITS - count.saturating_sub(1).leading_zeros()
}

impl SeriesNames {
    /// Cost: a look-up a dimension of each key, and a sort of the different texts.
    pub(super) fn new<'k>(keys: impl Iterator<Item = &'k Arc<SeriesKey>> + Clone) -> Self {
        let mut families = Families::default();
        let series_families: Vec<u32> =
            keys.clone().map(|key| families.place(&key.family)).collect();
        let names: BTreeSet<&str> =
            families.list.iter().flat_map(|family| family.family().names()).collect();
        let names: Vec<&'k str> = names.into_iter().collect();
        let mut collectors: Vec<Collector<'k>> = Vec::new();
        collectors.resize_with(names.len(), Collector::default);
        let mut measures = Collector::default();
        let place = |name: &str| index(names.binary_search(&name).expect("among all names"));
        let mut of_families: Vec<FamilyNames> = families
            .list
            .iter()
            .map(|family| FamilyNames {
                measure: measures.number(family.family().measure_name.as_bytes()),
                dimensions: family.family().names().map(place).collect(),
            })
            .collect();
        let mut values = Vec::new();
        let mut series = Vec::with_capacity(series_families.len());
        let mut hashes = Vec::with_capacity(series_families.len());
        for (key, family) in keys.zip(series_families) {
            series.push(SeriesPlace { family, begin: values.len() });
            hashes.push(key.hash);
            let mut rest = key.values();
            for &dimension in &of_families[family as usize].dimensions {
                let text = varint::take_bytes(&mut rest).expect("a value a dimension");
                values.push(collectors[dimension as usize].number(text));
            }
            assert!(rest.is_empty(), "a series has no more values than dimensions");
        }
        let (columns, places): (Vec<_>, Vec<_>) =
            collectors.into_iter().map(Collector::sorted).unzip();
        let (measures, measure_places) = measures.sorted();
        for family in &mut of_families {
            family.measure = measure_places[family.measure as usize];
        }
        for at in &series {
            let dimensions = &of_families[at.family as usize].dimensions;
            let of_series = &mut values[at.begin..][..dimensions.len()];
            for (value, &dimension) in of_series.iter_mut().zip(dimensions) {
                *value = places[dimension as usize][*value as usize];
            }
        }
        let dimensions = names.into_iter().map(Box::from).zip(columns).collect();
        Self { measures, dimensions, families: of_families, series, hashes, values }
    }

    /// Those of a store's series.
    pub(super) fn of(store: &TableStore) -> Self {
        Self::new(store.keys().iter())
    }

    /// The same series at the places that they have in this order: whoever goes through them then goes
    /// through memory from its begin to its end.
    pub(super) fn in_order(self, order: &[Sorted]) -> Self {
        assert_eq!(order.len(), self.series.len(), "every series has its place");
        let mut values = Vec::with_capacity(self.values.len());
        let mut series = Vec::with_capacity(order.len());
        for sorted in order {
            let family = self.series[sorted.place].family;
            series.push(SeriesPlace { family, begin: values.len() });
            values.extend_from_slice(self.numbers(sorted.place).1);
        }
        let hashes = order.iter().map(|sorted| self.hashes[sorted.place]).collect();
        Self { series, hashes, values, ..self }
    }

    /// A series' hash.
    pub(super) fn hash(&self, series: usize) -> u64 {
        self.hashes[series]
    }

    pub(super) const fn measures(&self) -> &NameColumn {
        &self.measures
    }

    /// Names and values of the dimensions of any of the series, sorted by name.
    pub(super) fn dimensions(&self) -> &[(Box<str>, NameColumn)] {
        &self.dimensions
    }

    /// The number of a series' measure name.
    pub(super) fn measure(&self, series: usize) -> u32 {
        self.families[self.series[series].family as usize].measure
    }

    /// Places among all dimensions, ascending, and numbers of a series' values.
    pub(super) fn values(&self, series: usize) -> impl Iterator<Item = (u32, u32)> {
        let (dimensions, values) = self.numbers(series);
        dimensions.iter().copied().zip(values.iter().copied())
    }

    fn numbers(&self, series: usize) -> (&[u32], &[u32]) {
        let SeriesPlace { family, begin } = self.series[series];
        let dimensions = &*self.families[family as usize].dimensions;
        (dimensions, &self.values[begin..][..dimensions.len()])
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        self.measure(a).cmp(&self.measure(b)).then_with(|| self.values(a).cmp(self.values(b)))
    }

    /// The series in their order; equal ones side by side, the earlier place first.
    pub(super) fn sorted(&self) -> Vec<Sorted> {
        let packing = Packing::of(self);
        let mut words: Vec<u128> =
            (0..self.series.len()).map(|at| packing.word(self, at)).collect();
        words.sort_unstable();
        let place = |word: u128| {
            usize::try_from(word & u128::from(u32::MAX)).expect("masked to as many bits")
        };
        let mut sorted = Vec::with_capacity(words.len());
        for same in words.chunk_by(|a, b| a >> u32::BITS == b >> u32::BITS) {
            let begin = sorted.len();
            sorted.extend(same.iter().map(|&word| Sorted { place: place(word), is_again: true }));
            let of_word = &mut sorted[begin..];
            if !packing.is_whole {
                // Stable, so that of equal series the earlier place stays first.
                of_word.sort_by(|a, b| self.compare(a.place, b.place));
                for at in (1..of_word.len()).rev() {
                    let (before, own) = (of_word[at - 1].place, of_word[at].place);
                    of_word[at].is_again = self.compare(before, own).is_eq();
                }
            }
            of_word[0].is_again = false;
        }
        sorted
    }
}

/// Numbers the keys of several stores by the order of series: equal keys get equal numbers. Returns,
/// for each key given, its number, and the keys by number.
pub(super) fn rank<'k>(
    keys: impl Iterator<Item = &'k Arc<SeriesKey>> + Clone,
) -> (Vec<u32>, Vec<&'k Arc<SeriesKey>>) {
    let names = SeriesNames::new(keys.clone());
    let keys: Vec<&Arc<SeriesKey>> = keys.collect();
    let mut ranks = vec![0; keys.len()];
    let mut distinct = Vec::new();
    for Sorted { place, is_again } in names.sorted() {
        if !is_again {
            distinct.push(keys[place]);
        }
        ranks[place] = index(distinct.len() - 1);
    }
    (ranks, distinct)
}

/// The families of some series, told apart by where they are kept.
#[derive(Default)]
struct Families<'k> {
    list: Vec<&'k Arc<FamilyKey>>,
    by_address: HashMap<usize, u32, RandomState>,
    last: Option<(usize, u32)>,
}

impl<'k> Families<'k> {
    fn place(&mut self, family: &'k Arc<FamilyKey>) -> u32 {
        let address = Arc::as_ptr(family).addr();
        if let Some((last, at)) = self.last
            && last == address
        {
            return at;
        }
        let list = &mut self.list;
        let at = *self.by_address.entry(address).or_insert_with(|| {
            list.push(family);
            index(list.len() - 1)
        });
        self.last = Some((address, at));
        at
    }
}

/// How the numbers of series are packed into sort words.
struct Packing {
    /// Whether the series are all of the same dimensions, whose names then need no bits.
    is_uniform: bool,
    /// Bits of a dimension's name, and of the end that a series without one more has.
    name_bits: u32,
    /// Of each dimension, by its position in the series, the bits of its value; as many as fit.
    value_bits: Vec<u32>,
    /// Whether all numbers of every series fit.
    is_whole: bool,
}

impl Packing {
    fn of(names: &SeriesNames) -> Self {
        let families = &names.families;
        let is_uniform = families.windows(2).all(|two| two[0].dimensions == two[1].dimensions);
        let name_bits = if is_uniform { 0 } else { bits_for(names.dimensions.len() + 1) };
        let positions = families.iter().map(|family| family.dimensions.len()).max().unwrap_or(0);
        let mut value_bits = Vec::new();
        let mut left = KEY_BITS - names.measures.bits();
        for position in 0..positions {
            let of_position = families.iter().filter_map(|family| family.dimensions.get(position));
            let bits = of_position.map(|&at| names.dimensions[at as usize].1.bits()).max();
            let bits = bits.unwrap_or(0);
            if name_bits + bits > left {
                break;
            }
            left -= name_bits + bits;
            value_bits.push(bits);
        }
        let is_whole = value_bits.len() == positions;
        Self { is_uniform, name_bits, value_bits, is_whole }
    }

    /// The numbers of a series that fit, and its place.
    fn word(&self, names: &SeriesNames, series: usize) -> u128 {
        let mut word = u128::from(names.measure(series));
        let mut values = names.values(series);
        for &bits in &self.value_bits {
            // What ends is before what goes on, so the first name is 1.
            let (name, value) = values.next().map_or((0, 0), |(name, value)| (name + 1, value));
            if !self.is_uniform {
                word = word << self.name_bits | u128::from(name);
            }
            word = word << bits | u128::from(value);
        }
        assert!(word.leading_zeros() >= u32::BITS, "the numbers fit the bits they were given");
        word << u32::BITS | u128::from(index(series))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TableId;

    fn key(measure_name: &str, dimensions: &[(String, String)]) -> Arc<SeriesKey> {
        let names = dimensions.iter().map(|d| &*d.0);
        let family = Arc::new(FamilyKey::of(TableId(1), measure_name, names));
        let mut values = Vec::new();
        for (_, value) in dimensions {
            varint::put_bytes(&mut values, value.as_bytes());
        }
        Arc::new(SeriesKey::of(family, &values))
    }

    fn text_key(measure_name: &str, dimensions: &[(&str, &str)]) -> Arc<SeriesKey> {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        key(measure_name, &dimensions.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn series_are_ordered_by_measure_name_and_dimensions() {
        let ordered = [
            text_key("a", &[]),
            text_key("a", &[("h", "")]),
            text_key("a", &[("h", ""), ("i", "1")]),
            text_key("a", &[("h", "\0")]),
            text_key("a", &[("h", "\0a")]),
            text_key("a", &[("h", "\u{1}")]),
            text_key("a", &[("h", "1")]),
            text_key("a", &[("h", "10")]),
            text_key("a", &[("h", "2")]),
            text_key("a", &[("ha", "1")]),
            text_key("a\0", &[("h", "1")]),
            text_key("aa", &[]),
        ];
        let again = text_key("a", &[("h", "10")]);
        let (ranks, distinct) = rank(std::iter::once(&again).chain(ordered.iter().rev()));
        assert_eq!(distinct.len(), ordered.len());
        assert_eq!(ranks[0], 7);
        let expected: Vec<u32> = (0..12).rev().collect();
        assert_eq!(ranks[1..], expected);
    }

    /// Sorts by numbers and by texts.
    fn check(keys: &[Arc<SeriesKey>]) {
        let names = SeriesNames::new(keys.iter());
        let mut expected: Vec<usize> = (0..keys.len()).collect();
        expected.sort_by_key(|&at| keys[at].order());
        let sorted = names.sorted();
        assert!(sorted.iter().map(|series| series.place).eq(expected.iter().copied()));
        let again = |pair: &[usize]| keys[pair[0]].order() == keys[pair[1]].order();
        let is_again = std::iter::once(false).chain(expected.windows(2).map(again));
        assert!(sorted.iter().map(|series| series.is_again).eq(is_again.take(keys.len())));
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(names.measures().text(names.measure(at)), key.family.family().measure_name);
            let text = |(dimension, value): (u32, u32)| {
                let (name, column) = &names.dimensions()[dimension as usize];
                (&**name, column.text(value))
            };
            assert!(names.values(at).map(text).eq(key.dimensions()));
        }
    }

    /// Goal: numbers sort series as their texts do, whatever families and texts there are. Method:
    /// random series of few and many dimensions, with texts that begin alike, are empty, hold zeros or
    /// come twice; once so many that not all numbers fit a sort word.
    #[test]
    fn numbers_sort_series_as_their_texts_do() {
        let mut seed = 7_u64;
        let mut below = |end: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) % end
        };
        let texts =
            ["", "\0", "\0\u{1}", "a", "a\0", "ab", "host_1", "host_10", "host_2", "ä", "~"];
        for dimensions_max in [1, 3, 30] {
            let mut keys: Vec<Arc<SeriesKey>> = Vec::new();
            for _ in 0..2_000 {
                let mut dimensions = Vec::new();
                for at in 0..dimensions_max {
                    if below(4) > 0 {
                        let text = texts[usize::try_from(below(11)).unwrap()];
                        dimensions.push((format!("d{at:02}"), format!("{text}{}", below(40))));
                    }
                }
                keys.push(key(
                    ["", "cpu", "cpu\0", "mem"][usize::try_from(below(4)).unwrap()],
                    &dimensions,
                ));
            }
            keys.extend(keys.clone().into_iter().step_by(9));
            check(&keys);
        }
    }

    #[test]
    fn what_does_not_fit_a_sort_word_decides_still() {
        let dimensions = |at: u32| -> Vec<(String, String)> {
            let value = |place: u32| if place == 29 { at % 500 } else { at % 2 };
            (0..30).map(|place| (format!("d{place:02}"), format!("{:03}", value(place)))).collect()
        };
        let many = |at: u32| -> Vec<(String, String)> {
            (0..12)
                .map(|place| (format!("d{place:02}"), format!("{:05}", at * 7 % 4_096)))
                .collect()
        };
        check(&(0..4_000).map(|at| key("m", &dimensions(at))).collect::<Vec<_>>());
        let keys: Vec<_> = (0..5_000).map(|at| key("m", &many(at))).collect();
        assert!(!Packing::of(&SeriesNames::new(keys.iter())).is_whole);
        check(&keys);
        check(&[]);
    }
}
