//! What the server needs besides its disk: files with secrets, the engine, the reject sink, its port.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};

use super::super::client::{Client, Trust};
use super::super::selftest::existing;
use super::super::{Failure, chain, health};
use super::{Finding, folder_of};
use crate::base::clock::{Clock, SystemClock};
use crate::base::identity;
use crate::config::Config;
use crate::engine::catalog::Catalog;
use crate::engine::{EngineError, Kind, postgres, timestream};
use crate::http;
use crate::http::tls::Material;
use crate::object::Store;
use crate::reject::claim::{self, Found, Taken};

/// What a file of the settings holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Secret,
    Certificate,
}

/// Longest wait for whoever has the port: a program of another kind may say nothing.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// From so many days on a certificate should have been renewed.
const EXPIRES_SOON_DAYS: i64 = 14;

const SECONDS_PER_DAY: i64 = 86_400;

/// Bits of a file's mode that let others than its owner and group read it.
const OTHERS_READ: u32 = 0o004;

pub(super) fn files(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, path, content) in named(config) {
        findings.push(file(&key, &path, content));
    }
    // One that cannot be used is among the settings' contradictions.
    if let Ok(Some(material)) = Material::load(&config.server.tls) {
        findings.push(certificate(material.expires_seconds, SystemClock::new().wall_ns()));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("files", "the settings name no certificate and no secret"));
    }
    findings
}

/// How long the server's certificate, or one that it came by, is good for.
pub(super) fn certificate(expires_seconds: i64, now_ns: i64) -> Finding {
    let days = (expires_seconds - now_ns / 1_000_000_000).div_euclid(SECONDS_PER_DAY);
    let remedy = "renew it: the server takes the new file by itself, or on SIGHUP";
    match days {
        ..0 => Finding::fault("certificate", ("it has expired: clients refuse it", remedy)),
        0..EXPIRES_SOON_DAYS => {
            Finding::warning("certificate", (format!("it expires in {days} days"), remedy))
        }
        _ => Finding::ok("certificate", format!("it expires in {days} days")),
    }
}

/// Each file that the settings name, with its key.
fn named(config: &Config) -> Vec<(String, PathBuf, Content)> {
    let mut named = Vec::new();
    let mut put = |key: String, path: &Path, content| {
        if !path.as_os_str().is_empty() {
            named.push((key, path.to_owned(), content));
        }
    };
    let (tls, auth) = (&config.server.tls, &config.auth);
    put("server.tls.cert_file".into(), &tls.cert_file, Content::Certificate);
    put("server.tls.key_file".into(), &tls.key_file, Content::Secret);
    put("server.tls.client_ca_file".into(), &tls.client_ca_file, Content::Certificate);
    for (list, file) in [
        (
            "auth.tokens",
            auth.tokens.iter().map(|token| token.token_file.as_ref()).collect::<Vec<_>>(),
        ),
        ("auth.users", auth.users.iter().map(|user| user.password_file.as_ref()).collect()),
        ("auth.access_keys", auth.access_keys.iter().map(|key| key.secret_file.as_ref()).collect()),
    ] {
        for path in file.into_iter().flatten() {
            put(list.to_owned(), path, Content::Secret);
        }
    }
    put(
        "object.secret_access_key_file".into(),
        &config.object.secret_access_key_file,
        Content::Secret,
    );
    match config.engine.kind {
        Kind::Embedded => {}
        Kind::Postgres => {
            let postgres = &config.engine.postgres;
            put("engine.postgres.password_file".into(), &postgres.password_file, Content::Secret);
            put("engine.postgres.ca_file".into(), &postgres.ca_file, Content::Certificate);
        }
        Kind::Timestream => {
            let path = &config.engine.timestream.secret_key_file;
            put("engine.timestream.secret_key_file".into(), path, Content::Secret);
        }
    }
    named
}

/// The files that hold secrets.
pub(super) fn secret_files(config: &Config) -> Vec<PathBuf> {
    let secret = named(config).into_iter().filter(|(_, _, content)| *content == Content::Secret);
    secret.map(|(_, path, _)| path).collect()
}

fn file(key: &str, path: &Path, content: Content) -> Finding {
    let place = format!("{key} = {}", path.display());
    let mut begin = [0];
    let read = File::open(path).and_then(|mut file| file.read(&mut begin));
    match read {
        Err(error) => {
            let remedy = "put the file there, readable by the user that runs Tidegate";
            return Finding::fault("files", (format!("{place} cannot be read: {error}"), remedy));
        }
        Ok(0) => return Finding::fault("files", (format!("{place} is empty"), "fill it")),
        Ok(_) => {}
    }
    let mode = fs::metadata(path).map(|metadata| metadata.mode()).unwrap_or_default();
    if content == Content::Secret && mode & OTHERS_READ != 0 {
        let found = format!("{place} can be read by everybody on this machine");
        return Finding::warning("files", (found, "chmod o-r"));
    }
    Finding::ok("files", format!("{place} can be read"))
}

pub(super) fn engine(config: &Config) -> Finding {
    let options = &config.engine;
    let (found, remedy) = match options.kind {
        Kind::Embedded => {
            return Finding::ok("engine", "embedded: this process, and its tables' folder");
        }
        Kind::Postgres => (
            postgres::probe(&options.postgres, SystemClock::shared())
                .map(|version| format!("{} at {}", version, options.postgres.address())),
            "writes are acknowledged and wait in the log meanwhile; see engine.postgres and the server's log",
        ),
        Kind::Timestream => (
            timestream::probe(&options.timestream),
            "writes are acknowledged and wait in the log meanwhile; see engine.timestream and the \
             credentials",
        ),
    };
    match found {
        Ok(found) => Finding::ok("engine", found),
        // What the engine is busy with is why it does not answer.
        Err(EngineError::Busy { what }) => Finding::fault("engine", (shortened(&what), remedy)),
        Err(error) => Finding::fault("engine", (shortened(&chain(&error)), remedy)),
    }
}

pub(super) fn sink(config: &Config) -> Finding {
    let url = &config.rejects.url;
    if let Some(folder) = folder_of(url) {
        match fs::metadata(folder) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                let remedy = "name a folder in rejects.url, or move the file away";
                let found = format!("{url} is a file and no folder");
                return Finding::fault("reject sink", (found, remedy));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return missing_sink(config, folder);
            }
            Err(error) => {
                let remedy = "name a folder in rejects.url that the user that runs Tidegate may read and write";
                let found = format!("{url} cannot be looked at: {error}");
                return Finding::fault("reject sink", (found, remedy));
            }
        }
    }
    match try_sink(config) {
        Ok(finding) => finding,
        Err(why) => {
            let remedy = "give the credentials the right to put and delete, or name another in rejects.url: \
                          while it is away the log keeps what was refused, and grows";
            Finding::fault("reject sink", (format!("{url}: {why}"), remedy))
        }
    }
}

/// A folder that is not there: a start makes one, if it can. Where there was a start before, one was made, and
/// lies elsewhere.
fn missing_sink(config: &Config, folder: &Path) -> Finding {
    let place = folder.display();
    let above = existing(folder);
    if let Err(error) = access(above, Access::WRITE_OK | Access::EXEC_OK) {
        let found =
            format!("{place} is not there, and cannot be made in {}: {error}", above.display());
        let remedy = "give the user that runs Tidegate the right to write there, or name another in rejects.url";
        return Finding::fault("reject sink", (found, remedy));
    }
    let data = config.data_dir.display();
    match Catalog::is_begun(&config.data_dir) {
        Ok(false) => Finding::ok("reject sink", format!("{place} is made by the first start")),
        Ok(true) => {
            let found = format!(
                "{place} is not there, and {data} was served from before: what was refused then lies elsewhere, \
                 or is lost; a start makes an empty one"
            );
            let remedy = "mount or restore the folder, or point rejects.url at where it lies";
            Finding::warning("reject sink", (found, remedy))
        }
        Err(error) => {
            let found =
                format!("{place} is not there, and whether it was before is unknown: {error}");
            Finding::warning("reject sink", (found, "make the data folder readable"))
        }
    }
}

/// Writes an object and removes it, unless the sink is another gateway's.
fn try_sink(config: &Config) -> Result<Finding, String> {
    let told = |error| shortened(&chain(&error));
    let store = Store::open(&config.rejects.url, &config.object).map_err(told)?;
    let own = identity::known(&config.data_dir).map_err(|error| {
        format!("{}: {error}", config.data_dir.join(identity::FILE_NAME).display())
    })?;
    let other = match claim::look(&store).map_err(told)? {
        Found::Owner(owner) if own.as_ref() != Some(&owner.gateway) => Some(Taken::Another(owner)),
        Found::Unreadable(why) => Some(Taken::Unreadable(why)),
        Found::Owner(_) | Found::Nobody => None,
    };
    if let Some(taken) = other {
        return Ok(of_another(store.place(), &taken));
    }
    let key = format!("tidegate-doctor-{}", std::process::id());
    store.put(&key, b"{}".to_vec()).map_err(told)?;
    store.delete(&key).map_err(told)?;
    let place = store.place();
    Ok(Finding::ok("reject sink", format!("{place} takes objects and lets them go")))
}

fn of_another(place: &str, taken: &Taken) -> Finding {
    // Words and remedy are those of the start that is refused.
    let told = taken.to_string();
    let (found, remedy) =
        told.split_once(": ").unwrap_or((&told, "give rejects.url a prefix of its own"));
    Finding::fault("reject sink", (format!("{place}: {found}"), remedy))
}

/// The begin of what a client says, who may repeat each of its layers.
fn shortened(text: &str) -> String {
    const CHARS: usize = 300;
    match text.char_indices().nth(CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} …", &text[..end]),
    }
}

pub(super) fn port(options: &http::Options) -> Finding {
    let listen = options.listen;
    let Err(error) = TcpListener::bind(listen) else {
        return Finding::ok("port", format!("{listen} is free"));
    };
    if error.kind() != io::ErrorKind::AddrInUse {
        let remedy =
            "write an address of this machine in server.listen, and a port that the user may have";
        return Finding::fault("port", (format!("{listen}: {error}"), remedy));
    }
    match asked(options) {
        Ok(said) => Finding::ok("port", format!("a Tidegate answers at {listen} already: {said}")),
        // Whoever asks for a certificate is not told what doctor has none for.
        Err(why) if !options.tls.client_ca_file.as_os_str().is_empty() => {
            let found = format!("{listen} is taken, and who it is cannot be asked ({why})");
            Finding::warning("port", (found, "make sure that it is this Tidegate"))
        }
        Err(why) => {
            let found = format!("{listen} is taken by another program ({why})");
            Finding::fault("port", (found, "stop it, or write another port in server.listen"))
        }
    }
}

/// What the Tidegate says that listens there.
fn asked(options: &http::Options) -> Result<String, String> {
    let told = |failure: Failure| failure.into_error().to_string();
    let address = health::own(options, &Trust::default()).map_err(told)?;
    let mut client = Client::impatient(address, ANSWER_MAX);
    let reply = client.get("/health").map_err(|error| error.to_string())?;
    let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    // InfluxDB answers in the same shape, and has no log of ours among its checks.
    let is_ours = answer["checks"]
        .as_array()
        .is_some_and(|checks| checks.iter().any(|check| check["name"] == "wal"));
    if !is_ours {
        return Err("it does not answer as a Tidegate".to_owned());
    }
    Ok(answer["message"].as_str().unwrap_or_default().to_owned())
}
