//! `tidegate demo`: the promise, seen in 20 seconds.
//!
//! A server of the same binary, in a folder of its own; a simulated fleet that writes to it; `kill -9` in
//! the middle of that; a start that reads the log; and then every record that was ever acknowledged is
//! looked for. At last a record that cannot be stored: where it is kept, and how it is mended.
//!
//! | file | what |
//! |---|---|
//! | `server` | the server as a child process, which dies with this one |
//! | `fleet` | the devices, and what each was told |
//! | `count` | what is there, against what each device was told |

mod count;
mod fleet;
mod server;

use std::fs;
use std::io::{self, IsTerminal, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::{Address, Client, Reply};
use super::doctor::disk::kind_of;
use super::out::{self, say};
use super::{Broken, Failure, SettingsArgs, interrupted, serve};
use crate::base::clock::{Clock, SystemClock};
use crate::server::Interrupts;
use count::Count;
use fleet::Fleet;
use server::Child;

pub(super) use server::{die_with_parent, program};

/// What stands below `demo --help`.
pub const EXAMPLES: &str = "Examples:
  tidegate demo
  tidegate demo --seconds 60 --devices 10000 --keep

Needs some hundred MiB in the temporary folder (TMPDIR), which must lie on ext4 or XFS, and removes what
it made there, also when it is interrupted. Exit code 1 when anything that was acknowledged is missing.";

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How long the fleet writes, 4 to 300; kill, start and count come on top.
    #[arg(long, value_name = "N", default_value_t = 12,
        value_parser = clap::value_parser!(u64).range(4..=300))]
    seconds: u64,
    /// Simulated devices, each with ten records a second; 4 to 20000.
    #[arg(long, value_name = "N", default_value_t = 2000,
        value_parser = clap::value_parser!(u32).range(4..=20_000))]
    devices: u32,
    /// Keep the folder, to look into it.
    #[arg(long)]
    keep: bool,
    /// The child: serves in this folder, and dies with its parent.
    #[arg(long, hide = true, requires = "listen")]
    serve: Option<PathBuf>,
    /// The child's address.
    #[arg(long, hide = true)]
    listen: Option<SocketAddr>,
    /// Counts an acknowledgement that never was, to show that a loss is found.
    #[arg(long, hide = true)]
    plant_loss: bool,
}

/// How often the line is written anew: on a terminal, and elsewhere.
const TERMINAL_EVERY: Duration = Duration::from_millis(200);
const PLAIN_EVERY: Duration = Duration::from_secs(1);

/// What is told while the fleet writes.
struct Screen {
    is_terminal: bool,
    clock: SystemClock,
}

/// Runs it.
///
/// # Errors
///
/// [`Failure::Failed`] when there is no folder for it, the server does not start, or anything that was
/// acknowledged is lost, doubled or changed.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    if let (Some(dir), Some(listen)) = (&args.serve, args.listen) {
        die_with_parent().map_err(Failure::failed)?;
        let (config, data) = (Some(dir.join(server::SETTINGS_FILE)), Some(dir.join("data")));
        return serve::run(&serve::ServeArgs::new(SettingsArgs { config, data }, listen));
    }
    // Before there is anything to tidy up.
    let interrupts = Interrupts::listen("ending, and tidying up").map_err(Failure::failed)?;
    let (dir, kind) = folder()?;
    let failed = |error| Failure::failed(format!("{}: {error}", dir.display()));
    fs::create_dir(&dir).map_err(failed)?;
    let result = story(args, (&dir, &kind), &interrupts);
    let result = interrupted(result, interrupts.heard(), "nothing was counted");
    // Who interrupts it, or reads no further, would not look; and where the output takes no more, the disk
    // that is full may be this one.
    if args.keep || matches!(result, Err(Failure::Failed(_) | Failure::Usage(_))) {
        let (dir, data) = (dir.display(), dir.join("data"));
        let how = format!("\nkept for a look: {dir}\n  tidegate serve --data {}", data.display());
        out::say_somewhere(&how);
        return result;
    }
    fs::remove_dir_all(&dir).map_err(failed)?;
    if let Err(Failure::Unwritten(error)) = &result {
        let dir = dir.display();
        return Err(Failure::failed(format!(
            "standard output: {error}; the demo ended there, and its folder {dir} is removed"
        )));
    }
    result
}

/// A new folder's name, on a file system that takes a log, and that system's kind.
fn folder() -> Result<(PathBuf, String), Failure> {
    let candidates = [std::env::temp_dir(), PathBuf::from("."), PathBuf::from("/dev/shm")];
    let kinds = candidates.map(|dir| (kind_of(&dir).unwrap_or_default(), dir));
    // A disk shows more than memory does.
    let good = [&["ext4", "xfs"][..], &["tmpfs"]]
        .into_iter()
        .find_map(|wanted| kinds.iter().find(|(kind, _)| wanted.contains(&&**kind)));
    let Some((kind, dir)) = good else {
        let found: Vec<String> =
            kinds.iter().map(|(kind, dir)| format!("{} is on {kind}", dir.display())).collect();
        let right = "name a folder on ext4, XFS or tmpfs by TMPDIR";
        return Err(Failure::failed(format!("no place for a log: {}; {right}", found.join(", "))));
    };
    let dir = dir.canonicalize().map_err(Failure::failed)?;
    Ok((dir.join(format!("tidegate-demo-{}", std::process::id())), kind.clone()))
}

fn story(
    args: &DemoArgs,
    (dir, kind): (&Path, &str),
    interrupts: &Interrupts,
) -> Result<(), Failure> {
    let clock = SystemClock::new();
    let screen = Screen { is_terminal: io::stdout().is_terminal(), clock: SystemClock::new() };
    say(&format!(
        "{} devices, ten records a second each. Folder {} ({kind}).",
        grouped(args.devices.into()),
        dir.display()
    ))?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let child = Child::start(dir, any, interrupts)?;
    let at = child.address;
    say(&format!(
        "Server http://{at}/ is process {}; open it in a browser meanwhile.",
        child.id()
    ))?;
    let address = Address::plain(at);
    let fleet = Fleet::start(args.devices, &address, &clock).map_err(Failure::failed)?;
    title("1. The fleet writes. Each request is acknowledged when it is synced to the disk.")?;
    screen.watch(&fleet, Duration::from_secs(args.seconds) / 2, interrupts)?;
    title("2. kill -9, in the middle of it.")?;
    child.kill()?;
    say(&format!("   dead, with {} records acknowledged", grouped(fleet.acknowledged())))?;
    title("3. It starts again on the same folder; the devices send again what nobody answered.")?;
    let dead = clock.monotonic();
    let child = Child::start(dir, at, interrupts)?;
    let took = clock.monotonic().saturating_sub(dead).as_secs_f64();
    let frames = grouped(child.frames());
    say(&format!("   ready after {took:.2} s, with {frames} requests in its log"))?;
    screen.watch(&fleet, Duration::from_secs(args.seconds) / 2, interrupts)?;
    let ledger = fleet.end().map_err(Failure::failed)?;
    title("4. Every record that was acknowledged is looked for.")?;
    let mut client = Client::new(address.clone());
    settle(&mut client, &address)?;
    let is_asked = || interrupts.heard().is_some();
    let count = Count::of(&mut client, &ledger, args.plant_loss, &is_asked);
    let count = count.map_err(Failure::failed)?;
    let told = end(&mut client, (&address, dir), (count, ledger.repeated), child);
    if !count.is_whole() {
        // Whatever became of the words: the evidence is to be kept.
        return Err(Failure::failed(Broken(count.to_string())));
    }
    told?;
    say(&format!(
        "\nNothing was lost, in {:.0} s. The status page was http://{at}/ while it ran; yours: tidegate serve",
        clock.monotonic().as_secs_f64()
    ))
}

/// Tells the count, shows a rejection, and stops the server.
fn end(
    client: &mut Client,
    (address, dir): (&Address, &Path),
    (count, repeated): (Count, u64),
    child: Child,
) -> Result<(), Failure> {
    say(&format!("   {count}"))?;
    say(&format!("   {} requests were sent twice, and stored once", grouped(repeated)))?;
    let mended = rejection(client, address, dir)?;
    child.stop()?;
    mended.map_err(Failure::failed)
}

/// Waits until everything that was acknowledged can be read: frames are executed in their order.
fn settle(client: &mut Client, address: &Address) -> Result<(), Failure> {
    let reply = post(client, address, "/write?db=demo", "maintenance,device=d0 firmware=1i 1")?;
    if reply.status == 204 {
        return Ok(());
    }
    Err(Failure::failed(format!("a record was answered {}: {}", reply.status, text(&reply))))
}

/// Shows what becomes of a record that cannot be stored, and whether it went as it is told.
fn rejection(
    client: &mut Client,
    address: &Address,
    dir: &Path,
) -> Result<Result<(), String>, Failure> {
    title("5. What cannot be stored is kept, with its reason, and can be mended.")?;
    let line = "maintenance,device=d0 firmware=2i 1";
    say(&format!("   sent    {line}"))?;
    let refused = post(client, address, "/write?db=demo", line)?;
    say(&format!("   answer  {}", why(&refused)))?;
    let answer: Value = serde_json::from_slice(&refused.body).unwrap_or_default();
    let kept = client.get(answer["rejects"].as_str().unwrap_or("/api/v1/rejects"));
    let kept: Value =
        serde_json::from_slice(&kept.map_err(Failure::failed)?.body).unwrap_or_default();
    let id = kept["rejections"][0]["id"].as_str().unwrap_or("1-1").to_owned();
    let shown = typed(address, dir, &["show", &id])?;
    let mended = typed(address, dir, &["resubmit", &id, "--set", "version=next"])?;
    let stands = client.get("/api/v1/export?db=demo&table=maintenance").map_err(Failure::failed)?;
    say(&format!("   stands  {}", text(&stands)))?;
    let went_well = refused.status == 400
        && shown.contains("version_conflict")
        && mended.contains("1 stored, 0 not")
        && text(&stands).contains(r#""firmware":2"#);
    Ok(if went_well {
        Ok(())
    } else {
        Err("the rejection went otherwise than it should".to_owned())
    })
}

/// Runs `tidegate rejects ..` against the server, shows command and output, and returns the output.
fn typed(address: &Address, dir: &Path, words: &[&str]) -> Result<String, Failure> {
    say(&format!("\n   $ tidegate rejects {}", words.join(" ")))?;
    let mut command = server::ours().map_err(Failure::failed)?;
    command.arg("rejects").args(words).args(["--url", &format!("http://{address}")]);
    let output = command.current_dir(dir).output().map_err(Failure::failed)?;
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    let said = said.concat();
    for line in said.lines() {
        say(&format!("     {line}"))?;
    }
    Ok(said)
}

/// What the server says of the one line that it refused.
fn why(reply: &Reply) -> String {
    let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let line = &answer["data"][0];
    match (line["reason"].as_str(), line["error_message"].as_str()) {
        (Some(reason), Some(message)) => format!("{} {reason}: {message}", reply.status),
        _ => format!("{} {}", reply.status, text(reply)),
    }
}

/// Sends a body and waits until it can be read.
fn post(
    client: &mut Client,
    address: &Address,
    target: &str,
    body: &str,
) -> Result<Reply, Failure> {
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: {address}\r\nX-Tidegate-Durability: applied\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.exchange(request.as_bytes()).map_err(Failure::failed)
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).trim().to_owned()
}

impl Screen {
    /// Tells how the fleet does, for so long.
    fn watch(
        &self,
        fleet: &Fleet,
        how_long: Duration,
        interrupts: &Interrupts,
    ) -> Result<(), Failure> {
        let every = if self.is_terminal { TERMINAL_EVERY } else { PLAIN_EVERY };
        let end = self.clock.monotonic() + how_long;
        let (mut before, mut looked) = (fleet.acknowledged(), self.clock.monotonic());
        while self.clock.monotonic() < end {
            let rest = every.min(end.saturating_sub(self.clock.monotonic()));
            interrupts.sleep(&self.clock, rest);
            if interrupts.heard().is_some() {
                return Err(Failure::failed("interrupted"));
            }
            let (now, acknowledged) = (self.clock.monotonic(), fleet.acknowledged());
            let seconds = now.saturating_sub(looked).as_secs_f64().max(0.001);
            let rate = as_f64(acknowledged - before) / seconds;
            self.live(&format!(
                "   {:>9} acknowledged   {rate:>7.0} a second   {}",
                grouped(acknowledged),
                fleet.latency()
            ))?;
            (before, looked) = (acknowledged, now);
        }
        if self.is_terminal { say("") } else { Ok(()) }
    }

    /// A line that the next one replaces, where that can be.
    fn live(&self, line: &str) -> Result<(), Failure> {
        if !self.is_terminal {
            return say(line);
        }
        let mut stdout = io::stdout();
        out::written(write!(stdout, "{}", out::in_place(line)).and_then(|()| stdout.flush()))
    }
}

fn title(line: &str) -> Result<(), Failure> {
    let is_bold = out::has_colours(io::stdout().is_terminal());
    say(&if is_bold { format!("\n\x1b[1m{line}\x1b[0m") } else { format!("\n{line}") })
}

/// A number as people read it: `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
