//! `tidegate health`: is the server well? For a container's health check, which has no curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::client::{Address, Client, Trust};
use super::{Failure, SettingsArgs, out};
use crate::http;

/// What stands below `health --help`.
pub const EXAMPLES: &str = "Examples:
  tidegate health --url http://127.0.0.1:8086
  tidegate health --url https://tide.example:8086 --ca-file ca.pem
  tidegate health --ready

Without --url the server of these settings is asked, on this machine, over TLS where they say so, whoever's
certificate it shows. Exit code 0 when it is well.";

/// Who is well answers sooner.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Flags of `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The server.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Ask whether it takes writes: not before its log is replayed, nor once the log has failed.
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    trust: Trust,
}

/// Asks, and prints the answer.
///
/// # Errors
///
/// [`Failure::Usage`] for settings or a URL that cannot be read, [`Failure::Failed`] when the server does
/// not answer, or says that it is not well.
pub fn run(args: &HealthArgs) -> Result<(), Failure> {
    let address = if let Some(url) = &args.url {
        Address::parse("--url", url, &args.trust)?
    } else {
        own(&args.settings.load(Vec::new())?.server, &args.trust)?
    };
    let target = if args.ready { "/ready" } else { "/health" };
    let asked = format!("{}{target}", address.url());
    let reply = Client::impatient(address, ANSWER_MAX)
        .get(target)
        .map_err(|error| Failure::failed(format!("{asked}: {error}")))?;
    let text = String::from_utf8_lossy(&reply.body);
    out::say(text.trim_end())?;
    if reply.status == 200 {
        return Ok(());
    }
    Err(Failure::failed(format!("{asked} answered {}", reply.status)))
}

/// The server of these settings, as this machine reaches it. It is told no secret.
///
/// # Errors
///
/// [`Failure::Usage`] for files of `trust` that cannot be used.
pub(super) fn own(options: &http::Options, trust: &Trust) -> Result<Address, Failure> {
    let at = here(options.listen);
    if options.tls.is_on() { Address::tls_of_anybody(at, trust) } else { Ok(Address::plain(at)) }
}

/// The same, for who sends it a token: it must have the certificate of these settings, or one that `trust`
/// believes. Known by the file, since it need not name the address that it listens on.
///
/// # Errors
///
/// [`Failure::Usage`] for files that cannot be used.
pub(super) fn ours(options: &http::Options, trust: &Trust) -> Result<Address, Failure> {
    let (at, tls) = (here(options.listen), &options.tls);
    let (scheme, trust) =
        if tls.is_on() { ("https", trust.or_own(&tls.cert_file)) } else { ("http", trust.clone()) };
    Address::parse("server.listen", &format!("{scheme}://{at}"), &trust)
}

/// Where a server is reached from this machine that listens at `listen`.
pub(super) const fn here(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    listen
}

#[cfg(test)]
mod tests {
    use super::here;

    #[test]
    fn a_server_on_every_address_is_asked_on_this_machines_own() {
        for (listen, asked) in [
            ("0.0.0.0:8086", "127.0.0.1:8086"),
            ("[::]:8086", "[::1]:8086"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            assert_eq!(here(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
