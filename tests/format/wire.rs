//! The forms that the tables name, read by code of the test's own, so that the code under test cannot
//! agree with itself only.

/// CRC-32 (IEEE 802.3, reflected), a bit at a time. Source: RFC 1952, section 8.
pub(crate) fn crc32(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().copied().flatten();
    !bytes.fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Varint,
    Signed,
    Text,
    Bytes,
    Fixed(usize),
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Number(u64),
    Signed(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A value of a part: its name and its form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    name: String,
    form: Form,
}

/// What a part consists of: items, the last one a count if others are repeated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    once: Vec<Item>,
    repeated: Vec<Item>,
}

impl Form {
    /// The form that a table calls `text`; what follows a colon explains.
    pub(crate) fn named(text: &str) -> Self {
        match text.split([':', ',']).next().unwrap_or_default().trim() {
            "varint" => Self::Varint,
            "signed" => Self::Signed,
            "text" => Self::Text,
            "bytes" => Self::Bytes,
            other => match other.split_once(' ') {
                Some((count, "byte" | "bytes")) => Self::Fixed(count.parse().unwrap()),
                _ => panic!("{text:?} is no form"),
            },
        }
    }

    /// Reads a value and moves behind it.
    pub(crate) fn read(self, rest: &mut &[u8]) -> Cell {
        match self {
            Self::Varint => Cell::Number(varint(rest)),
            Self::Signed => {
                let folded = varint(rest);
                Cell::Signed((folded >> 1).cast_signed() ^ -((folded & 1).cast_signed()))
            }
            Self::Text => {
                let length = usize::try_from(varint(rest)).unwrap();
                Cell::Text(String::from_utf8(take(rest, length)).unwrap())
            }
            Self::Bytes => {
                let length = usize::try_from(varint(rest)).unwrap();
                Cell::Bytes(take(rest, length))
            }
            Self::Fixed(length) => Cell::Bytes(take(rest, length)),
        }
    }
}

impl Shape {
    /// The shape that a cell of a table describes: `name (form)`, separated by commas, and behind
    /// "that many" what is repeated as often as the number before it says.
    pub(crate) fn described(text: &str) -> Self {
        let (once, repeated) = text.split_once("that many ").unwrap_or((text, ""));
        Self { once: items(once), repeated: items(repeated.trim_start_matches("of: ")) }
    }

    /// Reads everything that the shape has.
    pub(crate) fn read(&self, rest: &mut &[u8]) -> Vec<(&str, Cell)> {
        let one = |item: &'_ Item, rest: &mut &[u8]| item.form.read(rest);
        let mut all: Vec<(&str, Cell)> =
            self.once.iter().map(|item| (item.name.as_str(), one(item, rest))).collect();
        let count = match all.last() {
            Some((_, Cell::Number(count))) if !self.repeated.is_empty() => *count,
            _ => 0,
        };
        for _ in 0..count {
            all.extend(self.repeated.iter().map(|item| (item.name.as_str(), one(item, rest))));
        }
        all
    }
}

/// `a (varint), b, c (text)`: a name without a form has that of the next one.
fn items(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    for part in text.split_inclusive(')') {
        let Some((names, form)) = part.split_once('(') else { continue };
        let form = Form::named(form.trim_end_matches(')'));
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        items.extend(names.map(|name| Item { name: name.to_owned(), form }));
    }
    items
}

/// Takes `length` bytes.
pub(crate) fn take(rest: &mut &[u8], length: usize) -> Vec<u8> {
    let (taken, behind) = rest.split_at(length);
    *rest = behind;
    taken.to_vec()
}

/// LEB128.
fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(rest, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}
