//! `tidegate rejects resubmit`: asks a server to send rejections again, page by page.

use std::io::{self, Write as _};

use serde_json::{Map, Value, json};

use super::source::Server;
use super::tally::{Run, Tally};
use super::{ResubmitArgs, ids};
use crate::cli::client::Address;
use crate::cli::out::print;
use crate::cli::{Failure, SettingsArgs, health};
use crate::server::Interrupts;

/// Rejections that one request sends again: few enough for a server's limit of time.
const SENT_AT_ONCE: usize = 200;

/// The requests of a command, one after the other.
struct Pages<'a> {
    server: Server,
    request: Map<String, Value>,
    left: Left<'a>,
}

/// What is still to be asked for.
enum Left<'a> {
    /// These.
    Ids(&'a [String]),
    /// What the filter finds from here on.
    Filter(Map<String, Value>),
    Nothing,
}

pub(super) fn run(args: &ResubmitArgs, settings: &SettingsArgs) -> Result<(), Failure> {
    ids(&args.ids)?;
    let parts = args.filter.parts();
    if !args.all && !parts.is_empty() {
        let right = if args.ids.is_empty() { "add --all" } else { "leave them out beside IDs" };
        return Err(Failure::usage(format!("filters choose among --all: {right}")));
    }
    if !args.all && args.ids.is_empty() {
        return Err(Failure::usage(
            "nothing to send: name rejections by their numbers, as rejects ls shows them, or give --all for every \
             open one that the filters leave",
        ));
    }
    let config = settings.load(Vec::new())?;
    let trust = &args.remote.access.trust;
    let address = match &args.remote.url {
        Some(url) => Address::parse("--url", url, trust)?,
        None => health::ours(&config.server, trust)?,
    };
    let mut filter: Map<String, Value> =
        parts.into_iter().map(|(name, part)| (name.to_owned(), part.into())).collect();
    filter.insert("limit".into(), SENT_AT_ONCE.into());
    let left = if args.all { Left::Filter(filter) } else { Left::Ids(&args.ids) };
    let server = Server::new(address, &args.remote)?;
    let pages = Pages { server, request: request(args)?, left };
    pages.send(if args.dry_run { Run::Dry } else { Run::Real })
}

/// What is the same in each request.
fn request(args: &ResubmitArgs) -> Result<Map<String, Value>, Failure> {
    let mut request = Map::new();
    request.insert("set".into(), set(&args.set)?);
    request.insert("dry_run".into(), args.dry_run.into());
    if args.again {
        request.insert("again".into(), true.into());
    }
    let format = args.json.as_ref().map(|_| "json".to_owned()).or(args.text_format.clone());
    let texts = [("line", args.text()?), ("precision", args.precision.clone()), ("format", format)];
    for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text?))) {
        request.insert(name.into(), text.into());
    }
    Ok(request)
}

impl Pages<'_> {
    /// Sends all of them, or as many as it goes on for; says of all what became of them, however it ends.
    fn send(mut self, is: Run) -> Result<(), Failure> {
        let interrupts = Interrupts::listen("ending with the request under way");
        let interrupts = interrupts.map_err(Failure::failed)?;
        let mut tally = Tally::new(is);
        while let Some(answer) = self.next(&tally)? {
            tally.told(&answer)?;
            self.go_on(&answer);
            let is_last = matches!(self.left, Left::Nothing);
            if let Some(why) = answer["stopped"].as_str() {
                let more = if is_last { "" } else { ", and there are more behind these" };
                return stopped(&tally, (why, more));
            }
            if let Some(signal) = interrupts.heard().filter(|_| !is_last) {
                let told = tally.counts() + "; the others were not sent";
                return Err(Failure::Interrupted { signal, told });
            }
            if !is_last {
                // A second signal ends at once, and standard error may be closed.
                drop(writeln!(io::stderr(), "so far: {}", tally.counts()));
            }
        }
        tally.end()
    }

    /// The answer to the next request, if there is one.
    fn next(&mut self, tally: &Tally) -> Result<Option<Value>, Failure> {
        match &self.left {
            Left::Nothing => return Ok(None),
            Left::Ids(left) => {
                let some = &left[..left.len().min(SENT_AT_ONCE)];
                self.request.insert("ids".into(), json!(some));
            }
            Left::Filter(filter) => {
                self.request.insert("filter".into(), filter.clone().into());
            }
        }
        let answer = self.server.resubmit(&self.request);
        if answer.is_err() {
            let unheard = "what became of the last request nobody has said: the same command again tells, and \
                           sends what is left";
            print(&format!("so far: {}; {unheard}\n", tally.counts()))?;
        }
        answer.map(Some)
    }

    /// Leaves what was answered behind.
    fn go_on(&mut self, answer: &Value) {
        match &mut self.left {
            Left::Nothing => {}
            Left::Ids(left) => {
                *left = left.get(SENT_AT_ONCE..).unwrap_or_default();
                if left.is_empty() {
                    self.left = Left::Nothing;
                }
            }
            // Those that stay open are behind the mark, and do not come again.
            Left::Filter(filter) => match &answer["next"] {
                Value::Null => self.left = Left::Nothing,
                next => drop(filter.insert("after".into(), next.clone())),
            },
        }
    }
}

/// Ends where the server says that it is better not to go on.
fn stopped(tally: &Tally, (why, more): (&str, &str)) -> Result<(), Failure> {
    let done = if tally.is() == Run::Dry { "looked at" } else { "sent" };
    tally.end().map_err(|failure| {
        Failure::failed(format!(
            "{}. Nothing more was {done}{more}: {why}. Give the same command again when that is mended",
            failure.into_error()
        ))
    })
}

impl ResubmitArgs {
    /// The text that is given, whichever way.
    fn text(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.line_file else {
            return Ok(self.line.clone().or_else(|| self.json.clone()));
        };
        let read = if path.as_os_str() == "-" {
            io::read_to_string(io::stdin())
        } else {
            std::fs::read_to_string(path)
        };
        let told = |error| Failure::usage(format!("--line-file {}: {error}", path.display()));
        // The end of the file is none of the text.
        read.map(|text| Some(text.trim_end_matches('\n').to_owned())).map_err(told)
    }
}

/// What is set, by name.
fn set(pairs: &[String]) -> Result<Value, Failure> {
    let mut set = Map::new();
    for pair in pairs {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--set {pair}: write KEY=VALUE, as in version=next"))
        })?;
        if set.insert(key.to_owned(), value.into()).is_some() {
            return Err(Failure::usage(format!("--set {key}: it stands twice")));
        }
    }
    Ok(set.into())
}
