//! Rows keep their lines and bounds; models say what a row becomes.

use super::model::{CsvConfiguration, DataModel, Dialect};
use super::plan::{Plan, Row};
use super::rows::{ROW_BYTES_MAX, Rows, Step};
use crate::protocol::timestream::coral::Violations;
use crate::record::{MeasureKind, Record, Value};

fn dialect(configuration: &CsvConfiguration) -> Dialect {
    let mut violations = Violations::default();
    let dialect = configuration.dialect("csv", &mut violations);
    assert!(violations.is_empty(), "{:?}", violations.finish());
    dialect
}

type Found = (Vec<String>, (u64, u64));

/// All rows of a text that comes in pieces of `piece` bytes, and how it ends.
fn rows_of(text: &[u8], dialect: &Dialect, piece: usize) -> (Vec<Found>, Step) {
    let mut rows = Rows::new(dialect, (0, 1));
    let mut found = Vec::new();
    let mut take = |rows: &Rows| {
        let mut begin = 0;
        let fields = rows.ends().iter().map(|end| {
            let field = String::from_utf8_lossy(&rows.text()[begin..*end]).into_owned();
            begin = *end;
            field
        });
        found.push((fields.collect(), rows.lines()));
    };
    for mut input in text.chunks(piece) {
        while !input.is_empty() {
            let (used, step) = rows.next(input);
            input = &input[used..];
            match step {
                Step::Row => take(&rows),
                Step::More => {}
                other => return (found, other),
            }
        }
    }
    let end = rows.end();
    if end == Step::Row {
        take(&rows);
        return (found, Step::End);
    }
    if end == Step::Open {
        found.push((Vec::new(), rows.lines()));
    }
    (found, end)
}

fn row(fields: &[&str], lines: (u64, u64)) -> Found {
    (fields.iter().map(ToString::to_string).collect(), lines)
}

#[test]
fn rows_know_their_lines_however_the_bytes_come() {
    let text = b"a,b\n\n1,\"x\ny\"\r\n\r\n2,\"\"\"q\"\"\"\n3,last";
    let expected = [
        row(&["a", "b"], (1, 1)),
        row(&["1", "x\ny"], (3, 4)),
        row(&["2", "\"q\""], (6, 6)),
        row(&["3", "last"], (7, 7)),
    ];
    for piece in 1..=text.len() {
        let (found, end) = rows_of(text, &dialect(&CsvConfiguration::default()), piece);
        assert_eq!((found.as_slice(), end), (&expected[..], Step::End), "pieces of {piece}");
    }
}

/// Blanks that are left out, however the bytes come, and rows that hold nothing else.
#[test]
fn a_field_behind_blanks_is_quoted_where_white_space_is_trimmed() {
    let trims = CsvConfiguration { trim_white_space: Some(true), ..CsvConfiguration::default() };
    let text = b"a, \"b,c\" ,d\n  \n \"x\ny\"\t,\t \"\" , z z \r\n,, \n\"  in\",1, \"open";
    let expected = [
        row(&["a", "b,c ", "d"], (1, 1)),
        row(&["x\ny\t", " ", "z z "], (3, 4)),
        row(&["", "", ""], (5, 5)),
        row(&[], (6, 6)),
    ];
    for piece in 1..=text.len() {
        let (found, end) = rows_of(text, &dialect(&trims), piece);
        assert_eq!((found.as_slice(), end), (&expected[..], Step::Open), "pieces of {piece}");
    }
    // What separates fields is no blank.
    for (separator, text) in [(" ", &b"a \t\"b c\"\td\n"[..]), ("\t", b"a\t \"b c\" d\n")] {
        let column_separator = Some(separator.to_owned());
        let form = CsvConfiguration { column_separator, ..trims.clone() };
        let (found, _) = rows_of(text, &dialect(&form), 1);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.len(), found[0].0[1].starts_with("b c")), (2, true), "{found:?}");
    }
    let many = format!("{}\n", " \"x\" ,".repeat(300));
    assert_eq!(rows_of(many.as_bytes(), &dialect(&trims), 7).0[0].0.len(), 301);
    let mut long = vec![b'x'; ROW_BYTES_MAX + 1];
    long.push(b'\n');
    assert_eq!(rows_of(&long, &dialect(&trims), 1 << 20).1, Step::TooLong);
    assert_eq!(rows_of(&long[1..], &dialect(&trims), 1 << 20).1, Step::End);
}

#[test]
fn reading_goes_on_at_every_position_between_rows() {
    let text = b"a,b\r\n1,\"x\ny\"\r\n2,z\n\n3,w\n";
    let plain = dialect(&CsvConfiguration::default());
    let (all, _) = rows_of(text, &plain, text.len());
    let mut rows = Rows::new(&plain, (0, 1));
    let mut input = &text[..];
    let mut seen = 0;
    while let (used, Step::Row) = rows.next(input) {
        input = &input[used..];
        seen += 1;
        let (offset, line) = rows.position();
        let mut again = Rows::new(&plain, (offset, line));
        let mut rest = &text[usize::try_from(offset).unwrap()..];
        for (_, lines) in &all[seen..] {
            let (used, step) = again.next(rest);
            rest = &rest[used..];
            assert_eq!((step, again.lines()), (Step::Row, *lines));
        }
    }
    assert_eq!(seen, all.len());
}

#[test]
fn an_open_quote_is_told_with_the_lines_that_it_swallowed() {
    let plain = dialect(&CsvConfiguration::default());
    for (text, lines) in
        [(&b"a\n1\n\"2\n3\n4\n"[..], (3, 5)), (b"a\n1\n\"2\n3", (3, 4)), (b"a\n1\n\"", (3, 3))]
    {
        let (found, end) = rows_of(text, &plain, 2);
        assert_eq!((end, found.last().unwrap().1), (Step::Open, lines), "{text:?}");
        assert_eq!(found.len(), 3);
    }
}

#[test]
fn a_row_is_taken_at_its_bound_and_not_above() {
    let plain = dialect(&CsvConfiguration::default());
    let mut text = vec![b'x'; ROW_BYTES_MAX];
    text.push(b'\n');
    assert_eq!(rows_of(&text, &plain, 1 << 20).1, Step::End);
    text.insert(0, b'x');
    assert_eq!(rows_of(&text, &plain, 1 << 20).1, Step::TooLong);
}

#[test]
fn separators_quotes_and_escapes_are_those_that_were_asked_for() {
    let text = |text: &str| Some(text.to_owned());
    let pipes = CsvConfiguration {
        column_separator: text("|"),
        quote_char: text("'"),
        escape_char: text("\\"),
        ..CsvConfiguration::default()
    };
    let (found, _) = rows_of(b"a|'b|\\'c'\n", &dialect(&pipes), 3);
    assert_eq!(found, [row(&["a", "b|'c"], (1, 1))]);
    let mut violations = Violations::default();
    let wrong = CsvConfiguration {
        column_separator: text("#"),
        quote_char: text("`"),
        escape_char: text("ab"),
        null_value: text(""),
        trim_white_space: None,
    };
    wrong.dialect("csv", &mut violations);
    let told = violations.finish().unwrap_err();
    assert!(told.starts_with("4 validation errors detected"), "{told}");
}

#[test]
fn an_escape_is_a_character_that_means_nothing_else() {
    let text = |text: &str| Some(text.to_owned());
    for (escape, separator, quote, right) in [
        ("\r", ",", "\"", "Member must not end a line"),
        ("\n", ",", "\"", "Member must not end a line"),
        (",", ",", "\"", "another character than columnSeparator"),
        ("|", "|", "\"", "another character than columnSeparator"),
        ("'", ",", "\"", "Member must be quoteChar where it is a quote"),
        ("\"", ",", "'", "Member must be quoteChar where it is a quote"),
        ("\u{e9}", ",", "\"", "regular expression"),
        ("\\", ",", "\"", ""),
        ("\"", ",", "\"", ""),
        ("'", ",", "'", ""),
        (",", ";", "\"", ""),
    ] {
        let form = CsvConfiguration {
            column_separator: text(separator),
            quote_char: text(quote),
            escape_char: text(escape),
            ..CsvConfiguration::default()
        };
        let mut violations = Violations::default();
        form.dialect("csv", &mut violations);
        let found = violations.finish().err().unwrap_or_default();
        assert_eq!(found.is_empty(), right.is_empty(), "{form:?}: {found}");
        assert!(right.is_empty() || found.contains("'csv.escapeChar'"), "{found}");
        assert!(found.contains(right), "{found}");
    }
    let default = CsvConfiguration { escape_char: text(","), ..CsvConfiguration::default() };
    let mut violations = Violations::default();
    default.dialect("csv", &mut violations);
    assert!(!violations.is_empty(), "the separator that is not said is one too");
}

fn model(text: &str) -> DataModel {
    let model: DataModel = serde_json::from_str(text).unwrap();
    let mut violations = Violations::default();
    model.check("m", &mut violations);
    assert!(violations.is_empty(), "{:?}", violations.finish());
    model
}

const MULTI: &str = r#"{"TimeColumn":"t","TimeUnit":"SECONDS",
    "DimensionMappings":[{"SourceColumn":"host"},{"SourceColumn":"dc","DestinationColumn":"zone"}],
    "MultiMeasureMappings":{"TargetMultiMeasureName":"m","MultiMeasureAttributeMappings":[
        {"SourceColumn":"v","MeasureValueType":"DOUBLE"},
        {"SourceColumn":"n","TargetMultiMeasureAttributeName":"count","MeasureValueType":"BIGINT"},
        {"SourceColumn":"ok","MeasureValueType":"BOOLEAN"},
        {"SourceColumn":"s","MeasureValueType":"VARCHAR"},
        {"SourceColumn":"at","MeasureValueType":"TIMESTAMP"}]}}"#;
const HEADER: &str = "t,host,dc,v,n,ok,s,at";

const MIXED: &str = r#"{"TimeColumn":"t","MeasureNameColumn":"what","DimensionMappings":[{"SourceColumn":"host"}],
    "MixedMeasureMappings":[
        {"MeasureName":"temp","SourceColumn":"v","TargetMeasureName":"celsius","MeasureValueType":"DOUBLE"},
        {"MeasureName":"state","MeasureValueType":"MULTI","MultiMeasureAttributeMappings":[
            {"SourceColumn":"s","MeasureValueType":"VARCHAR"},{"SourceColumn":"v","MeasureValueType":"DOUBLE"}]}]}"#;

const ALL: &str = r#"{"TimeColumn":"t","DimensionMappings":[{"SourceColumn":"host"}],
    "MixedMeasureMappings":[
        {"SourceColumn":"v","MeasureValueType":"DOUBLE"},
        {"SourceColumn":"s","MeasureName":"text","MeasureValueType":"VARCHAR"}]}"#;

/// The records of one row in a few words, or its problem.
fn told(model: &DataModel, header: &str, line: &[u8], form: &CsvConfiguration) -> String {
    let dialect = dialect(form);
    let mut rows = Rows::new(&dialect, (0, 1));
    let read = |rows: &mut Rows, text: &[u8]| {
        assert_eq!(rows.next(text).1, Step::More);
        assert_eq!(rows.end(), Step::Row);
        let ends: Vec<u32> = rows.ends().iter().map(|end| u32::try_from(*end).unwrap()).collect();
        (rows.text().to_vec(), ends)
    };
    let (text, ends) = read(&mut rows, header.as_bytes());
    let plan = match Plan::new(model, &dialect, Row { text: &text, ends: &ends }) {
        Ok(plan) => plan,
        Err(problem) => return format!("file: {}", problem.message),
    };
    let (text, ends) = read(&mut Rows::new(&dialect, (0, 1)), line);
    let mut record = Record::default();
    let mut shown = Vec::new();
    let done = plan.records(Row { text: &text, ends: &ends }, &mut record, &mut |record| {
        shown.push(in_words(record));
    });
    match done {
        Ok(()) => shown.join(" + "),
        Err(problem) => {
            assert!(shown.is_empty(), "nothing is taken of a row with a problem");
            format!("{}: {}", problem.code, problem.message)
        }
    }
}

fn in_words(record: &Record<'_>) -> String {
    let dimensions: Vec<String> =
        record.dimensions.iter().map(|d| format!("{}={}", d.name, d.value)).collect();
    let attributes: Vec<String> = record
        .attributes
        .iter()
        .map(|a| match a.value {
            Value::Double(v) => format!("{}={v:?}", a.name),
            Value::Bigint(v) => format!("{}={v}i", a.name),
            Value::Boolean(v) => format!("{}={v}", a.name),
            Value::Varchar(v) => format!("{}={v:?}", a.name),
            Value::Timestamp(v) => format!("{}=@{v}", a.name),
        })
        .collect();
    let kind = if record.kind == MeasureKind::Multi { "" } else { "!" };
    let time = record.time_ns.unwrap();
    format!(
        "{}{kind}[{}] {} {time}",
        record.measure_name,
        dimensions.join(","),
        attributes.join(",")
    )
}

#[test]
fn a_row_becomes_the_records_that_its_model_says() {
    let plain = CsvConfiguration::default();
    let nulls = CsvConfiguration {
        null_value: Some("NULL".to_owned()),
        trim_white_space: Some(true),
        ..CsvConfiguration::default()
    };
    let multi = model(MULTI);
    let mixed = model(MIXED);
    let all = model(ALL);
    #[rustfmt::skip]
    let cases = [
        (&multi, HEADER, "7,a,eu,1.5,-3,True,x,9", &plain, "m[host=a,zone=eu] v=1.5,count=-3i,ok=true,s=\"x\",at=@9000000000 7000000000"),
        (&multi, HEADER, "7,a,,1,,,,", &plain, "m[host=a] v=1.0 7000000000"),
        (&multi, " t ,host,dc,v,n,ok,s,at", " 7 , a , NULL,1, NULL ,,,", &nulls, "m[host=a] v=1.0 7000000000"),
        (&multi, "t, \"host\" ,dc,v,n,ok,s,at", "7, \"b,c\" ,eu,1,,, \"x \"\"y\"\"\" ,", &nulls, "m[host=b,c,zone=eu] v=1.0,s=\"x \\\"y\\\"\" 7000000000"),
        (&mixed, "t,what,host,v,s", "7,temp,a,1,x", &plain, "celsius![host=a] =1.0 7000000"),
        (&mixed, "t,what,host,v,s", "7,state,a,1,x", &plain, "state[host=a] s=\"x\",v=1.0 7000000"),
        (&all, "t,host,v,s", "7,a,1,x", &plain, "v![host=a] =1.0 7000000 + text![host=a] =\"x\" 7000000"),
        (&all, "t,host,v,s", "7,a,,x", &plain, "text![host=a] =\"x\" 7000000"),
    ];
    for (model, header, line, form, expected) in cases {
        assert_eq!(told(model, header, line.as_bytes(), form), expected, "{line}");
    }
}

#[test]
fn a_row_or_file_that_cannot_be_read_is_told_by_its_problem() {
    let plain = CsvConfiguration::default();
    let multi = model(MULTI);
    let all = model(ALL);
    let mixed = model(MIXED);
    #[rustfmt::skip]
    let cases: [(&DataModel, &str, &[u8], &str); 16] = [
        (&multi, HEADER, b"7,a,eu", "fields: a row has 3 fields, and the header has 8"),
        (&multi, HEADER, b"x,a,,1,,,,", "value:0:time: column \"t\" is no time: \"x\" is not an integer"),
        (&multi, HEADER, b"9223372036854775807,a,,1,,,,", "value:0:time: "),
        (&multi, HEADER, b",a,,1,,,,", "missing:0: column \"t\" is empty"),
        (&multi, HEADER, b"7,a,,1x,,,,", "value:3:DOUBLE: column \"v\" is no DOUBLE: \"1x\" is not a finite"),
        (&multi, HEADER, b"7,a,,NaN,,,,", "value:3:DOUBLE: "),
        (&multi, HEADER, b"7,a,,,1.5,,,", "value:4:BIGINT: "),
        (&multi, HEADER, b"7,a,,,,yes,,", "value:5:BOOLEAN: "),
        (&multi, HEADER, b"7,a,,,,,,-1", "value:7:TIMESTAMP: "),
        (&multi, HEADER, b"7,a,,,,,\xff,", "utf8: "),
        (&multi, HEADER, b"7,a,,,,,,", "measure: every column of a measure is empty"),
        (&all, "t,host,v,s", b"7,a,1x,x", "value:2:DOUBLE: "),
        (&mixed, "t,what,host,v,s", b"7,other,a,1,x", "measure: the row has no value"),
        (&multi, "\u{feff}t,host,dc,v,n,ok,s,at", b"7", "file: the file begins with a byte order mark"),
        (&multi, "t;host;dc;v;n;ok;s;at", b"7", "file: column \"t\" is not in the header, which has 1 columns"),
        (&multi, "t,host,host,dc,v,n,ok,s,at", b"7", "file: the header has column \"host\" twice"),
    ];
    for (model, header, line, expected) in cases {
        let found = told(model, header, line, &plain);
        assert!(found.starts_with(expected), "{:?}: {found}", String::from_utf8_lossy(line));
    }
}

#[test]
fn a_model_that_cannot_work_is_told_with_every_violation() {
    for (text, count) in [
        ("{}", 3),
        (
            r#"{"TimeColumn":"","DimensionMappings":[{}],"TimeUnit":"HOURS","MultiMeasureMappings":{}}"#,
            5,
        ),
        (
            r#"{"TimeColumn":"t","DimensionMappings":[{"SourceColumn":"h"}],"MixedMeasureMappings":[{}]}"#,
            1,
        ),
        (
            r#"{"TimeColumn":"t","DimensionMappings":[{"SourceColumn":"h"}],"MeasureNameColumn":"m",
               "MixedMeasureMappings":[{"MeasureValueType":"MULTI"},{"MeasureValueType":"X","MeasureName":"a"}]}"#,
            4,
        ),
        // Two targets of one name: one of the two values would be lost.
        (
            r#"{"TimeColumn":"t","DimensionMappings":[{"SourceColumn":"h"},{"SourceColumn":"i","DestinationColumn":"h"}],
               "MultiMeasureMappings":{"TargetMultiMeasureName":"m","MultiMeasureAttributeMappings":[
               {"SourceColumn":"v","TargetMultiMeasureAttributeName":"x","MeasureValueType":"DOUBLE"},
               {"SourceColumn":"x","MeasureValueType":"DOUBLE"}]}}"#,
            2,
        ),
    ] {
        let model: DataModel = serde_json::from_str(text).unwrap();
        let mut violations = Violations::default();
        model.check("m", &mut violations);
        let told = violations.finish().unwrap_err();
        let found: usize = told.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(found, count, "{text}: {told}");
    }
}

/// A model of one dimension with these further members.
fn with(members: &str) -> DataModel {
    let text =
        format!(r#"{{"TimeColumn":"t","DimensionMappings":[{{"SourceColumn":"h"}}],{members}}}"#);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_mapping_that_can_never_work_is_told_by_its_place() {
    let multi = |source: &str| {
        format!(
            r#""MultiMeasureMappings":{{"TargetMultiMeasureName":"m","MultiMeasureAttributeMappings":[
            {{"SourceColumn":"v","MeasureValueType":"DOUBLE"}},{{"SourceColumn":"{source}","MeasureValueType":"DOUBLE"}}]}}"#
        )
    };
    let mixed =
        |column: &str, mappings: &str| format!(r#"{column}"MixedMeasureMappings":[{mappings}]"#);
    let column = r#""MeasureNameColumn":"n","#;
    let temp = |more: &str| {
        format!(r#"{{"MeasureName":"temp","SourceColumn":"v","MeasureValueType":"DOUBLE"{more}}}"#)
    };
    let target = |name: &str| temp(&format!(r#","TargetMeasureName":"{name}""#));
    let attribute = "m.multiMeasureMappings.multiMeasureAttributeMappings.2.member.targetMultiMeasureAttributeName";
    let second = "m.mixedMeasureMappings.2.member.targetMeasureName";
    for (members, told) in [
        (
            mixed("", r#"{"MeasureName":"a","SourceColumn":"v","MeasureValueType":"TIMESTAMP"}"#),
            "Value 'TIMESTAMP' at 'm.mixedMeasureMappings.1.member.measureValueType'".to_owned(),
        ),
        (multi("time"), format!("Value 'time' at '{attribute}'")),
        (multi("measure_name"), format!("Value 'measure_name' at '{attribute}'")),
        (multi("measure_value::double"), format!("Value 'measure_value::double' at '{attribute}'")),
        (mixed(column, &[temp(""), temp("")].join(",")), format!("Value 'temp' at '{second}'")),
        (
            mixed(column, &[temp(""), target("temp")].join(",")),
            format!("Value 'temp' at '{second}'"),
        ),
        (mixed("", &[target("x"), target("x")].join(",")), format!("Value 'x' at '{second}'")),
    ] {
        let mut violations = Violations::default();
        with(&members).check("m", &mut violations);
        let found = violations.finish().unwrap_err();
        assert!(found.starts_with(&format!("1 validation error detected: {told}")), "{found}");
    }
    let reserved = r#"{"TimeColumn":"t","DimensionMappings":[{"SourceColumn":"h","DestinationColumn":"time"}],"#;
    let reserved: DataModel = serde_json::from_str(&format!("{reserved}{}}}", multi("w"))).unwrap();
    let mut violations = Violations::default();
    reserved.check("m", &mut violations);
    let found = violations.finish().unwrap_err();
    assert!(
        found.contains("'time' at 'm.dimensionMappings.1.member.destinationColumn'"),
        "{found}"
    );
    // Two kinds of one row, and one kind of two rows.
    let other = temp("").replace("temp", "hum");
    for mappings in [
        [target("x"), target("y")],
        [target("x"), other.replace('}', r#","TargetMeasureName":"x"}"#)],
    ] {
        let mut violations = Violations::default();
        with(&mixed(column, &mappings.join(","))).check("m", &mut violations);
        assert_eq!(violations.finish(), Ok(()));
    }
}

/// So many mappings of columns by number.
fn numbered(count: usize, more: &str) -> String {
    let mapping = |at| format!(r#"{{"SourceColumn":"c{at}"{more}}}"#);
    (0..count).map(mapping).collect::<Vec<_>>().join(",")
}

/// What is wrong with a model, for a relaxed table and for a strict one.
fn violations(model: &DataModel) -> [String; 2] {
    let mut relaxed = Violations::default();
    model.check("m", &mut relaxed);
    let mut strict = Violations::default();
    model.check_strict("m", &mut strict);
    [relaxed, strict].map(|violations| violations.finish().err().unwrap_or_default())
}

#[test]
fn a_model_with_more_than_a_record_can_have_is_refused_by_the_name_of_its_list() {
    const DOUBLE: &str = r#","MeasureValueType":"DOUBLE""#;
    let multi = |count| {
        let mappings = numbered(count, DOUBLE);
        let multi = r#""TargetMultiMeasureName":"m","MultiMeasureAttributeMappings""#;
        with(&format!(r#""MultiMeasureMappings":{{{multi}:[{mappings}]}}"#))
    };
    let mixed = |count| {
        let mappings = numbered(count, DOUBLE);
        let multi =
            r#""MeasureName":"m","MeasureValueType":"MULTI","MultiMeasureAttributeMappings""#;
        with(&format!(r#""MixedMeasureMappings":[{{{multi}:[{mappings}]}}]"#))
    };
    let dimensions = |count| {
        let mut model = multi(0);
        let mappings = format!(r#"{{"DimensionMappings":[{}]}}"#, numbered(count, ""));
        let more: DataModel = serde_json::from_str(&mappings).unwrap();
        model.dimension_mappings = more.dimension_mappings;
        model.multi_measure_mappings = multi(1).multi_measure_mappings;
        let attributes = model.multi_measure_mappings.as_mut().unwrap();
        attributes.multi_measure_attribute_mappings[0].target_multi_measure_attribute_name =
            Some("v".to_owned());
        model
    };
    for model in [multi(256), mixed(256), dimensions(128)] {
        assert_eq!(violations(&model), [String::new(), String::new()]);
    }
    let list = "multiMeasureAttributeMappings";
    for (model, place) in [
        (multi(257), format!("m.multiMeasureMappings.{list}")),
        (mixed(257), format!("m.mixedMeasureMappings.1.member.{list}")),
    ] {
        let [relaxed, strict] = violations(&model);
        assert_eq!(relaxed, "", "a relaxed table takes them");
        let told = format!(
            "Value '[257 mappings]' at '{place}' failed to satisfy constraint: Member must have length less than or equal to 256"
        );
        assert_eq!(strict, format!("1 validation error detected: {told}"));
    }
    let [relaxed, _] = violations(&multi(1025));
    let place = format!("'[1025 mappings]' at 'm.multiMeasureMappings.{list}'");
    assert!(
        relaxed.contains(&place) && relaxed.ends_with("less than or equal to 1024"),
        "{relaxed}"
    );
    let [relaxed, _] = violations(&dimensions(129));
    let place = "'[129 mappings]' at 'm.dimensionMappings'";
    assert!(relaxed.contains(place) && relaxed.ends_with("less than or equal to 128"), "{relaxed}");
}

#[test]
fn a_single_value_has_no_list_of_attributes() {
    let model = with(
        r#""MixedMeasureMappings":[{"SourceColumn":"v","MeasureValueType":"DOUBLE",
            "MultiMeasureAttributeMappings":[{"SourceColumn":"w","MeasureValueType":"DOUBLE"}]}]"#,
    );
    let [told, _] = violations(&model);
    let place = "'m.mixedMeasureMappings.1.member.multiMeasureAttributeMappings'";
    assert!(told.contains(place) && told.contains("where measureValueType is not MULTI"), "{told}");
}

#[test]
fn names_that_a_strict_table_refuses_are_told_of_the_model() {
    let attribute = |name: &str| {
        with(&format!(
            r#""MultiMeasureMappings":{{"TargetMultiMeasureName":"ts_m","MultiMeasureAttributeMappings":[
            {{"SourceColumn":"{name}","MeasureValueType":"DOUBLE"}}]}}"#
        ))
    };
    let scalar =
        with(r#""MixedMeasureMappings":[{"SourceColumn":"a:b","MeasureValueType":"DOUBLE"}]"#);
    for (model, count, told) in [
        (attribute("v"), 1, "'ts_m' at 'm.multiMeasureMappings.targetMultiMeasureName'"),
        (attribute("h"), 2, "\"h\" is a dimension too"),
        (attribute("ts_v"), 2, "begins with \"ts_\", which is reserved"),
        (scalar, 1, "holds ':'"),
    ] {
        let mut violations = Violations::default();
        model.check("m", &mut violations);
        assert!(violations.is_empty(), "a relaxed table takes them");
        model.check_strict("m", &mut violations);
        let found = violations.finish().unwrap_err();
        assert!(found.starts_with(&count.to_string()) && found.contains(told), "{found}");
    }
}
