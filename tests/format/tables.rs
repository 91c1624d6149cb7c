//! The tables of a module comment, and what is wrong when bytes are not as a table says.

use std::collections::BTreeSet;

/// One table: its heads and its rows, cells trimmed.
#[derive(Debug)]
pub(crate) struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A field whose place does not depend on the content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
    pub(crate) content: String,
}

/// The module comment of a source file, without its marks.
pub(crate) fn module_comment(source: &str) -> String {
    let lines = source.lines().take_while(|line| line.starts_with("//!"));
    lines.map(|line| line.trim_start_matches("//!").trim().to_owned() + "\n").collect()
}

/// The table of a module comment whose heads are `heads`.
///
/// # Errors
///
/// When there is not exactly one.
pub(crate) fn table(comment: &str, heads: &[&str]) -> Result<Table, String> {
    let mut all: Vec<Table> = Vec::new();
    let mut is_within = false;
    for line in comment.lines() {
        let Some(inner) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
            is_within = false;
            continue;
        };
        let cells: Vec<String> = inner.split('|').map(|cell| cell.trim().to_owned()).collect();
        match all.last_mut().filter(|_| is_within) {
            Some(table) => table.rows.push(cells),
            None => all.push(Table { heads: cells, rows: Vec::new() }),
        }
        is_within = true;
    }
    all.retain(|table| table.heads == heads);
    let mut table = all.pop().ok_or_else(|| format!("no table with the heads {heads:?}"))?;
    if !all.is_empty() {
        return Err(format!("two tables with the heads {heads:?}"));
    }
    // The line under the heads.
    table.rows.remove(0);
    if let Some(row) = table.rows.iter().find(|row| row.len() != table.heads.len()) {
        return Err(format!("a row of another width: {row:?}"));
    }
    Ok(table)
}

impl Table {
    /// Each row's cells under the heads `names`.
    pub(crate) fn columns<const N: usize>(&self, names: [&str; N]) -> Vec<[&str; N]> {
        let at = names.map(|name| {
            let found = self.heads.iter().position(|head| head == name);
            found.unwrap_or_else(|| panic!("no column {name} in {:?}", self.heads))
        });
        self.rows.iter().map(|row| at.map(|at| row[at].as_str())).collect()
    }

    /// The rows whose offset and width are numbers, named by the column `name`.
    pub(crate) fn fields(&self, name: &str) -> Vec<Field> {
        let rows = self.columns([name, "offset", "bytes", "content"]);
        let field = |[name, offset, bytes, content]: [&str; 4]| {
            let (offset, bytes) = (offset.parse().ok()?, bytes.parse().ok()?);
            Some(Field { name: name.to_owned(), offset, bytes, content: content.to_owned() })
        };
        rows.into_iter().filter_map(field).collect()
    }
}

/// The bytes that the fields take together.
///
/// # Errors
///
/// Between two of them there is a gap or an overlap.
pub(crate) fn length(fields: &[Field]) -> Result<usize, String> {
    fields.iter().try_fold(0, |end, field| {
        if field.offset == end {
            Ok(end + field.bytes)
        } else {
            Err(format!(
                "{} begins at {}, the field before ends at {end}",
                field.name, field.offset
            ))
        }
    })
}

/// Holds every field against the bytes at its place.
///
/// # Errors
///
/// A field has other bytes than `known`, is unknown, or is missing.
pub(crate) fn hold(
    fields: &[Field],
    bytes: &[u8],
    known: &[(&str, Vec<u8>)],
) -> Result<(), String> {
    let named: BTreeSet<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    let expected: BTreeSet<&str> = known.iter().map(|(name, _)| *name).collect();
    if named != expected || fields.len() != known.len() {
        return Err(format!("the table has {named:?}, the code {expected:?}"));
    }
    for field in fields {
        let found = bytes.get(field.offset..field.offset + field.bytes);
        let (_, expected) = known.iter().find(|(name, _)| *name == field.name).expect("compared");
        if found != Some(expected) {
            return Err(format!(
                "{} at {}: {found:02x?}, expected {expected:02x?}",
                field.name, field.offset
            ));
        }
    }
    Ok(())
}

/// The numbers in a text, in order.
pub(crate) fn numbers_in(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The constant `name` of a source file, where it is a number or a number shifted left.
pub(crate) fn constant(source: &str, name: &str) -> usize {
    let head = format!("const {name}: ");
    let line = source.lines().find(|line| line.contains(&head));
    let line = line.unwrap_or_else(|| panic!("no constant {name}"));
    let value = line.rsplit(" = ").next().unwrap_or_default().trim_end_matches(';');
    match numbers_in(value)[..] {
        [number] => number,
        [number, shift] if value.contains("<<") => number << shift,
        _ => panic!("{name} is {value}, which is no number"),
    }
}
