//! Rows as text: the formats of `/api/v1/export` and of `tidegate export`.
//!
//! | format | a row | what does not survive |
//! |---|---|---|
//! | `json` | one object a line: `measurement`, `measure_name` where it differs, `tags`, `fields`, `timestamp` in ns, `version` | nothing: a DOUBLE always has a fraction or an exponent, a BIGINT never; a TIMESTAMP is nanoseconds, and `types` names it; a SCALAR has `measure_value` instead of `fields`. What `/api/v1/write?precision=ns` reads back is the flat shape: of `measure_name`, `types` and `measure_value` it knows nothing |
//! | `line` | one line of line protocol in ns | version; a measure name other than the table's; SCALAR (becomes a field with the measure name as key); TIMESTAMP (becomes an integer). Rows that the grammar has no words for are left out, each with a comment in its place |
//! | `csv` | one line an attribute: `time,measure_name,version,dimensions,name,type,value` | nothing; `dimensions` is a JSON object. Columns are fixed because a stream cannot know those of its last row |

use std::str::FromStr;

use super::{csv, json, lines};
use crate::engine::Row;

/// A format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// Line protocol.
    Line,
    /// Comma-separated values, one line an attribute.
    Csv,
}

/// A format that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid format {found:?} (use json, line, csv or parquet)")]
pub struct UnknownFormat {
    /// What was asked for.
    pub found: String,
}

impl UnknownFormat {
    /// Who must act.
    pub const fn class(&self) -> crate::base::class::Class {
        crate::base::class::Class::Refused
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "json" => Ok(Self::Json),
            "line" => Ok(Self::Line),
            "csv" => Ok(Self::Csv),
            _ => Err(UnknownFormat { found: name.to_owned() }),
        }
    }
}

impl Format {
    /// Its media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-ndjson",
            Self::Line => "text/plain; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// Writes the rows of one table, one after another, to the end of buffers.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    table: String,
    left_out: u64,
}

impl Writer {
    /// A writer for the rows of `table`.
    pub fn new(format: Format, table: &str) -> Self {
        Self { format, table: table.to_owned(), left_out: 0 }
    }

    /// What stands before the first row.
    pub fn head(&self, out: &mut Vec<u8>) {
        if self.format == Format::Csv {
            out.extend_from_slice(csv::HEAD.as_bytes());
        }
    }

    /// One row.
    pub fn row(&mut self, row: &Row<'_>, out: &mut Vec<u8>) {
        match self.format {
            Format::Json => json::row(&self.table, row, out),
            Format::Csv => csv::row(row, out),
            Format::Line => {
                if let Err(inexpressible) = lines::row(&self.table, row, out) {
                    self.left_out += 1;
                    out.extend_from_slice(format!("# left out: {inexpressible}\n").as_bytes());
                }
            }
        }
    }

    /// What stands after the last row.
    pub fn tail(&self, out: &mut Vec<u8>) {
        if self.left_out > 0 {
            let note = format!("# {} records left out; export them as json\n", self.left_out);
            out.extend_from_slice(note.as_bytes());
        }
    }

    /// What stands last where not all rows could be read, for a reader whom nothing else tells: a text
    /// that does not end, which is no line of any of the formats.
    pub fn broken_off(out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"broken off: not all records could be read\n");
    }

    /// Rows that the format has no words for so far.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{json as json_decoder, line as line_decoder};
    use crate::record::{MeasureKind, Record, RecordSink, Refusal, Value};

    fn written(format: Format, rows: &[Row<'_>]) -> String {
        let mut writer = Writer::new(format, "weather");
        let mut out = Vec::new();
        writer.head(&mut out);
        for row in rows {
            writer.row(row, &mut out);
        }
        writer.tail(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn row<'a>(
        dimensions: &'a [(&'a str, &'a str)],
        attributes: &'a [(&'a str, Value<'a>)],
    ) -> Row<'a> {
        Row {
            measure_name: "weather",
            dimensions,
            kind: MeasureKind::Multi,
            attributes,
            time_ns: 1_700_000_000_000_000_001,
            version: 2,
        }
    }

    const EVERY_TYPE: &[(&str, Value<'_>)] = &[
        ("b", Value::Boolean(true)),
        ("d", Value::Double(21.0)),
        ("h", Value::Double(1e300)),
        ("i", Value::Bigint(-3)),
        ("n", Value::Double(-0.0)),
        ("s", Value::Varchar("a \"b\" \\c")),
        ("t", Value::Timestamp(5)),
    ];

    #[test]
    fn every_type_survives_json() {
        let text = written(Format::Json, &[row(&[("site", "a\nb")], EVERY_TYPE)]);
        assert_eq!(
            text,
            concat!(
                r#"{"measurement":"weather","tags":{"site":"a\nb"},"fields":{"b":true,"d":21.0,"#,
                r#""h":1e+300,"i":-3,"n":-0.0,"s":"a \"b\" \\c","t":5},"types":{"t":"TIMESTAMP"},"#,
                r#""timestamp":1700000000000000001,"version":2}"#,
                "\n"
            )
        );
    }

    /// Compares what a decoder reads with the row that was written.
    struct Same<'r> {
        row: &'r Row<'r>,
        seen: usize,
    }

    impl RecordSink for Same<'_> {
        fn record(&mut self, record: &Record<'_>) {
            self.seen += 1;
            assert_eq!(record.table, "weather");
            assert_eq!(record.time_ns, Some(self.row.time_ns));
            let dimensions: Vec<_> = record.dimensions.iter().map(|d| (d.name, d.value)).collect();
            assert_eq!(dimensions, self.row.dimensions);
            assert_eq!(record.attributes.len(), self.row.attributes.len());
            for (read, (name, value)) in record.attributes.iter().zip(self.row.attributes) {
                assert_eq!(read.name, *name);
                assert!(read.value.is_same(value), "{:?} {value:?}", read.value);
            }
        }

        fn refuse(&mut self, refusal: Refusal<'_>) {
            panic!("{refusal:?}");
        }
    }

    #[test]
    fn what_is_exported_is_read_back_the_same_by_our_own_decoders() {
        let attributes: Vec<_> = EVERY_TYPE
            .iter()
            .copied()
            .filter(|(name, _)| *name != "t")
            .chain([
                (r"k\,= ", Value::Varchar("multi\nline\\ \" end\\")),
                ("tiny", Value::Double(5e-324)),
                ("wide", Value::Double(f64::MAX)),
                ("zmin", Value::Bigint(i64::MIN)),
            ])
            .collect();
        let dimensions = [("a b", r"c\,d=e"), ("ä,=", r"\\x\n"), ("q", "\"quoted\"")];
        let row = row(&dimensions, &attributes);
        let mut same = Same { row: &row, seen: 0 };
        let lines = written(Format::Line, std::slice::from_ref(&row));
        line_decoder::decode(lines.as_bytes(), &line_decoder::Options::new("d", 0), &mut same);
        let objects = written(Format::Json, std::slice::from_ref(&row));
        let options = json_decoder::Options {
            precision: json_decoder::Precision::Ns,
            database: Some("d"),
            form: json_decoder::Form::Lines,
            ..json_decoder::Options::default()
        };
        json_decoder::decode(objects.as_bytes(), &options, &mut same);
        assert_eq!(same.seen, 2);
    }

    #[test]
    fn a_scalar_and_a_measure_name_of_its_own_are_told_apart_in_json() {
        let mut scalar = row(&[], &[("", Value::Double(0.5))]);
        scalar.kind = MeasureKind::Scalar;
        scalar.measure_name = "cpu";
        let text = written(Format::Json, &[scalar]);
        assert!(text.contains(r#""measure_name":"cpu","#), "{text}");
        assert!(text.contains(r#""measure_value":0.5,"#), "{text}");
        assert!(!text.contains("fields"));
    }

    #[test]
    fn line_protocol_is_escaped_and_typed() {
        let text = written(Format::Line, &[row(&[("a b", "c,d=e"), ("p", "\\x")], EVERY_TYPE)]);
        assert_eq!(
            text,
            concat!(
                r"weather,a\ b=c\,d\=e,p=\x b=true,d=21.0,h=1e+300,i=-3i,n=-0.0,",
                r#"s="a \"b\" \\c",t=5i 1700000000000000001"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_line_protocol_has_no_words_for_is_left_out_with_a_comment() {
        let one: &[(&str, Value<'_>)] = &[("v", Value::Bigint(1))];
        let rows = [
            row(&[("a", "line\nbreak")], one),
            row(&[("a", "ends in \\")], one),
            row(&[("a", "")], one),
            row(&[("a", "fine")], one),
        ];
        let text = written(Format::Line, &rows);
        let (comments, lines): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with('#'));
        assert_eq!(lines, ["weather,a=fine v=1i 1700000000000000001"]);
        assert_eq!(comments.len(), 4);
        assert_eq!(comments[3], "# 3 records left out; export them as json");
    }

    #[test]
    fn csv_has_a_line_an_attribute_and_quotes_what_needs_it() {
        let attributes = [("s", Value::Varchar("a,\"b\"\nc")), ("t", Value::Timestamp(5))];
        let text = written(Format::Csv, &[row(&[("site", "a")], &attributes)]);
        assert_eq!(
            text,
            concat!(
                "time,measure_name,version,dimensions,name,type,value\r\n",
                "2023-11-14T22:13:20.000000001Z,weather,2,\"{\"\"site\"\":\"\"a\"\"}\",",
                "s,VARCHAR,\"a,\"\"b\"\"\nc\"\r\n",
                "2023-11-14T22:13:20.000000001Z,weather,2,\"{\"\"site\"\":\"\"a\"\"}\",",
                "t,TIMESTAMP,1970-01-01T00:00:00.000000005Z\r\n",
            )
        );
    }

    #[test]
    fn formats_have_names() {
        assert_eq!("csv".parse(), Ok(Format::Csv));
        let error = "xml".parse::<Format>().unwrap_err();
        assert_eq!(error.to_string(), "invalid format \"xml\" (use json, line, csv or parquet)");
    }
}
