//! `doctor --bundle`: what somebody else needs to find out what is wrong, in one file, without a secret.
//!
//! | file | what |
//! |---|---|
//! | `doctor.json` | what was found |
//! | `settings.toml` | the settings in effect, secrets as `***` |
//! | `segments.txt` | what `wal ls` prints |
//! | `health.json`, `status.json`, `metrics.txt` | what the running server says, or why it says nothing |
//! | `system.txt` | version, kernel, processors, memory, mounts of our folders |
//!
//! Settings serialise without secrets. Beside that each text is searched for every secret that the settings
//! and the environment hold, and for credentials in URLs.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::client::{Access, Client, Secret};
use super::super::{Failure, health, wal};
use super::parts::{self, ANSWER_MAX};
use crate::base::clock::{Clock, SystemClock};
use crate::base::fs::replace;
use crate::config::Config;

/// The folder in the archive.
const FOLDER: &str = "tidegate-doctor";

/// Bytes of a header, and what contents are filled up to. Source: POSIX.1-2017, pax, "ustar Interchange
/// Format".
const BLOCK_BYTES: usize = 512;

/// Shorter secrets are words that stand anywhere.
const SECRET_BYTES_MIN: usize = 4;

/// Writes the file, as a whole or not at all; what stands there and is no file is written into.
///
/// # Errors
///
/// [`Failure::Usage`] for flags of `access` that cannot be used, [`Failure::Failed`] when the file cannot be
/// written.
pub(super) fn write(
    path: &Path,
    config: &Config,
    findings: String,
    access: &Access,
) -> Result<(), Failure> {
    let failed = |error| Failure::failed(format!("--bundle {}: {error}", path.display()));
    let told = |failure: Failure| failure.into_error().to_string();
    let mut texts = vec![
        ("doctor.json", findings),
        ("settings.toml", toml::to_string(config).map_err(Failure::failed)?),
        ("segments.txt", wal::segments(config).unwrap_or_else(told)),
        ("system.txt", system(config)),
    ];
    let Secret(authorization) = access.header()?;
    let address = health::ours(&config.server, &access.trust)?;
    let mut client = Client::impatient(address.clone(), ANSWER_MAX);
    for (name, target) in
        [("health.json", "/health"), ("status.json", "/api/v1/status"), ("metrics.txt", "/metrics")]
    {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{authorization}\r\n");
        let text = match client.exchange(request.as_bytes()) {
            Ok(reply) if reply.status == 200 => String::from_utf8_lossy(&reply.body).into_owned(),
            Ok(reply) => {
                format!("{}{target} answered {}: {}\n", address.url(), reply.status, reply.words())
            }
            Err(error) => format!("{}{target}: {error}\n", address.url()),
        };
        texts.push((name, text));
    }
    let secrets = secrets(config);
    let modified = u64::try_from(SystemClock::new().wall_ns() / 1_000_000_000).unwrap_or_default();
    let mut tar = Vec::new();
    for (name, text) in texts {
        let text = without_credentials(&hidden(config, &secrets, text));
        put(&mut tar, &format!("{FOLDER}/{name}"), (text.as_bytes(), modified));
    }
    // Two empty blocks are the end.
    tar.resize(tar.len() + 2 * BLOCK_BYTES, 0);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let packed = gzip.write_all(&tar).and_then(|()| gzip.finish()).map_err(failed)?;
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        // A device, a pipe, or a link such as /dev/stdout: a new file in its place would end it for everybody.
        let mut open =
            fs::OpenOptions::new().write(true).truncate(true).open(path).map_err(failed)?;
        return open.write_all(&packed).map_err(failed);
    }
    replace(path, &packed).map_err(failed)
}

/// Adds a file to an archive.
fn put(tar: &mut Vec<u8>, name: &str, (content, modified): (&[u8], u64)) {
    let mut header = [0_u8; BLOCK_BYTES];
    let mut field = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    field(0, name);
    field(100, "0000644\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &format!("{:011o}\0", content.len()));
    field(136, &format!("{modified:011o}\0"));
    // The checksum counts itself as blanks.
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(BLOCK_BYTES), 0);
}

/// What stands in files and variables for secrets.
fn secrets(config: &Config) -> Vec<String> {
    let is_secret =
        |name: &str| ["SECRET", "PASSWORD", "TOKEN"].iter().any(|word| name.contains(word));
    let of_files =
        parts::secret_files(config).into_iter().filter_map(|path| fs::read_to_string(path).ok());
    let of_variables = std::env::vars_os()
        .filter(|(name, _)| is_secret(&name.to_string_lossy().to_uppercase()))
        .map(|(_, value)| value.to_string_lossy().into_owned());
    let texts = of_files.chain(of_variables).map(|text| text.trim().to_owned());
    texts.filter(|text| text.len() >= SECRET_BYTES_MIN).collect()
}

fn hidden(config: &Config, secrets: &[String], text: String) -> String {
    let text = secrets.iter().fold(text, |text, secret| text.replace(secret, "***"));
    config.auth.secrets().fold(text, |text, secret| secret.hidden_in(&text))
}

/// A text whose URLs have no names and passwords before their hosts.
fn without_credentials(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        kept.push_str(before);
        kept.push_str("://");
        let end =
            after.find(|c: char| c.is_whitespace() || "/\"'<>".contains(c)).unwrap_or(after.len());
        let host = after[..end].rfind('@').map_or(0, |at| at + 1);
        if host > 0 {
            kept.push_str("***@");
        }
        rest = &after[host..];
    }
    kept + rest
}

/// The machine, as far as it matters.
fn system(config: &Config) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
    let memory = read("/proc/meminfo");
    let memory: Vec<&str> = memory.lines().take(3).collect();
    let memory = memory.join("\n");
    let mounts = [&config.data_dir, &config.wal.dir].map(|dir| {
        format!("{} on {}\n", dir.display(), super::disk::kind_of(dir).unwrap_or_default())
    });
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "tidegate {}\n{}processors {processors}\n{memory}\n{}",
        env!("CARGO_PKG_VERSION"),
        read("/proc/version"),
        mounts.concat()
    )
}

/// Whether a file may be written there, before anything is looked at.
///
/// # Errors
///
/// [`Failure::Usage`] when there is no such folder.
pub(super) fn is_place(path: &Path) -> Result<(), Failure> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    let (path_text, folder_text) = (path.display(), folder.display());
    if path.is_dir() {
        return Err(Failure::usage(format!(
            "--bundle {path_text}: it is a folder; name a file in it"
        )));
    }
    if !folder.is_dir() {
        return Err(Failure::usage(format!(
            "--bundle {path_text}: there is no folder {folder_text}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_credentials_and_nothing_else() {
        for (text, kept) in [
            ("endpoint = \"http://ada:pw@host:1/x\" y", "endpoint = \"http://***@host:1/x\" y"),
            ("http://host/a@b and https://u@h", "http://host/a@b and https://***@h"),
            ("mail a@b", "mail a@b"),
            ("s3://", "s3://"),
        ] {
            assert_eq!(without_credentials(text), kept);
        }
    }
}
