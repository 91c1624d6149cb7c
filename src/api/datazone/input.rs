//! What a request asks, held against the constraints of the model. The message of an error names every
//! constraint that is violated.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::exception::invalid;
use super::path::Entity;
use super::point::{self, Stamp, Time};
use crate::api::params::Params;
use crate::api::timestream::exception::Exception;
use crate::protocol::timestream::coral::Violations;
use crate::protocol::timestream::object::{List as Counted, Object};
use crate::record::limits::CONTENT_CHARS_MAX;

const FORM_NAME_CHARS: std::ops::RangeInclusive<i64> = 1..=128;
const TYPE_CHARS: std::ops::RangeInclusive<i64> = 1..=385;
const REVISION_CHARS: std::ops::RangeInclusive<i64> = 1..=64;
const TOKEN_CHARS: std::ops::RangeInclusive<i64> = 1..=128;
const NEXT_TOKEN_CHARS: std::ops::RangeInclusive<i64> = 1..=8192;
const CONTENT_CHARS: std::ops::RangeInclusive<i64> = 0..=500_000;
const RESULTS: std::ops::RangeInclusive<i64> = 1..=50;

const _: () = assert!(CONTENT_CHARS_MAX == 500_000);

/// What is asked of a time.
const TIMES: &str = "Member must be a timestamp from 1677-09-21T00:12:43.145225Z to \
                     2262-04-11T23:47:16.854775Z, a number of seconds since 1970 or a text of ISO 8601";

const TYPE_PATTERN: &str = r"(?!\.)[\w\.]*\w";
const TOKEN_PATTERN: &str = r"[\x21-\x7E]+";

/// Most forms of one Post. The model has no bound, and a form without content takes [`FORM_BYTES`] from
/// some 60 bytes of a body: so there must be one. A run of Glue's data quality brings at most 100.
pub const FORMS_MAX: usize = 1_000;

/// Memory of a form beside its content while a Post is carried out, in bytes: read, packed and answered. A
/// bound from above: 32 Posts of 1,000 tiny forms at once took 33 MiB of a process, 1 KiB a form, of
/// which a half were points that stayed.
pub const FORM_BYTES: usize = 4 << 10;

const FORMS: std::ops::RangeInclusive<i64> = 1..=1_000;

const _: () = assert!(FORMS_MAX == 1_000);

/// What tokens of another form are told by.
const PAGE_FORM: &str = "1";

/// Between the parts of a token: no id holds it.
const SEPARATOR: char = '\0';

/// What makes two requests the same.
pub type Digest = u128;

/// A Post.
#[derive(Debug)]
pub struct Post {
    /// To whom.
    pub entity: Entity,
    /// At least one, and at most [`FORMS_MAX`].
    pub forms: Vec<Form>,
    /// The client's name for this Post and its repetitions.
    pub token: Option<String>,
}

/// One point that is posted.
#[derive(Debug)]
pub struct Form {
    /// The form's name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its type's revision, as it was sent.
    pub revision: Option<String>,
    /// When.
    pub time: Time,
    /// What.
    pub content: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PostBody {
    forms: Option<Counted<Option<Object<FormBody>>, FORMS_MAX>>,
    client_token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FormBody {
    form_name: Option<String>,
    type_identifier: Option<String>,
    type_revision: Option<String>,
    timestamp: Option<Stamp>,
    content: Option<String>,
}

impl Post {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// [`Exception`] 400.
    pub fn read(entity: Entity, body: &Bytes) -> Result<Self, Exception> {
        let Object::<PostBody>(body) = serde_json::from_slice(body)
            .map_err(|error| invalid(format!("the body is not what is expected: {error}")))?;
        let mut violations = Violations::default();
        check_token(&mut violations, body.client_token.as_deref());
        let mut forms = Vec::new();
        match body.forms {
            None => violations.required("forms"),
            Some(sent) => {
                let count = i64::try_from(sent.count).unwrap_or(i64::MAX);
                let shown = format!("[{count} forms]");
                violations.range("forms", count, &FORMS, Some(&shown));
                forms.reserve(sent.items.len());
                for (at, form) in sent.items.into_iter().enumerate() {
                    let at = format!("forms.{}.member", at + 1);
                    match form {
                        Some(Object(form)) => forms.extend(form.checked(&at, &mut violations)),
                        None => violations.required(&at),
                    }
                }
            }
        }
        violations.finish().map_err(invalid)?;
        Ok(Self { entity, forms, token: body.client_token })
    }

    /// What it asks, apart from its token.
    pub fn digest(&self) -> Digest {
        let mut parts = Parts::of("post", &self.entity);
        for form in &self.forms {
            parts.put(Some(&form.name));
            parts.put(Some(&form.kind));
            parts.put(form.revision.as_deref());
            parts.put(Some(&form.time.ns().to_string()));
            parts.put(form.content.as_deref());
        }
        parts.end()
    }
}

impl FormBody {
    fn checked(self, at: &str, violations: &mut Violations) -> Option<Form> {
        let name = self.form_name.or_else(|| {
            violations.required(format_args!("{at}.formName"));
            None
        })?;
        violations.length(format_args!("{at}.formName"), &name, &FORM_NAME_CHARS);
        let kind = self.type_identifier.or_else(|| {
            violations.required(format_args!("{at}.typeIdentifier"));
            None
        })?;
        violations.length(format_args!("{at}.typeIdentifier"), &kind, &TYPE_CHARS);
        if !kind.is_empty() && !is_type(&kind) {
            violations.no_match(format_args!("{at}.typeIdentifier"), &kind, TYPE_PATTERN);
        }
        if let Some(revision) = &self.type_revision {
            violations.length(format_args!("{at}.typeRevision"), revision, &REVISION_CHARS);
        }
        if let Some(content) = &self.content {
            violations.length(format_args!("{at}.content"), content, &CONTENT_CHARS);
        }
        let Some(sent) = &self.timestamp else {
            violations.required(format_args!("{at}.timestamp"));
            return None;
        };
        let Some(time) = sent.time() else {
            violations.add(format_args!("{at}.timestamp"), Some(&sent.to_string()), TIMES);
            return None;
        };
        Some(Form { name, kind, revision: self.type_revision, time, content: self.content })
    }
}

/// A Delete.
#[derive(Debug)]
pub struct Delete {
    /// Whose points.
    pub entity: Entity,
    /// Of which form.
    pub form: String,
    /// The client's name for this Delete and its repetitions.
    pub token: Option<String>,
}

impl Delete {
    /// Reads a query string.
    ///
    /// # Errors
    ///
    /// [`Exception`] 400.
    pub fn read(entity: Entity, params: &Params) -> Result<Self, Exception> {
        let mut violations = Violations::default();
        let form = form_name(&mut violations, params);
        let token = params.get("clientToken");
        check_token(&mut violations, token);
        violations.finish().map_err(invalid)?;
        Ok(Self { entity, form, token: token.map(str::to_owned) })
    }

    /// What it asks, apart from its token.
    pub fn digest(&self) -> Digest {
        let mut parts = Parts::of("delete", &self.entity);
        parts.put(Some(&self.form));
        parts.end()
    }
}

/// A Get.
#[derive(Debug)]
pub struct Get {
    /// Whose point.
    pub entity: Entity,
    /// Of which form.
    pub form: String,
    /// Its id.
    pub id: String,
}

impl Get {
    /// Reads a query string.
    ///
    /// # Errors
    ///
    /// [`Exception`] 400.
    pub fn read(entity: Entity, id: Option<String>, params: &Params) -> Result<Self, Exception> {
        let mut violations = Violations::default();
        let form = form_name(&mut violations, params);
        let id = id.unwrap_or_else(|| {
            violations.required("identifier");
            String::new()
        });
        violations.finish().map_err(invalid)?;
        Ok(Self { entity, form, id })
    }
}

/// A List.
#[derive(Debug)]
pub struct List {
    /// Whose points.
    pub entity: Entity,
    /// Of which form.
    pub form: String,
    /// Not before this.
    pub started: Option<Time>,
    /// Not after this.
    pub ended: Option<Time>,
    /// Most points of the page.
    pub results: usize,
    /// The time and id of the last point of the page before.
    pub after: Option<(i64, String)>,
}

impl List {
    /// Reads a query string.
    ///
    /// # Errors
    ///
    /// [`Exception`] 400.
    pub fn read(entity: Entity, params: &Params) -> Result<Self, Exception> {
        let mut violations = Violations::default();
        let form = form_name(&mut violations, params);
        let started = time(&mut violations, params, "startedAt");
        let ended = time(&mut violations, params, "endedAt");
        let mut results = *RESULTS.end();
        if let Some(sent) = params.get("maxResults") {
            match sent.parse() {
                Ok(found) => {
                    results = found;
                    violations.range("maxResults", found, &RESULTS, None);
                }
                Err(_no_number) => {
                    violations.add("maxResults", Some(sent), "Member must be an integer");
                }
            }
        }
        let token = params.get("nextToken");
        if let Some(token) = token {
            violations.length("nextToken", token, &NEXT_TOKEN_CHARS);
        }
        violations.finish().map_err(invalid)?;
        if let (Some(started), Some(ended)) = (started, ended)
            && started > ended
        {
            return Err(invalid("startedAt is after endedAt"));
        }
        let results = usize::try_from(results).unwrap_or_default();
        let mut list = Self { entity, form, started, ended, results, after: None };
        list.after = token.map(|token| list.place_in(token)).transpose()?;
        Ok(list)
    }

    /// A token for what comes after a point.
    pub fn token(&self, time_ns: i64, id: &str) -> String {
        let digest = self.digest();
        BASE64.encode(format!("{PAGE_FORM}\0{time_ns}\0{id}\0{digest:032x}"))
    }

    fn place_in(&self, token: &str) -> Result<(i64, String), Exception> {
        let wrong = || invalid("The nextToken was not given out for this list.");
        let bytes = BASE64.decode(token).map_err(|_no_base64| wrong())?;
        let text = String::from_utf8(bytes).map_err(|_no_text| wrong())?;
        let parts: Vec<&str> = text.split(SEPARATOR).collect();
        let [PAGE_FORM, time_ns, id, digest] = parts[..] else { return Err(wrong()) };
        let time_ns: i64 = time_ns.parse().map_err(|_no_number| wrong())?;
        let is_ours = point::time_of(id).is_some_and(|time| time.ns() == time_ns);
        if !is_ours || digest != format!("{:032x}", self.digest()) {
            return Err(wrong());
        }
        Ok((time_ns, id.to_owned()))
    }

    /// What is listed, apart from the page.
    fn digest(&self) -> Digest {
        let mut parts = Parts::of("list", &self.entity);
        parts.put(Some(&self.form));
        for time in [self.started, self.ended] {
            parts.put(time.map(|time| time.ns().to_string()).as_deref());
        }
        parts.end()
    }
}

fn form_name(violations: &mut Violations, params: &Params) -> String {
    let Some(name) = params.get("formName") else {
        violations.required("formName");
        return String::new();
    };
    violations.length("formName", name, &FORM_NAME_CHARS);
    name.to_owned()
}

fn time(violations: &mut Violations, params: &Params, name: &str) -> Option<Time> {
    let sent = params.get(name)?;
    let time = Time::of_text(sent);
    if time.is_none() {
        violations.add(name, Some(sent), TIMES);
    }
    time
}

fn check_token(violations: &mut Violations, token: Option<&str>) {
    let Some(token) = token else { return };
    violations.length("clientToken", token, &TOKEN_CHARS);
    if !token.is_empty() && !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        violations.no_match("clientToken", token, TOKEN_PATTERN);
    }
}

/// `(?!\.)[\w\.]*\w`, all of it.
fn is_type(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !text.starts_with('.')
        && text.bytes().all(|byte| is_word(byte) || byte == b'.')
        && text.bytes().last().is_some_and(is_word)
}

/// A digest in the making: parts that cannot run into each other.
#[derive(Debug)]
pub struct Parts(Sha256);

impl Parts {
    /// Of an operation on an entity.
    pub fn of(operation: &str, entity: &Entity) -> Self {
        let mut parts = Self(Sha256::new());
        for part in [operation, &entity.domain, &entity.entity_type, &entity.id] {
            parts.put(Some(part));
        }
        parts
    }

    /// Adds a part, or that there is none.
    pub fn put(&mut self, part: Option<&str>) {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        self.0.update(length.to_le_bytes());
        self.0.update(part.unwrap_or_default());
    }

    /// The digest: half of it is enough against chance, and against whoever wants two alike.
    pub fn end(self) -> Digest {
        let digest: [u8; 32] = self.0.finalize().into();
        let half = digest.first_chunk().expect("32 bytes have a first half");
        u128::from_le_bytes(*half)
    }
}

#[cfg(test)]
mod tests;
