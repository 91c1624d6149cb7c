//! The settings of section `server`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tls;
use crate::base::class::Class;
use crate::base::units::{Bytes, Span};

/// Where the server listens, and what one client may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Address and port. Port 0 takes any free one. On an address that is not loopback, anybody in
    /// the network can write unless `auth` says who may, so the start is refused without it.
    pub listen: SocketAddr,
    /// Most bytes of a request's body on the wire; 1 KiB to 1 GiB. Too low: clients that send large
    /// batches get 413, and those of `InfluxDB` 1 drop them. Too high: one client can take that much
    /// of the memory for requests.
    pub body_bytes_max: Bytes,
    /// Most bytes of a request's body after decompression; `body_bytes_max` to 4 GiB. Too low: 413 for
    /// what compresses well. Too high: a few kilobytes can claim that much memory.
    pub inflated_bytes_max: Bytes,
    /// Most connections at once; 1 to 1,000,000. Where all are taken, the one that has been idle for longest
    /// gives way to a newcomer; where none has been for a second, newcomers wait in the system's backlog.
    /// Too low: agents connect anew each time, or time out connecting. Too high: the process runs out of
    /// file descriptors, and new connections wait as well.
    pub connections_max: usize,
    /// How long a client may take to send a request's header once it began; 100ms to 10min. Too low:
    /// slow networks are cut off. Too high: idle attackers hold connections.
    pub header_timeout: Span,
    /// How long a client may take to send a whole body; 1s to 1h. The answer is 408. Too low: large
    /// bodies never arrive over slow networks. Too high: such clients hold memory.
    pub body_timeout: Span,
    /// Fewest bytes a second of a body, on average, after `body_grace`; 0 to 1 GiB, 0 is no limit. The
    /// answer is 408. Who is sent more than the sockets hold must read as much, over `idle_timeout`. Too
    /// low: clients that dribble hold memory until `body_timeout`, and exports. Too high: slow networks
    /// are cut off.
    pub body_bytes_per_second_min: Bytes,
    /// How long a body may be slower than that; 100ms to 10min. Too low: a pause in the network is
    /// enough for 408. Too high: as a low `body_bytes_per_second_min`.
    pub body_grace: Span,
    /// How long a connection may wait for its next request, or a client not read what it is sent; 1s
    /// to 1h. Too low: agents that send every few seconds connect anew each time. Too high: dead peers
    /// hold connections.
    pub idle_timeout: Span,
    /// How long a request may take once its body was read; 1s to 1h. Then the answer is 503, and
    /// whether the request is stored is unknown. Too low: requests are sent twice under load. Too high:
    /// clients give up first.
    pub request_timeout: Span,
    /// How long the stop waits for requests that are being answered; 0s to 10min. Too low: clients see
    /// broken connections, and send again. Too high: service managers kill the process first.
    pub drain_timeout: Span,
    /// How long the whole stop may take, from the signal to the end of the process; `drain_timeout` to
    /// 1h. Then, as at a second signal, the process ends at once: what was acknowledged is in the log,
    /// and the next start replays it. Too low: what a flush had left is replayed. Too high: service
    /// managers kill the process first.
    pub stop_timeout: Span,
    /// Encryption.
    pub tls: tls::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8086)),
            body_bytes_max: Bytes::mib(32),
            inflated_bytes_max: Bytes::mib(64),
            connections_max: 10_000,
            header_timeout: Span::secs(10),
            body_timeout: Span::secs(60),
            body_bytes_per_second_min: Bytes(1024),
            body_grace: Span::secs(10),
            idle_timeout: Span::secs(60),
            request_timeout: Span::secs(30),
            drain_timeout: Span::secs(25),
            stop_timeout: Span::secs(60),
            tls: tls::Options::default(),
        }
    }
}

/// A setting out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("server.{key} = {found} is out of range: {range}")]
pub struct OptionsError {
    /// Its name in section `server`.
    pub key: &'static str,
    /// Its value.
    pub found: String,
    /// What it may be.
    pub range: String,
}

impl OptionsError {
    /// Who must act: whoever wrote the settings.
    pub const fn class(&self) -> Class {
        Class::Refused
    }
}

impl Options {
    /// Everything that is out of its range.
    pub fn validate(&self) -> Vec<OptionsError> {
        let mut errors = Vec::new();
        self.validate_sizes(&mut errors);
        self.validate_times(&mut errors);
        errors
    }

    fn validate_sizes(&self, errors: &mut Vec<OptionsError>) {
        for (key, found, min, max) in [
            ("body_bytes_max", self.body_bytes_max, Bytes(1 << 10), Bytes::mib(1 << 10)),
            (
                "inflated_bytes_max",
                self.inflated_bytes_max,
                self.body_bytes_max,
                Bytes::mib(4 << 10),
            ),
            (
                "body_bytes_per_second_min",
                self.body_bytes_per_second_min,
                Bytes(0),
                Bytes::mib(1 << 10),
            ),
        ] {
            if found < min || found > max {
                let range = format!("{min} to {max}");
                errors.push(OptionsError { key, found: found.to_string(), range });
            }
        }
        if !(1..=1_000_000).contains(&self.connections_max) {
            errors.push(OptionsError {
                key: "connections_max",
                found: self.connections_max.to_string(),
                range: "1 to 1000000".to_owned(),
            });
        }
    }

    fn validate_times(&self, errors: &mut Vec<OptionsError>) {
        let hour = Span(Duration::from_hours(1));
        let minutes = Span(Duration::from_mins(10));
        for (key, found, min, max) in [
            ("header_timeout", self.header_timeout, Span::ms(100), minutes),
            ("body_timeout", self.body_timeout, Span::secs(1), hour),
            ("body_grace", self.body_grace, Span::ms(100), minutes),
            ("idle_timeout", self.idle_timeout, Span::secs(1), hour),
            ("request_timeout", self.request_timeout, Span::secs(1), hour),
            ("drain_timeout", self.drain_timeout, Span::secs(0), minutes),
            ("stop_timeout", self.stop_timeout, self.drain_timeout, hour),
            ("tls.handshake_timeout", self.tls.handshake_timeout, Span::ms(100), minutes),
            ("tls.look_interval", self.tls.look_interval, Span::ms(100), Span::secs(86_400)),
        ] {
            if found < min || found > max {
                let range = format!("{min} to {max}");
                errors.push(OptionsError { key, found: found.to_string(), range });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_loopback() {
        assert_eq!(Options::default().validate(), []);
        assert!(Options::default().listen.ip().is_loopback());
    }

    #[test]
    fn every_setting_out_of_range_is_named() {
        let options = Options {
            body_bytes_max: Bytes(0),
            inflated_bytes_max: Bytes::mib(5000),
            connections_max: 0,
            header_timeout: Span::ms(1),
            drain_timeout: Span::secs(3600),
            stop_timeout: Span::secs(3599),
            tls: tls::Options { handshake_timeout: Span::ms(1), ..tls::Options::default() },
            ..Options::default()
        };
        let keys: Vec<_> = options.validate().into_iter().map(|error| error.key).collect();
        assert_eq!(
            keys,
            [
                "body_bytes_max",
                "inflated_bytes_max",
                "connections_max",
                "header_timeout",
                "drain_timeout",
                "stop_timeout",
                "tls.handshake_timeout"
            ]
        );
        let small = Options { inflated_bytes_max: Bytes::mib(1), ..Options::default() };
        let message = small.validate()[0].to_string();
        assert_eq!(message, "server.inflated_bytes_max = 1 MiB is out of range: 32 MiB to 4 GiB");
    }

    #[test]
    fn settings_are_read_as_people_write_them_and_unknown_ones_are_refused() {
        let options: Options =
            toml::from_str("listen = \"0.0.0.0:80\"\nidle_timeout = \"2min\"").unwrap();
        assert_eq!(options.idle_timeout, Span::secs(120));
        assert!(toml::from_str::<Options>("lisen = \"0.0.0.0:80\"").is_err());
    }
}
