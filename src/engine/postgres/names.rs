//! What schemas, tables and columns are called.
//!
//! A database is a schema, a table a table in it, a dimension or attribute a column, all by their own
//! names, quoted. A name that PostgreSQL cannot have or means otherwise gets another, ending in `~` and
//! 16 hexadecimal digits of its hash: one that is empty or longer than 63 bytes, schemas `tidegate`,
//! `information_schema` and `pg_…`, and whatever looks like such a name. A column gets a prefix as in
//! the Parquet files (`dimension::`, `attribute::`, `measure_value::`) where its own name is one of the
//! table's fixed columns or of the server's, or stands for something else in the table. What each
//! column means stands in `tidegate.columns`, so nothing is ever guessed from a name.

use sha2::{Digest, Sha256};

use crate::record::ValueType;
use crate::record::codec::{RecordView, TextIter};

/// Longest identifier. Source: PostgreSQL documentation, "Identifiers and Key Words".
const IDENTIFIER_BYTES_MAX: usize = 63;

/// Bytes of the ending: `~` and 16 digits.
const ENDING_BYTES: usize = 17;

/// What the names of our own constraints begin with: no table may be called so, since an index is a
/// relation like a table.
const OWN_PREFIX: &str = "tidegate:";

/// The columns of every table, and `date`, which the Parquet files reserve.
const FIXED: [&str; 8] =
    ["series", "time", "ns", "measure_name", "version", "kind", "writes", "date"];

/// Columns that the servers have themselves.
const SYSTEM: [&str; 8] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "oid", "ybctid"];

const PREFIXES: [&str; 4] = ["dimension::", "attribute::", "measure_value::", "crdb_internal"];

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// A dimension of this name.
    Dimension(Box<str>),
    /// An attribute of this name.
    Attribute(Box<str>, ValueType),
    /// The value of scalar records of this type.
    Scalar(ValueType),
}

/// The name of a schema.
pub(super) fn schema(database: &str) -> String {
    let is_free = database != "tidegate"
        && database != "information_schema"
        && !database.starts_with("pg_")
        && !database.starts_with("crdb_internal");
    fitted(database, database, is_free)
}

/// The name of a table.
pub(super) fn table(name: &str) -> String {
    fitted(name, name, !name.starts_with(OWN_PREFIX) && !name.starts_with("pg_"))
}

/// The name of a table's constraint.
pub(super) fn key_of(schema: &str, table: &str) -> String {
    format!("{OWN_PREFIX}{}", digits(&format!("{schema}\0{table}")))
}

/// The name of a column, where `is_taken` says which the table has already.
pub(super) fn column(role: &Role, is_taken: impl Fn(&str) -> bool) -> String {
    let (name, prefix) = match role {
        Role::Dimension(name) => (&**name, "dimension::"),
        Role::Attribute(name, _) => (&**name, "attribute::"),
        Role::Scalar(value_type) => {
            return format!("measure_value::{}", value_type.name().to_ascii_lowercase());
        }
    };
    let is_own = !name.is_empty()
        && !FIXED.contains(&name)
        && !SYSTEM.contains(&name)
        && !PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let prefixed = format!("{prefix}{name}");
    if is_own {
        let own = fitted(name, name, true);
        if !is_taken(&own) {
            return own;
        }
    }
    fitted(&prefixed, &prefixed, true)
}

/// A name as it stands in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The type of a column.
pub(super) const fn type_of(role: &Role) -> &'static str {
    match role {
        Role::Dimension(_) => "text",
        Role::Attribute(_, value_type) | Role::Scalar(value_type) => match value_type {
            ValueType::Double => "double precision",
            // Nanoseconds, which PostgreSQL's own times would round.
            ValueType::Bigint | ValueType::Timestamp => "bigint",
            ValueType::Boolean => "boolean",
            ValueType::Varchar => "text",
        },
    }
}

fn fitted(shown: &str, hashed: &str, is_free: bool) -> String {
    let fits = !shown.is_empty() && shown.len() <= IDENTIFIER_BYTES_MAX;
    if is_free && fits && !has_ending(shown) {
        return shown.to_owned();
    }
    let mut cut = shown.len().min(IDENTIFIER_BYTES_MAX - ENDING_BYTES);
    while !shown.is_char_boundary(cut) {
        cut -= 1;
    }
    // Before it, so that the reserved beginnings are gone too.
    let head = if is_free { "" } else { "_" };
    let cut = if is_free { cut } else { shown.floor_char_boundary(cut.saturating_sub(1)) };
    let name = format!("{head}{}~{}", &shown[..cut], digits(hashed));
    assert!(name.len() <= IDENTIFIER_BYTES_MAX, "a name is cut to fit");
    name
}

fn has_ending(name: &str) -> bool {
    name.rsplit_once('~').is_some_and(|(_, ending)| {
        ending.len() == ENDING_BYTES - 1 && ending.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn digits(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{number:016x}")
}

/// The series of a record: the first 128 bits of SHA-256 over measure name, then each dimension's name
/// and value in the order of the names, each text behind its length. Senders choose names and values
/// freely, so a weaker hash would let one of them write into another's series.
pub(super) fn series_of(view: &RecordView<'_>) -> [u8; 16] {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    add(view.family.measure_name);
    for (name, value) in view.family.names().zip(TextIter::new(view.series_values)) {
        add(name);
        add(value);
    }
    let hash = hash.finalize();
    hash[..16].try_into().expect("32 bytes have 16")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_server_means_otherwise_get_another() {
        assert_eq!(schema("iot"), "iot");
        assert_eq!(schema("db/rp"), "db/rp");
        assert_eq!(table("pg"), "pg");
        let long = "ä".repeat(60);
        let like = format!("a~{}", digits("b"));
        for (name, found) in [
            ("tidegate", schema("tidegate")),
            ("pg_catalog", schema("pg_catalog")),
            ("information_schema", schema("information_schema")),
            ("", table("")),
            (&*long, table(&long)),
            ("tidegate:x", table("tidegate:x")),
            (&*like, table(&like)),
        ] {
            assert!(found.len() <= IDENTIFIER_BYTES_MAX && has_ending(&found), "{name}: {found}");
            assert!(!found.starts_with("pg_") && !found.starts_with("tidegate"), "{found}");
        }
        assert_ne!(table(&long), table(&"ä".repeat(61)));
    }

    #[test]
    fn a_column_whose_name_is_taken_says_what_it_is() {
        let dimension = |name: &str| Role::Dimension(name.into());
        let attribute = |name: &str| Role::Attribute(name.into(), ValueType::Double);
        let free = |_: &str| false;
        assert_eq!(column(&dimension("host"), free), "host");
        assert_eq!(column(&dimension("time"), free), "dimension::time");
        assert_eq!(column(&attribute("ctid"), free), "attribute::ctid");
        assert_eq!(column(&attribute(""), free), "attribute::");
        assert_eq!(column(&attribute("dimension::a"), free), "attribute::dimension::a");
        assert_eq!(column(&attribute("host"), |name| name == "host"), "attribute::host");
        assert_eq!(column(&Role::Scalar(ValueType::Bigint), free), "measure_value::bigint");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
