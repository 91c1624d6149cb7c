//! A data model and a header, compiled once for a file: which field is what, and which name it has in
//! a record.

use super::model::{AttributeMapping, DataModel, Dialect, MULTI, MixedMeasureMapping, type_of};
use crate::record::limits::REFUSED_TEXT_QUOTED_BYTES_MAX;
use crate::record::{Attribute, Dimension, MeasureKind, Record, Value, ValueType};

/// What starts a file that some editors write; batch load refuses it.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Why a file cannot be read by a model, or a row not by a plan: `code` is the same for all rows that
/// have it, so that they can be told together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The kind of problem, and the column.
    pub code: String,
    /// What was found and what would be right.
    pub message: String,
}

/// A compiled model.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The header.
    columns: Vec<String>,
    time: usize,
    unit_ns: i64,
    dimensions: Vec<(usize, String)>,
    measure_name: Option<usize>,
    kinds: Vec<Kind>,
    null: Option<String>,
    trims: bool,
}

/// One record of a row.
#[derive(Debug, Clone)]
struct Kind {
    /// The field of the measure name of rows that have it; `None` for all rows.
    of: Option<String>,
    /// The record's measure name; `None` takes the field's.
    name: Option<String>,
    measure: MeasureKind,
    /// For a scalar one, without a name.
    attributes: Vec<(usize, String, ValueType)>,
}

/// One row of a chunk.
#[derive(Debug, Clone, Copy)]
pub struct Row<'r> {
    /// The bytes of its fields, one behind the other.
    pub text: &'r [u8],
    /// Where each ends.
    pub ends: &'r [u32],
}

impl<'r> Row<'r> {
    fn field(&self, whole: &'r str, at: usize) -> Option<&'r str> {
        let end = *self.ends.get(at)? as usize;
        let begin = match at.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)? as usize,
        };
        whole.get(begin..end)
    }
}

impl Plan {
    /// Compiles `model` for a file with this header.
    ///
    /// # Errors
    ///
    /// [`Problem`]: no row of the file can be read.
    pub fn new(model: &DataModel, dialect: &Dialect, header: Row<'_>) -> Result<Self, Problem> {
        let columns = columns(dialect, header)?;
        let find = |name: &Option<String>| column(&columns, name.as_deref().unwrap_or_default());
        let time = find(&model.time_column)?;
        let measure_name =
            model.measure_name_column.as_ref().map(|_| find(&model.measure_name_column));
        let mut dimensions = Vec::new();
        for mapping in &model.dimension_mappings {
            let at = find(&mapping.source_column)?;
            let name = mapping.destination_column.as_ref().or(mapping.source_column.as_ref());
            dimensions.push((at, name.cloned().unwrap_or_default()));
        }
        let mut kinds = Vec::new();
        if let Some(multi) = &model.multi_measure_mappings {
            let attributes = attributes(&columns, &multi.multi_measure_attribute_mappings)?;
            let has_column = model.measure_name_column.is_some();
            let name = multi.target_multi_measure_name.clone().filter(|_| !has_column);
            kinds.push(Kind { of: None, name, measure: MeasureKind::Multi, attributes });
        }
        for mapping in &model.mixed_measure_mappings {
            kinds.push(Kind::mixed(&columns, mapping, model.measure_name_column.is_some())?);
        }
        let (null, trims) = (dialect.null.clone(), dialect.trims);
        let measure_name = measure_name.transpose()?;
        let unit_ns = model.unit_ns();
        Ok(Self { columns, time, unit_ns, dimensions, measure_name, kinds, null, trims })
    }

    /// Shows the records of a row to `take`, each in `record`, whose database, table, version and
    /// origin are left as they are, but `take` may set them. None is shown of a row that has a problem.
    ///
    /// # Errors
    ///
    /// [`Problem`]: the first one of the row.
    pub fn records<'r>(
        &'r self,
        row: Row<'r>,
        record: &mut Record<'r>,
        take: &mut dyn FnMut(&mut Record<'r>),
    ) -> Result<(), Problem> {
        let (found, right) = (row.ends.len(), self.columns.len());
        if found != right {
            let message = format!("a row has {found} fields, and the header has {right}");
            return Err(Problem { code: "fields".to_owned(), message });
        }
        let whole = std::str::from_utf8(row.text).map_err(|_no_text| not_utf8())?;
        record.time_ns = Some(self.time(row, whole)?);
        record.dimensions.clear();
        for (at, name) in &self.dimensions {
            if let Some(value) = self.text(row, whole, *at)? {
                record.dimensions.push(Dimension { name, value });
            }
        }
        let named = match self.measure_name {
            Some(at) => Some(self.text(row, whole, at)?.ok_or_else(|| self.missing(at))?),
            None => None,
        };
        let is_of = |kind: &&Kind| kind.of.is_none() || kind.of.as_deref() == named;
        // Twice where there are several, since a later one may have a problem.
        if self.kinds.len() > 1 {
            for kind in self.kinds.iter().filter(is_of) {
                self.measure(kind, row, whole, record)?;
            }
        }
        let mut count = 0_usize;
        for kind in self.kinds.iter().filter(is_of) {
            self.measure(kind, row, whole, record)?;
            record.kind = kind.measure;
            record.measure_name = kind.name.as_deref().or(named).unwrap_or_default();
            if !record.attributes.is_empty() {
                take(record);
                count = count.saturating_add(1);
            }
        }
        if count > 0 { Ok(()) } else { Err(no_measure(named)) }
    }

    fn time(&self, row: Row<'_>, whole: &str) -> Result<i64, Problem> {
        let text = self.text(row, whole, self.time)?.ok_or_else(|| self.missing(self.time))?;
        let count = text.parse::<i64>().ok();
        count.and_then(|count| count.checked_mul(self.unit_ns)).ok_or_else(|| {
            self.wrong(self.time, "time", text, "an integer in the model's time unit, since 1970")
        })
    }

    fn measure<'r>(
        &'r self,
        kind: &'r Kind,
        row: Row<'r>,
        whole: &'r str,
        record: &mut Record<'r>,
    ) -> Result<(), Problem> {
        record.attributes.clear();
        for (at, name, value_type) in &kind.attributes {
            let Some(text) = self.text(row, whole, *at)? else { continue };
            let value = self.value(*at, *value_type, text)?;
            record.attributes.push(Attribute { name, value });
        }
        Ok(())
    }

    fn value<'r>(&self, at: usize, wanted: ValueType, text: &'r str) -> Result<Value<'r>, Problem> {
        let wrong = |right| self.wrong(at, wanted.name(), text, right);
        match wanted {
            ValueType::Varchar => Ok(Value::Varchar(text)),
            ValueType::Double => match fast_float2::parse::<f64, _>(text) {
                Ok(number) if number.is_finite() => Ok(Value::Double(number)),
                _ => Err(wrong("a finite decimal number")),
            },
            ValueType::Bigint => {
                text.parse().map(Value::Bigint).map_err(|_no_number| wrong("an integer of 64 bits"))
            }
            ValueType::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
            ValueType::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
            ValueType::Boolean => Err(wrong("true or false")),
            ValueType::Timestamp => {
                let time_ns = text.parse().ok().and_then(|n: i64| n.checked_mul(self.unit_ns));
                let time_ns = time_ns.filter(|time_ns| *time_ns >= 0);
                time_ns
                    .map(Value::Timestamp)
                    .ok_or_else(|| wrong("an integer in the model's time unit, from 1970 to 2262"))
            }
        }
    }

    /// A field; `None` where there is nothing in it.
    fn text<'r>(
        &self,
        row: Row<'r>,
        whole: &'r str,
        at: usize,
    ) -> Result<Option<&'r str>, Problem> {
        // The whole may be text where a part is not: then it is cut within a character.
        let text = row.field(whole, at).ok_or_else(not_utf8)?;
        let text = if self.trims { text.trim() } else { text };
        Ok(Some(text).filter(|text| !text.is_empty() && Some(*text) != self.null.as_deref()))
    }

    fn missing(&self, at: usize) -> Problem {
        let column = self.columns.get(at).map_or("", String::as_str);
        let code = format!("missing:{at}");
        Problem { code, message: format!("column {column:?} is empty, and every row needs it") }
    }

    fn wrong(&self, at: usize, what: &str, found: &str, right: &str) -> Problem {
        let column = self.columns.get(at).map_or("", String::as_str);
        let found: String = found.chars().take(QUOTED_CHARS_MAX).collect();
        let message = format!("column {column:?} is no {what}: {found:?} is not {right}");
        Problem { code: format!("value:{at}:{what}"), message }
    }
}

/// Most characters of a wrong value that a message quotes.
const QUOTED_CHARS_MAX: usize = REFUSED_TEXT_QUOTED_BYTES_MAX / 4;

impl Kind {
    fn mixed(
        columns: &[String],
        mapping: &MixedMeasureMapping,
        has_column: bool,
    ) -> Result<Self, Problem> {
        let of = mapping.measure_name.clone().filter(|_| has_column);
        let target = mapping.target_measure_name.clone();
        let name = target.or_else(|| mapping.measure_name.clone());
        if mapping.measure_value_type.as_deref() == Some(MULTI) {
            let attributes = attributes(columns, &mapping.multi_measure_attribute_mappings)?;
            return Ok(Self { of, name, measure: MeasureKind::Multi, attributes });
        }
        let name = name.or_else(|| mapping.source_column.clone());
        let at = column(columns, mapping.source_column.as_deref().unwrap_or_default())?;
        let wanted = type_of(mapping.measure_value_type.as_deref());
        let attributes = vec![(at, String::new(), wanted)];
        Ok(Self { of, name, measure: MeasureKind::Scalar, attributes })
    }
}

fn columns(dialect: &Dialect, header: Row<'_>) -> Result<Vec<String>, Problem> {
    let whole = std::str::from_utf8(header.text).map_err(|_no_text| Problem {
        code: "header".to_owned(),
        message: "the header is not UTF-8".to_owned(),
    })?;
    if whole.starts_with(BYTE_ORDER_MARK) {
        let message = "the file begins with a byte order mark: save it as UTF-8 without one";
        return Err(Problem { code: "mark".to_owned(), message: message.to_owned() });
    }
    let trimmed = |text: &str| if dialect.trims { text.trim() } else { text }.to_owned();
    let names = (0..header.ends.len()).map(|at| header.field(whole, at).map(trimmed));
    names.collect::<Option<Vec<String>>>().ok_or_else(not_utf8)
}

/// The place of a column, which must be there once.
fn column(columns: &[String], name: &str) -> Result<usize, Problem> {
    let mut found = columns.iter().enumerate().filter(|(_, column)| *column == name);
    let problem = |message| Problem { code: "header".to_owned(), message };
    match (found.next(), found.next()) {
        (Some((at, _)), None) => Ok(at),
        (Some(_), Some(_)) => Err(problem(format!("the header has column {name:?} twice"))),
        (None, _) => {
            let there: Vec<String> = columns.iter().take(COLUMNS_TOLD_MAX).cloned().collect();
            let there: String = there.join(", ").chars().take(HEADER_CHARS_MAX).collect();
            Err(problem(format!(
                "column {name:?} is not in the header, which has {} columns: {there:?}",
                columns.len()
            )))
        }
    }
}

/// How much of a header a message tells.
const COLUMNS_TOLD_MAX: usize = 20;
const HEADER_CHARS_MAX: usize = 400;

fn attributes(
    columns: &[String],
    mappings: &[AttributeMapping],
) -> Result<Vec<(usize, String, ValueType)>, Problem> {
    let mut attributes = Vec::with_capacity(mappings.len());
    for mapping in mappings {
        let source = mapping.source_column.as_deref().unwrap_or_default();
        let name = mapping.target_multi_measure_attribute_name.as_deref().unwrap_or(source);
        let wanted = type_of(mapping.measure_value_type.as_deref());
        attributes.push((column(columns, source)?, name.to_owned(), wanted));
    }
    Ok(attributes)
}

fn not_utf8() -> Problem {
    Problem { code: "utf8".to_owned(), message: "the row is not UTF-8".to_owned() }
}

fn no_measure(named: Option<&str>) -> Problem {
    let code = "measure".to_owned();
    let message = match named {
        Some(name) => {
            let name: String = name.chars().take(QUOTED_CHARS_MAX).collect();
            format!("the row has no value for the measures that {name:?} is mapped to, if any")
        }
        None => "every column of a measure is empty".to_owned(),
    };
    Problem { code, message }
}
