//! One writer: new records, updates, repeats and conflicts, over every way in, as fast as it can.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tidegate::base::clock::{Clock, SystemClock};

use super::ledger::{Effects, Ledger};
use crate::common::client::{Client, Reply};
use crate::common::random::Random;
use crate::common::rows::{Key, Row, Value};

/// The database of the test.
pub(crate) const DATABASE: &str = "fleet";

/// New records of a writer in one cycle; what is read back after each crash stays bounded.
const NEW_RECORDS_MAX: u32 = 1_500;

/// Most records of a request.
const BATCH_RECORDS_MAX: u64 = 500;

/// Records that are written over and over with large values, to turn the log's segments over.
const BULK_RECORDS: i64 = 6;

/// Of 100 requests, how many are such ones, of the first writer and of the others.
const BULK_OF_100: (u64, u64) = (60, 4);

/// How durable a write may ask to be; nothing where it takes what the server is set to.
pub(crate) type Levels = &'static [Option<&'static str>];

/// 2026-11-01T00:00:00Z.
const TIME_BASE_NS: i64 = 1_793_491_200_000_000_000;
const DAY_NS: i64 = 86_400_000_000_000;

/// Pause after a "busy".
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// A writer of its own series.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) name: String,
    pub(crate) ledger: Ledger,
    generation: u32,
    random: Random,
    bulk_of_100: u64,
    levels: Levels,
    /// Keys in the order in which they were first sent.
    keys: Vec<Key>,
    /// Numbers times and conflicts.
    count: u32,
    new_left: u32,
    /// The request that was not answered, to be sent again.
    unanswered: Option<Request>,
}

/// A record as it is sent: all of a row, or a part of it.
#[derive(Debug, Clone)]
struct Sent {
    key: Key,
    version: i64,
    fields: BTreeMap<String, Value>,
}

/// A request before it becomes text.
#[derive(Debug, Clone, Default)]
struct Request {
    sent: Vec<Sent>,
    effects: Effects,
}

impl Request {
    fn change(&mut self, key: &Key, version: i64, fields: BTreeMap<String, Value>, after: Row) {
        self.sent.push(Sent { key: key.clone(), version, fields });
        self.effects.rows.push((key.clone(), after));
    }
}

impl Writer {
    /// Writer `number` of a generation, which shares its tables; each request asks for one of `levels`.
    pub(crate) fn new(number: usize, generation: u32, levels: Levels, random: Random) -> Self {
        let (first, others) = BULK_OF_100;
        Self {
            name: format!("w{number}"),
            bulk_of_100: if number == 0 { first } else { others },
            levels,
            ledger: Ledger::default(),
            generation,
            random,
            keys: Vec::new(),
            count: 0,
            new_left: 0,
            unanswered: None,
        }
    }

    /// Writes until the connection breaks. Counts what was acknowledged in `acknowledged`.
    ///
    /// Anything but success and "busy" is a failure of the test: nothing it sends is wrong.
    pub(crate) fn run(&mut self, address: SocketAddr, acknowledged: &AtomicU64) {
        let clock = SystemClock::new();
        let mut client = Client::new(address);
        self.new_left = NEW_RECORDS_MAX;
        loop {
            let request = match self.unanswered.take() {
                // A client that keeps its data sends again what was not answered.
                Some(request) if self.random.is_one_of(80) => request,
                _ => self.plan(),
            };
            self.ledger.send(request.effects.clone());
            let way = Way::random(self.levels, &mut self.random);
            let body = way.body(&request.sent);
            let reply = loop {
                match way.post(&mut client, &body) {
                    Ok(reply) if reply.status == 503 => clock.sleep(BUSY_PAUSE),
                    Ok(reply) => break reply,
                    Err(_broken) => {
                        self.unanswered = Some(request);
                        return;
                    }
                }
            };
            way.assert_taken(&reply, &request);
            self.ledger.acknowledge();
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn plan(&mut self) -> Request {
        if self.random.is_one_of(self.bulk_of_100) {
            return self.plan_bulk();
        }
        let most = *self.random.pick(&[2, 2, 20, 20, BATCH_RECORDS_MAX + 1]);
        let records = self.random.within(1..most);
        let mut request = Request::default();
        let mut used = HashSet::new();
        for _ in 0..records {
            let chance = self.random.within(0..100);
            if self.new_left > 0 && (chance < 60 || self.keys.is_empty()) {
                self.new_left -= 1;
                let key = self.new_key();
                used.insert(key.clone());
                self.create(&key, &mut request);
            } else if let Some(key) = self.known_key(&mut used) {
                self.touch(&key, chance, &mut request);
            }
        }
        if request.sent.is_empty() { self.plan_bulk() } else { request }
    }

    /// A key that stands and is not in the request yet.
    fn known_key(&mut self, used: &mut HashSet<Key>) -> Option<Key> {
        if self.keys.is_empty() {
            return None;
        }
        let key = self.random.pick(&self.keys).clone();
        // A key whose first request got lost in a crash does not stand.
        let is_free = self.ledger.stands().contains_key(&key) && used.insert(key.clone());
        is_free.then_some(key)
    }

    fn new_key(&mut self) -> Key {
        self.count += 1;
        // One in ten is late: another day, another Parquet file.
        let day = if self.random.is_one_of(90) { 3 } else { self.random.within(0..3) };
        let day_ns = i64::try_from(day).expect("a small number") * DAY_NS;
        let host = format!("host {},rack=ü", self.random.within(0..20));
        let mut tags = self.tags();
        tags.insert("host".to_owned(), host);
        let time_ns = TIME_BASE_NS + day_ns + i64::from(self.count) * 1_000_003;
        let key = Key { measurement: format!("fleet_{}", self.generation), tags, time_ns };
        self.keys.push(key.clone());
        key
    }

    fn tags(&self) -> BTreeMap<String, String> {
        [("writer".to_owned(), self.name.clone())].into()
    }

    fn create(&mut self, key: &Key, request: &mut Request) {
        let fields = self.fields();
        let after = Row { version: 1, fields: fields.clone() };
        if self.random.is_one_of(10) {
            // The fields of one moment spread over two lines, as agents send them.
            let (first, second) = fields.into_iter().partition(|(name, _)| name.as_str() < "i");
            request.sent.push(Sent { key: key.clone(), version: 1, fields: first });
            request.change(key, 1, second, after);
        } else {
            request.change(key, 1, fields, after);
        }
    }

    /// Writes to a record that stands: an update, one more field, a repeat, or a conflict.
    fn touch(&mut self, key: &Key, chance: u64, request: &mut Request) {
        let stands = self.ledger.stands()[key].clone();
        let mut after = stands.clone();
        let fields = match chance % 10 {
            0..5 => {
                after.version += i64::try_from(self.random.within(1..4)).expect("a small number");
                let mut fields = self.fields();
                fields.retain(|_, _| self.random.is_one_of(50));
                fields.insert("f".to_owned(), self.double());
                fields
            }
            5..7 => {
                let name = format!("x{}", self.random.within(0..10));
                let value = Value::Bigint(self.random.next().cast_signed());
                [(name, value)]
                    .into_iter()
                    .filter(|(n, _)| !stands.fields.contains_key(n))
                    .collect()
            }
            7..9 => stands.fields.clone(),
            _ => return self.conflict(key, &stands, request),
        };
        if fields.is_empty() {
            return;
        }
        after.fields.extend(fields.clone());
        request.change(key, after.version, fields, after);
    }

    /// Another value at the version that stands, or any value at a lower one: it is acknowledged, since
    /// the log has it, and ends in the reject sink.
    fn conflict(&mut self, key: &Key, stands: &Row, request: &mut Request) {
        self.count += 1;
        let text = format!("conflict {}-{}-{}", self.generation, self.name, self.count);
        let lower = stands.version > 1 && self.random.is_one_of(50);
        let version = stands.version - i64::from(lower);
        let fields = [("s".to_owned(), Value::Varchar(text.clone()))].into();
        request.change(key, version, fields, stands.clone());
        request.effects.conflicts.push(text);
    }

    fn plan_bulk(&mut self) -> Request {
        let mut request = Request::default();
        for number in 0..BULK_RECORDS {
            if request.sent.is_empty() || self.random.is_one_of(50) {
                let measurement = format!("bulk_{}", self.generation);
                let time_ns = TIME_BASE_NS + number;
                let key = Key { measurement, tags: self.tags(), time_ns };
                let version = self.ledger.stands().get(&key).map_or(1, |row| row.version + 1);
                let seed = self.random.next();
                let bytes = self.random.within(1 << 14..1 << 20);
                let fields: BTreeMap<_, _> = [("blob".to_owned(), blob(seed, bytes))].into();
                request.change(&key, version, fields.clone(), Row { version, fields });
            }
        }
        request
    }

    /// A value of every type.
    fn fields(&mut self) -> BTreeMap<String, Value> {
        let integers = [i64::MIN, i64::MAX, 0, -1, self.random.next().cast_signed()];
        let texts = ["", "plain", "a \"quoted\" \\ text, with = and ü", "two\nlines"];
        let text = format!("{}{}", self.random.pick(&texts), self.random.within(0..50));
        [
            ("b".to_owned(), Value::Boolean(self.random.is_one_of(50))),
            ("f".to_owned(), self.double()),
            ("i".to_owned(), Value::Bigint(*self.random.pick(&integers))),
            ("s".to_owned(), Value::Varchar(text)),
            ("t".to_owned(), self.double()),
        ]
        .into()
    }

    fn double(&mut self) -> Value {
        let any = f64::from_bits(self.random.next());
        let choices = [0.0, -0.0, 1.0, 21.5, f64::MAX, f64::MIN_POSITIVE, 0.1, any];
        let picked = *self.random.pick(&choices);
        Value::Double(if picked.is_finite() { picked } else { 1e-300 })
    }
}

/// Text that a compressor cannot shrink and a reader can recognise.
fn blob(seed: u64, bytes: u64) -> Value {
    let mut random = Random::new(seed);
    let mut text = format!("{seed:016x}");
    while (text.len() as u64) < bytes {
        write!(text, "{:016x}", random.next()).expect("a string takes all");
    }
    Value::Varchar(text)
}

/// A way in: a protocol, and how durable the write shall be.
struct Way {
    protocol: Protocol,
    durability: Option<&'static str>,
}

#[derive(Clone, Copy)]
enum Protocol {
    V1,
    V2,
    V3,
    Json,
    JsonLines,
}

impl Way {
    fn random(levels: Levels, random: &mut Random) -> Self {
        use Protocol::{Json, JsonLines, V1, V2, V3};
        Self {
            protocol: *random.pick(&[V1, V2, V3, Json, JsonLines]),
            durability: *random.pick(levels),
        }
    }

    fn body(&self, sent: &[Sent]) -> Vec<u8> {
        let mut body = String::new();
        match self.protocol {
            Protocol::V1 | Protocol::V2 | Protocol::V3 => {
                for one in sent {
                    line(one, &mut body);
                }
            }
            Protocol::Json => {
                let all: Vec<_> = sent.iter().map(object).collect();
                body = serde_json::Value::from(all).to_string();
            }
            Protocol::JsonLines => {
                for one in sent {
                    writeln!(body, "{}", object(one)).expect("a string takes all");
                }
            }
        }
        body.into_bytes()
    }

    fn post(&self, client: &mut Client, body: &[u8]) -> std::io::Result<Reply> {
        let (target, content_type) = match self.protocol {
            Protocol::V1 => ("/write?db=fleet&precision=n", "text/plain"),
            Protocol::V2 => ("/api/v2/write?bucket=fleet&org=o&precision=ns", "text/plain"),
            Protocol::V3 => ("/api/v3/write_lp?db=fleet&precision=nanosecond", "text/plain"),
            Protocol::Json => ("/api/v1/write?db=fleet&precision=ns", "application/json"),
            Protocol::JsonLines => ("/api/v1/write?db=fleet&precision=ns", "application/x-ndjson"),
        };
        let mut headers = vec![("Content-Type", content_type)];
        headers.extend(self.durability.map(|level| ("X-Tidegate-Durability", level)));
        client.post(target, &headers, body)
    }

    /// The reply takes every record; one that waited for the engine names the conflicts besides.
    fn assert_taken(&self, reply: &Reply, request: &Request) {
        let is_applied = self.durability == Some("applied");
        let rejected = if is_applied { request.effects.conflicts.len() } else { 0 };
        let taken = request.sent.len() - rejected;
        if matches!(self.protocol, Protocol::Json | Protocol::JsonLines) {
            let receipt = reply.json();
            assert_eq!(reply.status, if taken > 0 { 200 } else { 400 }, "{}", reply.text());
            assert_eq!(receipt["accepted"], taken, "{}", reply.text());
            assert_eq!(receipt["rejected_count"], rejected, "{}", reply.text());
        } else if rejected == 0 {
            assert_eq!(reply.status, 204, "{}", reply.text());
        } else {
            assert_eq!(reply.status, 400, "{}", reply.text());
            assert_eq!(reply.json()["rejections"]["count"], rejected, "{}", reply.text());
        }
        if let Some(level) = self.durability {
            assert_eq!(reply.header("x-tidegate-durability"), Some(level));
        }
    }
}

fn line(sent: &Sent, out: &mut String) {
    out.push_str(&sent.key.measurement);
    for (name, value) in &sent.key.tags {
        let value = value.replace(' ', "\\ ").replace(',', "\\,").replace('=', "\\=");
        write!(out, ",{name}={value}").expect("a string takes all");
    }
    let mut separator = ' ';
    for (name, value) in &sent.fields {
        write!(out, "{separator}{name}=").expect("a string takes all");
        separator = ',';
        match value {
            Value::Double(value) => write!(out, "{value:?}"),
            Value::Bigint(value) => write!(out, "{value}i"),
            Value::Boolean(value) => write!(out, "{value}"),
            Value::Varchar(text) => {
                write!(out, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            }
        }
        .expect("a string takes all");
    }
    if sent.version > 1 {
        write!(out, ",_version={}i", sent.version).expect("a string takes all");
    }
    writeln!(out, " {}", sent.key.time_ns).expect("a string takes all");
}

fn object(sent: &Sent) -> serde_json::Value {
    let field = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::Double(value) => json!(value),
            Value::Bigint(value) => json!(value),
            Value::Boolean(value) => json!(value),
            Value::Varchar(text) => json!(text),
        };
        (name.clone(), value)
    };
    let fields: serde_json::Map<_, _> = sent.fields.iter().map(field).collect();
    let mut object = json!({
        "measurement": sent.key.measurement,
        "tags": sent.key.tags,
        "fields": fields,
        "timestamp": sent.key.time_ns,
    });
    if sent.version > 1 {
        object["version"] = sent.version.into();
    }
    object
}
