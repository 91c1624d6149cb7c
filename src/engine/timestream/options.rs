//! The section `engine.timestream` of the settings.

use std::path::PathBuf;

use crate::base::units::Span;

/// Most requests of a shard that may be under way at once.
const REQUESTS_MAX: usize = 64;

/// Settings of the section `engine.timestream`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where the API is, as in `"https://gateway.example:8086"`. Empty: Amazon's, which is asked for
    /// the right host by its endpoint discovery.
    pub endpoint: String,
    /// The region that requests are signed for. Empty: what environment, profile or instance say.
    pub region: String,
    /// The id of the access key. Empty: environment, profile, web identity, container or instance say
    /// who sends, as with every AWS SDK.
    pub access_key: String,
    /// The file that holds the secret of `access_key` and nothing else.
    pub secret_key_file: PathBuf,
    /// Certificate authorities, PEM, that the endpoint's certificate must come from; empty: those of the
    /// system.
    pub ca_file: PathBuf,
    /// How long a connection may take. 100ms to 1min.
    pub connect_timeout: Span,
    /// How long an answer may take before the request is sent again. 1s to 10min. Too short: a slow
    /// upstream gets everything twice. Too long: a lost connection holds a shard for as long.
    pub request_timeout: Span,
    /// Most requests of one shard under way at once, 1 to 64. Few: a distant upstream is waited for one
    /// request after another. Many: more connections, and an upstream that throttles does so sooner.
    pub requests_max: usize,
    /// Whether tables that are made upstream take late records, whatever the table's own setting:
    /// what has waited in the log for longer than the upstream's memory store reaches back would be
    /// refused otherwise.
    pub magnetic_writes: bool,
    /// The folder of what is known to be stored upstream. Empty: `upstream` in `data_dir`.
    pub dir: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            region: String::new(),
            access_key: String::new(),
            secret_key_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            connect_timeout: Span::secs(3),
            request_timeout: Span::secs(20),
            requests_max: 8,
            magnetic_writes: true,
            dir: PathBuf::new(),
        }
    }
}

impl Options {
    /// Every contradiction in the section, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let spans = [
            ("connect_timeout", self.connect_timeout, Span::ms(100), Span::secs(60)),
            ("request_timeout", self.request_timeout, Span::secs(1), Span::secs(600)),
        ];
        for (key, span, min, max) in spans {
            if span < min || span > max {
                problems.push(format!("{key}: {span} is not in {min} to {max}"));
            }
        }
        if !(1..=REQUESTS_MAX).contains(&self.requests_max) {
            let found = self.requests_max;
            problems.push(format!("requests_max: {found} is not in 1 to {REQUESTS_MAX}"));
        }
        let is_web = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        if !self.endpoint.is_empty() && !is_web(&self.endpoint) {
            problems.push(format!(
                "endpoint: {:?} does not begin with http:// or https://",
                self.endpoint
            ));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !self.region.chars().all(is_name) {
            problems.push(format!(
                "region: {:?} is not of letters, digits and dashes, as eu-west-1 is",
                self.region
            ));
        }
        if !self.ca_file.as_os_str().is_empty() && self.endpoint.starts_with("http://") {
            problems.push("ca_file: endpoint begins with http://, so nobody looks at it".into());
        }
        if self.access_key.is_empty() != self.secret_key_file.as_os_str().is_empty() {
            problems
                .push("access_key: it and secret_key_file are given together or not at all".into());
        }
        problems
    }
}
