//! `DescribeEndpoints`: an address that the asking SDK can use.
//!
//! On Amazon the address is a bare host name, and every SDK puts `https://` before it. Here it is the
//! host that the request itself was sent to, so that it also works behind a container's or a proxy's
//! port; what is put around it differs, since the SDKs' own handling does:
//!
//! | client | does with the address | so it is |
//! |---|---|---|
//! | boto3, AWS CLI | takes it as a whole URL, puts `https://` before one without a scheme | `http://host:port` |
//! | AWS SDK for JavaScript | changes the host of its own URL, keeps scheme and port | `host` |
//! | the others | put `https://` before it | `host:port`, which must speak TLS |
//!
//! Where a proxy says that the client spoke TLS to it (`X-Forwarded-Proto: https`), boto3 too gets
//! `host:port`. Clients with an endpoint of their own in the code do not ask.
//!
//! Source: botocore `discovery.py`; `aws-sdk-timestreamwrite`, `client.rs`; `middleware-endpoint-discovery`.

use hyper::HeaderMap;
use hyper::header::{HOST, USER_AGENT};
use hyper::http::uri::Authority;
use serde_json::{Value, json};

use super::exception::Exception;

/// How long clients keep the address, in minutes, as on Amazon. 0 would make boto3 ask every time.
const CACHE_MINUTES: u32 = 1440;

/// How a client speaks to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The host that it asked, with the port.
    host: String,
    /// What it is.
    agent: String,
    /// Whether it speaks TLS to a proxy before us.
    is_behind_tls: bool,
}

impl Client {
    /// The client that sent a request with this head.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let is_behind_tls = text("x-forwarded-proto").eq_ignore_ascii_case("https");
        Self { host: text(HOST.as_str()), agent: text(USER_AGENT.as_str()), is_behind_tls }
    }

    fn address(&self) -> String {
        let is_one_of = |names: &[&str]| {
            names.iter().any(|name| self.agent.to_ascii_lowercase().contains(name))
        };
        if is_one_of(&["aws-sdk-js/"]) {
            return without_port(&self.host).to_owned();
        }
        if is_one_of(&["boto3/", "botocore/", "aws-cli/"]) && !self.is_behind_tls {
            return format!("http://{}", self.host);
        }
        self.host.clone()
    }
}

/// The host of `host:port`; an address of version 6 keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Answers `DescribeEndpoints`.
///
/// # Errors
///
/// [`Exception`] 400 where the request does not say, or not in the form of a host, which one it asked:
/// the answer would be no address. Source: RFC 9112, 3.2.
pub fn describe(client: &Client) -> Result<Value, Exception> {
    let is_host = client.host.parse::<Authority>().is_ok_and(|host| !host.host().is_empty());
    if !is_host || client.host.contains('@') {
        let message = format!("The header Host must be one host name: {:?} is none.", client.host);
        return Err(Exception::invalid(message));
    }
    Ok(json!({
        "Endpoints": [{ "Address": client.address(), "CachePeriodInMinutes": CACHE_MINUTES }],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sdk_gets_an_address_that_it_can_use() {
        let rust = "aws-sdk-rust/1.3 ua/2.1 api/timestreamwrite#1.121.0";
        let js = "aws-sdk-js/3.1137.0 ua/2.1 os/linux lang/js";
        for (agent, host, proto, address) in [
            ("Boto3/1.44.5 md/Botocore#1.44.5", "127.0.0.1:8086", "", "http://127.0.0.1:8086"),
            ("aws-cli/2.1 Python/3.11", "tide:8086", "", "http://tide:8086"),
            ("Boto3/1.44.5", "tide.example", "https", "tide.example"),
            (js, "127.0.0.1:8086", "", "127.0.0.1"),
            (js, "[::1]:8086", "", "[::1]"),
            (js, "tide.example", "", "tide.example"),
            (rust, "tide:8443", "", "tide:8443"),
            ("", "tide:8443", "", "tide:8443"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            headers.insert(USER_AGENT, agent.parse().unwrap());
            headers.insert("x-forwarded-proto", proto.parse().unwrap());
            let told = describe(&Client::of(&headers)).unwrap();
            assert_eq!(told["Endpoints"][0]["Address"], address, "{agent} {host}");
            assert_eq!(told["Endpoints"][0]["CachePeriodInMinutes"], 1440);
        }
    }

    #[test]
    fn without_a_host_there_is_no_address_to_tell() {
        for host in [None, Some(""), Some("a b"), Some("a/b"), Some("me@a"), Some(":80")] {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, host.parse().unwrap());
            }
            let exception = describe(&Client::of(&headers)).unwrap_err();
            assert_eq!(exception.status().as_u16(), 400, "{host:?}");
        }
    }
}
