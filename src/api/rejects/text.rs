//! The text that is sent for a rejection, and how it is read.
//!
//! | what | is read |
//! |---|---|
//! | the refused text | as its request said, unless `format` and `precision` say otherwise |
//! | a text in its place | in the same unit; by its first byte as JSON or line protocol |
//! | a text in the place of a record that the engine refused | in nanoseconds, as the record is shown; by its first byte as JSON or line protocol |
//! | a refused text of a report that does not say | by its first byte; where a timestamp's unit is open, only with `precision` |

use bumpalo::Bump;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::mend::{Draft, Set, Why};
use crate::api::fault::{Family, Fault};
use crate::api::write::{Form, Plan};
use crate::ingest::Partial;
use crate::protocol::json::{Form as JsonForm, Precision as JsonPrecision};
use crate::protocol::line::{Limits, Precision as LinePrecision, Reader};
use crate::record::{Reading, Reason};
use crate::reject::archive::Rejected;

/// What a request gives for all that it sends.
#[derive(Debug, Default)]
pub(super) struct Given {
    text: Option<String>,
    format: Option<Format>,
    precision: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Line,
    Json,
}

/// A text that is ready to be sent.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    pub(super) form: Form,
    /// The table of records that name none.
    pub(super) table: Option<String>,
    /// What is left to be set in its records.
    pub(super) set: Set,
}

impl Given {
    /// What a request's members say.
    ///
    /// # Errors
    ///
    /// [`Fault`] 400 for a format or unit that there is not, and for two texts.
    pub(super) fn new(
        line: Option<String>,
        json: Option<Box<RawValue>>,
        (format, precision): (Option<String>, Option<String>),
    ) -> Result<Self, Fault> {
        let format = match format.as_deref() {
            None => None,
            Some("line") => Some(Format::Line),
            Some("json") => Some(Format::Json),
            Some(found) => {
                return Err(Fault::invalid(format!("invalid format {found:?} (use line or json)")));
            }
        };
        if json.is_some() && (line.is_some() || format == Some(Format::Line)) {
            return Err(Fault::invalid("send either line or json"));
        }
        let format = if json.is_some() { Some(Format::Json) } else { format };
        let text = json.map(|json| json.get().to_owned()).or(line);
        let precision = precision.filter(|unit| !unit.is_empty());
        if let Some(unit) = &precision {
            // Without a format either may come, and the unit must do for the one that does.
            let mut formats = [Format::Line, Format::Json].into_iter();
            let is_one = formats
                .any(|one| format.is_none_or(|format| format == one) && form(one, unit).is_ok());
            if !is_one {
                let why = form(format.unwrap_or(Format::Line), unit).err().unwrap_or_default();
                return Err(Fault::invalid(why));
            }
        }
        Ok(Self { text, format, precision })
    }

    /// Whether there is a text, which can stand for one rejection only.
    pub(super) const fn has_text(&self) -> bool {
        self.text.is_some()
    }

    /// About how many bytes [`Self::text`] and what is left to be set take.
    pub(super) fn bytes(&self, one: &Rejected, set: &Set) -> usize {
        one.bytes() + self.text.as_ref().map_or(0, String::len) + set.bytes()
    }

    /// What is sent for a rejection, with room for what `set` sets.
    ///
    /// # Errors
    ///
    /// [`Why`]: it cannot be told how the text is to be read, or what is to be set has no type.
    pub(super) fn text(
        &self,
        one: &Rejected,
        set: &Set,
        version_field: Option<&str>,
    ) -> Result<Text, Why> {
        let given = self.text.as_ref().map(|text| text.as_bytes().to_vec());
        let Some(text) = given.or_else(|| one.text()) else { return Ok(of_record(one, set)) };
        let reading = one.entry.reading.as_ref();
        let told = reading.map(Reading::is_json);
        let is_json = if self.has_text() {
            is_json_itself(told, &text)
        } else {
            told.unwrap_or(begins_as_json(&text))
        };
        let guessed = if is_json { Format::Json } else { Format::Line };
        let format = self.format.unwrap_or(guessed);
        let mut draft = Draft::new(text, reading, format == Format::Json);
        if self.has_text() && is_whole(&draft) {
            draft.within = None;
        }
        let mut set = set.clone();
        draft.make_room(&mut set, version_field)?;
        let form = self.form(one, format, &draft)?;
        let table = reading.and_then(|reading| reading.table.as_deref()).map(str::to_owned);
        Ok(Text { bytes: draft.whole(), form, table, set })
    }

    fn form(&self, one: &Rejected, format: Format, draft: &Draft) -> Result<Form, Why> {
        let told = one.entry.reading.as_ref().map(|reading| &*reading.precision);
        // A unit that this format does not have says nothing of it.
        let told = told.filter(|unit| form(format, unit).is_ok());
        let of_record = one.entry.record.is_some().then_some("ns");
        let unit = match self.precision.as_deref().or(told).or(of_record) {
            Some(unit) => unit,
            None if has_open_time(draft) => {
                let message = "its report does not say the unit of its timestamp: say it with \
                               precision (--precision), or set the time";
                return Err((Reason::InvalidTime, message.to_owned()));
            }
            None => "ns",
        };
        form(format, unit).map_err(|why| (Reason::InvalidTime, why))
    }
}

impl Text {
    /// How it is decoded, as the text of a write.
    pub(super) fn plan(&self, one: &Rejected) -> Plan {
        Plan {
            family: Family::Native,
            database: one.database.clone(),
            table: self.table.clone(),
            form: self.form,
            durability: None,
            partial: Partial::Accept,
            key: None,
        }
    }
}

/// A record that the engine refused, as it was then.
fn of_record(one: &Rejected, set: &Set) -> Text {
    let document = json!({
        "DatabaseName": one.database, "TableName": one.table, "Records": [one.entry.record],
    });
    let form = Form::Json(JsonForm::Document, JsonPrecision::Ns);
    Text { bytes: document.to_string().into_bytes(), form, table: None, set: set.clone() }
}

fn begins_as_json(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// Whether a text in the place of another is JSON, which that one was or not. A measurement may begin with a
/// brace as well, so it must be sound where a line was refused.
fn is_json_itself(was_json: Option<bool>, text: &[u8]) -> bool {
    let is_sound = || serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
    begins_as_json(text) && (was_json != Some(false) || is_sound())
}

fn form(format: Format, unit: &str) -> Result<Form, String> {
    let wrong = |right| format!("invalid precision {unit:?} (use {right})");
    match format {
        Format::Line => LinePrecision::from_name(unit)
            .map(Form::Line)
            .map_err(|_unknown| wrong("n, u, ms, s, m, h or auto")),
        Format::Json => unit
            .parse()
            .map(|unit| Form::Json(JsonForm::Document, unit))
            .map_err(|_unknown| wrong("ns, us, ms or s")),
    }
}

/// Whether a JSON text says by itself all that it means: what stood around the refused one is not for it.
fn is_whole(draft: &Draft) -> bool {
    let json: Json = serde_json::from_slice(&draft.text).unwrap_or_default();
    json.is_array() || ["Records", "fields", "metrics"].iter().any(|name| !json[name].is_null())
}

/// Whether a text has a timestamp whose unit it does not say.
fn has_open_time(draft: &Draft) -> bool {
    if draft.is_json {
        return serde_json::from_slice(&draft.text).is_ok_and(|json: Json| is_open(&json));
    }
    let arena = Bump::new();
    let mut reader = Reader::new(&draft.text, Limits::default(), &arena);
    while let Some(line) = reader.read() {
        if line.is_ok_and(|line| line.timestamp.is_some()) {
            return true;
        }
    }
    false
}

fn is_open(json: &Json) -> bool {
    let mut elements = json.as_array().or_else(|| json["metrics"].as_array()).into_iter().flatten();
    json["timestamp"].is_number() || elements.any(is_open)
}
