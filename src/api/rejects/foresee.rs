//! What would become of rejections if they were sent now: decoded, mended, judged as the way in judges, and held
//! against what stands at their keys, by the rule of all engines. Both a dry run and a real one begin here; a real
//! one goes on to write what is not refused, and the engine has the last word.
//!
//! Records are foreseen in their order: one meets what the record before it would leave.
//!
//! | engine | asked |
//! |---|---|
//! | embedded, `postgres` | what stands, by a look-up a record |
//! | `timestream`, which shows nobody what it holds | nothing: what passes the way in is `unknown`; `version=next` is one above the highest version that a refusal of the rejection has told |

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::choose::Chosen;
use super::mend::{Mender, Set, Versions, Why};
use super::outcome::Outcome as Told;
use super::text::Text;
use super::told::{self, NONE_ABOVE};
use super::unmade::Unmade;
use crate::api::Mapping;
use crate::api::call::Caller;
use crate::api::write::decode_for;
use crate::engine::catalog::Catalog;
use crate::engine::standing::Met;
use crate::engine::{EngineError, TableEngine};
use crate::ingest::{Ask, Ingest, Trial, VERSION_FIRST};
use crate::record::codec::{Payload, PayloadBuilder, RecordView};
use crate::record::request::Outcome;
use crate::record::{Reason, Record, RecordSink, Refusal, TableId};
use crate::reject::archive::Rejected;
use crate::reject::entry::RecordJson;

/// Who is asked, for whom, on a thread that may wait.
pub(super) struct Asked {
    pub(super) engine: Arc<dyn TableEngine>,
    pub(super) ingest: Ingest,
    pub(super) catalog: Arc<Catalog>,
    pub(super) mapping: Mapping,
    pub(super) caller: Caller,
    pub(super) versions: Versions,
    /// When the request was received, ns.
    pub(super) received_ns: i64,
    /// Whether all that was acknowledged before is executed: else what stands is not what will.
    pub(super) is_settled: bool,
    /// Whether the records are to be shown.
    pub(super) is_dry: bool,
}

/// What would become of one rejection.
#[derive(Debug, Default)]
pub(super) struct Foreseen {
    /// Its records as they would be sent, with their versions; of a dry run, which shows them.
    pub(super) records: Vec<RecordJson>,
    /// The key that it goes to, where it is one record and that is not its own.
    pub(super) key: Option<String>,
    /// What is set last: a version for each record.
    pub(super) versions: Vec<i64>,
    /// Why it is not to be sent.
    pub(super) refused: Option<Why>,
    /// What the engine would say of the first that it would refuse.
    pub(super) by_engine: Option<Told>,
    /// Why nobody knows what the engine would say.
    pub(super) unknown: Option<Cow<'static, str>>,
    /// Whether it is not to be sent for that: the version that it would need is not known just now, and one that is
    /// guessed could be taken.
    pub(super) is_held_back: bool,
}

impl Foreseen {
    /// What is said of it where it is not sent.
    pub(super) fn unsent(&self) -> Option<Told> {
        let held_back = self.unknown.as_ref().filter(|_| self.is_held_back);
        let unsent = held_back.map(|why| Told::why("not_sent", &format!("not sent: {why}")));
        self.refused.as_ref().map(Told::refused).or(unsent)
    }

    /// What a dry run says.
    pub(super) fn told(self) -> Told {
        let mut told = match (&self.refused, self.by_engine, &self.unknown) {
            (Some(why), _, _) => Told::refused(why),
            (None, Some(by_engine), _) => by_engine,
            (None, None, Some(why)) => Told::why("unknown", why),
            (None, None, None) => Told::of("stored"),
        }
        .would_be();
        told.more["sent"] = match &self.records[..] {
            [] => serde_json::Value::Null,
            [one] => serde_json::json!(one),
            all => serde_json::json!(all),
        };
        told
    }
}

/// A record that passed the way in.
struct Passed {
    number: u64,
    is_next: bool,
    /// The version that it has, or gets where it is to be the next one and nothing stands.
    version: i64,
    /// Of a dry run.
    record: Option<RecordJson>,
}

/// Gathers the records of one rejection after the other, as they would be written.
struct Gathering<'g> {
    trial: Trial<'g>,
    unmade: Unmade<'g>,
    is_dry: bool,
    builder: PayloadBuilder,
    passed: Vec<Passed>,
    /// Numbers for tables that are not there: below no record of them can anything stand.
    missing: BTreeMap<(String, String), TableId>,
    foreseen: BTreeMap<u64, Foreseen>,
}

/// The records of the rejection whose turn it is.
struct OfOne<'o, 'g> {
    gathering: &'o mut Gathering<'g>,
    set: &'o Set,
    rejected: &'o Rejected,
    number: u64,
}

impl RecordSink for OfOne<'_, '_> {
    fn record(&mut self, record: &Record<'_>) {
        let Self { gathering, set, rejected, number } = self;
        let Gathering { trial, unmade, .. } = &mut **gathering;
        let checked = unmade.check(record, rejected).and_then(|()| {
            let table = trial.check(record)?;
            // The engine takes such a record and forgets it, and the mark would close what is its only copy.
            trial.check_kept(record).map(|()| table)
        });
        match checked {
            Ok(table) => {
                gathering.pass(record, table, (*number, set.wants_next()));
                gathering.note_key(record, (rejected, *number));
            }
            Err(why) => gathering.refuse(*number, why),
        }
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        self.gathering.refuse(self.number, (refusal.reason, refusal.message));
    }
}

impl Gathering<'_> {
    fn pass(
        &mut self,
        record: &Record<'_>,
        table: Option<TableId>,
        (number, is_next): (u64, bool),
    ) {
        let free = u32::MAX - u32::try_from(self.missing.len()).unwrap_or(u32::MAX);
        let name = || (record.database.to_owned(), record.table.to_owned());
        let table = table.unwrap_or_else(|| *self.missing.entry(name()).or_insert(TableId(free)));
        let version = record.version.unwrap_or(VERSION_FIRST);
        let ids = (self.builder.family(table, record).0, self.builder.layout(record).0);
        let time_ns = record.time_ns.expect("a mended record has its time");
        self.builder.push(ids, record, time_ns, version);
        let record = self.is_dry.then(|| RecordJson::from(record));
        self.passed.push(Passed { number, is_next, version, record });
    }

    /// Keeps the key that a rejection goes to: which of several a refusal is of, nobody says.
    fn note_key(&mut self, record: &Record<'_>, (rejected, number): (&Rejected, u64)) {
        let mut of_it = self.passed.iter().rev().take_while(|passed| passed.number == number);
        let is_one = of_it.nth(1).is_none();
        let key = is_one.then(|| told::other_key(rejected, record)).flatten();
        self.foreseen.entry(number).or_default().key = key;
    }

    /// Keeps the first reason of a rejection.
    fn refuse(&mut self, number: u64, why: Why) {
        self.foreseen.entry(number).or_default().refused.get_or_insert(why);
    }

    /// All records of a rejection were shown.
    fn end(&mut self, number: u64) {
        let has_records = self.passed.last().is_some_and(|last| last.number == number);
        if !has_records && !self.foreseen.contains_key(&number) {
            self.refuse(number, (Reason::NoMeasure, "there is no record in it".to_owned()));
        }
        // What is refused is not sent, be it for another record of the same text: none of it claims anything.
        if self.foreseen.get(&number).is_some_and(|one| one.refused.is_some()) {
            self.trial.take_back();
        } else {
            self.trial.keep();
        }
    }
}

/// What would become of these rejections, whose texts these are; and why the engine cannot be asked just now, where
/// it cannot.
pub(super) fn foresee(
    asked: &Asked,
    chosen: &Chosen,
    texts: &BTreeMap<u64, Text>,
) -> (BTreeMap<u64, Foreseen>, Option<String>) {
    let ask = Ask::of_rejections("", asked.received_ns, 0);
    let mut builder = PayloadBuilder::new(1);
    builder.start(asked.received_ns);
    let mut gathering = Gathering {
        trial: asked.ingest.trial(&ask),
        unmade: Unmade::new(&asked.catalog, asked.ingest.options().profile),
        is_dry: asked.is_dry,
        builder,
        passed: Vec::new(),
        missing: BTreeMap::new(),
        foreseen: BTreeMap::new(),
    };
    for (number, text) in texts {
        let (rejected, number) = (&chosen[number], *number);
        let mut sink = OfOne { gathering: &mut gathering, set: &text.set, rejected, number };
        let mut mender = Mender::new(&mut sink, (&text.set, asked.versions), (rejected, number));
        // A text that left its time to the receipt means the first one.
        let from = (&text.plan(rejected), &asked.mapping, rejected.entry.received.0);
        decode_for(from, &text.bytes, &asked.caller, &mut mender);
        gathering.end(number);
    }
    let Gathering { builder, passed, mut foreseen, .. } = gathering;
    let mut payload = Vec::new();
    builder.finish(&mut payload);
    let away = against_engine(asked, chosen, (&payload, passed), &mut foreseen);
    (foreseen, away)
}

/// Holds what passed against what stands; why the engine cannot be asked just now, where it cannot.
fn against_engine(
    asked: &Asked,
    chosen: &Chosen,
    (payload, passed): (&[u8], Vec<Passed>),
    foreseen: &mut BTreeMap<u64, Foreseen>,
) -> Option<String> {
    let payload = Payload::open(payload).expect("it was built here");
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).expect("it was built here");
    let views: Vec<RecordView<'_>> = payload
        .section(0, &families, &layouts)
        .collect::<Result<_, _>>()
        .expect("it was built here");
    assert_eq!(views.len(), passed.len(), "a section keeps the order of its records");
    let met = if views.is_empty() { Ok(Vec::new()) } else { asked.engine.met(&views) };
    let mut later: HashMap<(&[u8], &[u8], i64), Met, RandomState> = HashMap::default();
    for (at, (view, mut passed)) in views.iter().zip(passed).enumerate() {
        let one = foreseen.entry(passed.number).or_default();
        match &met {
            Ok(met) => {
                let key = (view.family.bytes, view.series_values, view.time_ns);
                let meets = later.get(&key).unwrap_or(&met[at]);
                let is_sent = one.refused.is_none();
                let then = one.meet(meets, view, &mut passed);
                // What the way in refuses, be it another record of the same text, leaves nothing behind.
                if let Some(then) = then.filter(|_| is_sent) {
                    later.insert(key, then);
                }
                if !asked.is_settled {
                    let why =
                        "writes that were acknowledged before are not executed yet: ask again";
                    one.unknown = Some(why.into());
                }
            }
            Err(error) => one.meet_unknown(error, &chosen[&passed.number], &mut passed),
        }
        one.versions.push(passed.version);
        if let Some(mut record) = passed.record {
            record.version = Some(passed.version);
            one.records.push(record);
        }
    }
    match met {
        Err(EngineError::Busy { what }) => Some(what),
        _ => None,
    }
}

impl Foreseen {
    /// Meets what stands; what would stand then.
    fn meet(&mut self, met: &Met, view: &RecordView<'_>, passed: &mut Passed) -> Option<Met> {
        if let (true, Met::Row(standing)) = (passed.is_next, met) {
            let readable = "values that were encoded here can be read";
            let (outcome, _) = met.then(view, standing.version).expect(readable);
            // The same is there already, as after a crash before the mark: nothing has to be above it.
            let is_there = outcome == Outcome::Unchanged;
            let next = standing.version.checked_add(i64::from(!is_there));
            let Some(next) = next else {
                self.refused.get_or_insert_with(|| none_above(standing.version));
                return None;
            };
            passed.version = next;
        }
        let foreseen = met.then(view, passed.version);
        let (outcome, then) = foreseen.expect("values that were encoded here can be read");
        if let Outcome::Rejected(why) = outcome
            && self.by_engine.is_none()
        {
            let mut told = Told::refused(&(why.reason, why.message));
            told.more["existing_version"] = why.existing_version.into();
            self.by_engine = Some(told);
        }
        Some(then)
    }

    /// Nobody can say what stands.
    fn meet_unknown(&mut self, error: &EngineError, rejected: &Rejected, passed: &mut Passed) {
        let cannot_be_asked = matches!(error, EngineError::Elsewhere { .. });
        let told = if cannot_be_asked {
            "this engine cannot be asked what stands; the way in would take it".into()
        } else {
            format!("the engine cannot be asked just now: {error}")
        };
        self.unknown = Some(told.into());
        if !passed.is_next {
            return;
        }
        if !cannot_be_asked {
            self.is_held_back = true;
            return;
        }
        match rejected.version_reported().map(|stood| (stood, stood.checked_add(1))) {
            Some((_, Some(next))) => passed.version = next,
            Some((stood, None)) => {
                self.refused.get_or_insert_with(|| none_above(stood));
            }
            None => {
                self.refused.get_or_insert_with(|| {
                    let message = "version=next: this engine cannot be asked what stands, and no refusal of \
                                   this rejection has told it; write a number";
                    (Reason::InvalidVersion, message.to_owned())
                });
            }
        }
    }
}

fn none_above(version: i64) -> Why {
    (Reason::InvalidVersion, format!("version=next: {version} stands, and {NONE_ABOVE}"))
}
