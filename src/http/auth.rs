//! Who sent a request: tokens and users, section `auth` of the settings.
//!
//! A client shows a token as `Authorization: Token T` or `Bearer T`, as the password of `Basic`, or as
//! the query parameter `p`; a name and password as `Basic`, as `Token name:password`, or as `u` and
//! `p`. The parameters go before the header. Source: `InfluxDB` 1.12, `services/httpd`; `InfluxDB` 3.
//!
//! Clients of Amazon's APIs sign each request with an access key instead ([`sigv4`]).
//!
//! Without any token, user or access key, everybody may do everything; [`Options::is_sufficient_for`] keeps that
//! from happening on an address that others can reach.

pub mod sigv4;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use serde::{Deserialize, Serialize, Serializer};
use subtle::{Choice, ConstantTimeEq as _};

use crate::api::call::{Caller, Scope};
use crate::api::fault::{Family, Fault, Kind};
use crate::api::params::Params;
use crate::api::timestream::arn;
use crate::api::timestream::exception::{Code, Exception};
use crate::base::class::Class;

/// The name that stands for all databases.
const ALL_DATABASES: &str = "*";

/// Most bytes of a file that holds a secret.
const SECRET_FILE_BYTES_MAX: u64 = 4096;

/// Who may do what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Tokens.
    pub tokens: Vec<Token>,
    /// Names with passwords.
    pub users: Vec<User>,
    /// Keys with which clients of Amazon's APIs sign.
    pub access_keys: Vec<AccessKey>,
    /// The region that they sign for; empty: any. With one, what was signed for another is refused.
    pub region: String,
    /// Whether requests without credentials may do everything, on any address. Wrong credentials are
    /// refused even then, since whoever sends some means them.
    pub anonymous: bool,
}

/// A secret that says who its bearer is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Token {
    /// The bearer's name, for replies and logs.
    pub name: String,
    /// The token itself; better kept in `token_file`.
    pub token: Option<Secret>,
    /// The file that holds the token; white space at its ends is not part of it.
    pub token_file: Option<PathBuf>,
    /// The databases that it may read; `*` is all of them.
    pub read: Vec<String>,
    /// The databases that it may write; `*` is all of them.
    pub write: Vec<String>,
}

/// A name with a password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password; better kept in `password_file`.
    pub password: Option<Secret>,
    /// The file that holds the password; white space at its ends is not part of it.
    pub password_file: Option<PathBuf>,
    /// The databases that they may read; `*` is all of them.
    pub read: Vec<String>,
    /// The databases that they may write; `*` is all of them.
    pub write: Vec<String>,
}

/// A key with which a client of Amazon's APIs signs its requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessKey {
    /// Its public part, `aws_access_key_id` in the client's settings.
    pub id: String,
    /// Its secret part, `aws_secret_access_key`; better kept in `secret_file`.
    pub secret: Option<Secret>,
    /// The file that holds the secret; white space at its ends is not part of it.
    pub secret_file: Option<PathBuf>,
    /// The databases that it may read; `*` is all of them.
    pub read: Vec<String>,
    /// The databases that it may write; `*` is all of them.
    pub write: Vec<String>,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// `text`, from here on unprintable.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// A text without it.
    #[must_use]
    pub fn hidden_in(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "***") }
    }

    fn is(&self, shown: &str) -> Choice {
        self.0.as_bytes().ct_eq(shown.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// Why the settings name no usable secret.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Neither the secret nor its file is given, or both are.
    #[error("auth.{}: {owner:?} needs exactly one of {key} and {key}_file", list_of(key))]
    NotOne {
        /// Whose secret.
        owner: String,
        /// `token`, `password` or `secret`.
        key: &'static str,
    },
    /// The secret is empty.
    #[error("auth.{}: the {key} of {owner:?} is empty", list_of(key))]
    Empty {
        /// Whose secret.
        owner: String,
        /// `token`, `password` or `secret`.
        key: &'static str,
    },
    /// An access key has no id, or that of another.
    #[error("auth.access_keys: each needs an id of its own, not {id:?}")]
    Id {
        /// The id.
        id: String,
    },
    /// Somebody has no name, or that of another.
    #[error("auth.{list}: each needs a name of its own, not {name:?}")]
    Name {
        /// `tokens` or `users`.
        list: &'static str,
        /// The name.
        name: String,
    },
    /// One token has two owners, so that nobody knows whose it is.
    #[error("auth.tokens: {one:?} and {other:?} have the same token")]
    Shared {
        /// Whose token.
        one: String,
        /// Who has it too.
        other: String,
    },
    /// The region is none.
    #[error("auth.region: {region:?} is not 1 to 32 letters, digits and dashes, as eu-west-1 is")]
    Region {
        /// As it is set.
        region: String,
    },
    /// The file cannot be read, or is no text, or too large.
    #[error("auth: cannot read {} for {owner:?}", path.display())]
    File {
        /// Whose secret.
        owner: String,
        /// Its file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// The list whose members have a secret of this kind.
fn list_of(key: &str) -> &'static str {
    match key {
        "token" => "tokens",
        "password" => "users",
        _ => "access_keys",
    }
}

impl AuthError {
    /// Who must act: whoever wrote the settings.
    pub const fn class(&self) -> Class {
        Class::Refused
    }
}

impl Options {
    /// Whether the server may listen on `listen` with these settings: on loopback always, elsewhere
    /// only where somebody is known, or `anonymous` says that nobody needs to be.
    pub fn is_sufficient_for(&self, listen: SocketAddr) -> bool {
        !requires_auth(listen) || self.anonymous || !self.is_empty()
    }

    /// Whether there is anybody who shows a token or a password.
    pub fn names_bearers(&self) -> bool {
        !self.tokens.is_empty() || !self.users.is_empty()
    }

    /// The secrets that stand in the settings themselves.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let tokens = self.tokens.iter().filter_map(|token| token.token.as_ref());
        let passwords = self.users.iter().filter_map(|user| user.password.as_ref());
        tokens.chain(passwords).chain(self.access_keys.iter().filter_map(|key| key.secret.as_ref()))
    }

    /// Everything that is wrong, secrets and their files included.
    pub fn problems(&self) -> Vec<AuthError> {
        Keyring::read(self).1
    }

    fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.users.is_empty() && self.access_keys.is_empty()
    }
}

/// Whether others than this machine can reach `listen`.
pub fn requires_auth(listen: SocketAddr) -> bool {
    !listen.ip().to_canonical().is_loopback()
}

/// The secrets and their owners, loaded.
#[derive(Debug)]
pub struct Keyring {
    tokens: Vec<(Secret, Arc<Caller>)>,
    users: Vec<(Secret, Arc<Caller>)>,
    /// By their public parts.
    access_keys: HashMap<String, (Secret, Arc<Caller>)>,
    /// That signatures must be for; empty: any.
    region: Arc<str>,
    anonymous: Option<Arc<Caller>>,
    metrics_are_open: bool,
}

/// What a client showed.
enum Shown {
    Token(String),
    User { name: String, password: String },
}

impl Keyring {
    /// Reads the secrets that the settings name.
    ///
    /// # Errors
    ///
    /// [`AuthError`] for the first that is missing or cannot be read, for names and tokens that two have,
    /// or a region that is none.
    pub fn load(options: &Options) -> Result<Self, AuthError> {
        let (keyring, problems) = Self::read(options);
        problems.into_iter().next().map_or(Ok(keyring), Err)
    }

    /// The same with everything that is wrong; what is right is in it.
    fn read(options: &Options) -> (Self, Vec<AuthError>) {
        let mut problems = Vec::new();
        let mut keyring = Self {
            tokens: Vec::new(),
            users: Vec::new(),
            access_keys: HashMap::new(),
            region: options.region.as_str().into(),
            anonymous: None,
            metrics_are_open: true,
        };
        keyring.read_bearers(options, &mut problems);
        for key in &options.access_keys {
            let secret =
                secret_of(&key.id, "secret", key.secret.as_ref(), key.secret_file.as_deref());
            let Some(secret) = kept(secret, &mut problems) else { continue };
            let known = (secret, caller(&key.id, &key.read, &key.write));
            if key.id.is_empty() || keyring.access_keys.insert(key.id.clone(), known).is_some() {
                problems.push(AuthError::Id { id: key.id.clone() });
            }
        }
        if !options.region.is_empty() && !arn::is_region(&options.region) {
            problems.push(AuthError::Region { region: options.region.clone() });
        }
        if options.anonymous || options.is_empty() {
            keyring.anonymous = Some(Arc::new(Caller::anonymous()));
        }
        (keyring, problems)
    }

    /// Reads tokens and passwords.
    fn read_bearers(&mut self, options: &Options, problems: &mut Vec<AuthError>) {
        for token in &options.tokens {
            let (text, file) = (token.token.as_ref(), token.token_file.as_deref());
            let secret = kept(secret_of(&token.name, "token", text, file), problems);
            let Some(secret) = secret else { continue };
            if let Some((_, other)) =
                self.tokens.iter().find(|(known, _)| bool::from(known.is(&secret.0)))
            {
                let (one, other) = (other.name.clone(), token.name.clone());
                problems.push(AuthError::Shared { one, other });
            }
            self.tokens.push((secret, caller(&token.name, &token.read, &token.write)));
        }
        for user in &options.users {
            let (text, file) = (user.password.as_ref(), user.password_file.as_deref());
            let secret = kept(secret_of(&user.name, "password", text, file), problems);
            let Some(secret) = secret else { continue };
            self.users.push((secret, caller(&user.name, &user.read, &user.write)));
        }
        // A token is known by itself: its name is for people, and may be left out.
        let names = options.tokens.iter().map(|token| &token.name).filter(|name| !name.is_empty());
        problems.extend(unnamed("tokens", names.collect()));
        problems.extend(unnamed("users", options.users.iter().map(|user| &user.name).collect()));
    }

    /// The same, by which `/metrics` is answered as these settings say.
    #[must_use]
    pub fn guarding(self, metrics: &crate::metrics::Options) -> Self {
        Self { metrics_are_open: metrics.anonymous, ..self }
    }

    /// Whether `/metrics` is answered to whoever asks.
    pub const fn metrics_are_open(&self) -> bool {
        self.metrics_are_open
    }

    /// Who sent a request.
    ///
    /// # Errors
    ///
    /// [`Fault`] 401 in the words of `family`; it does not say what was wrong.
    pub fn identify(
        &self,
        headers: &HeaderMap,
        params: &Params,
        family: Family,
    ) -> Result<Arc<Caller>, Fault> {
        // Clients that are told to send a token send it whether or not anybody asks.
        if self.tokens.is_empty() && self.users.is_empty() {
            return self.anonymous.clone().ok_or_else(|| unauthorized(family, Why::Wrong));
        }
        match shown(headers, params) {
            Err(Unreadable) => Err(unauthorized(family, Why::Missing)),
            Ok(None) => self.anonymous.clone().ok_or_else(|| unauthorized(family, Why::Missing)),
            Ok(Some(shown)) => self.find(&shown).ok_or_else(|| unauthorized(family, Why::Wrong)),
        }
    }

    /// Who claims to have signed a request, or who sent it where nobody needs to sign. Looks at its head
    /// only; what is claimed is proved by [`Proof::caller`].
    ///
    /// # Errors
    ///
    /// [`Exception`]: 403 where the key is not known or credentials are missing, 400 where they are
    /// incomplete.
    pub fn claim(&self, headers: &HeaderMap, params: &Params) -> Result<Proof, Exception> {
        let Some(claim) = sigv4::Claim::of(headers)? else {
            return match self.identify(headers, params, Family::Timestream) {
                Ok(caller) => Ok(Proof::Known(caller)),
                Err(_unauthorized) => {
                    let message = "Missing Authentication Token";
                    Err(Exception::new(Code::MissingAuthenticationToken, message))
                }
            };
        };
        if let Some((secret, caller)) = self.access_keys.get(&claim.key_id) {
            let (secret, caller) = (secret.clone(), Arc::clone(caller));
            let region = Arc::clone(&self.region);
            return Ok(Proof::Signed { claim, secret, caller, region });
        }
        // SDKs cannot but sign. Where there is no key that they could have, nobody needs one.
        match &self.anonymous {
            Some(anonymous) if self.access_keys.is_empty() => {
                Ok(Proof::Known(Arc::clone(anonymous)))
            }
            _ => {
                let message = "The security token included in the request is invalid.";
                Err(Exception::new(Code::UnrecognizedClient, message))
            }
        }
    }

    /// Compares with every secret, so that the time taken does not tell which came close.
    fn find(&self, shown: &Shown) -> Option<Arc<Caller>> {
        let mut found = None;
        let (name, secret) = match shown {
            Shown::Token(token) => (None, token),
            Shown::User { name, password } => (Some(name), password),
        };
        for (token, caller) in &self.tokens {
            if bool::from(token.is(secret)) {
                found = Some(caller);
            }
        }
        for (password, caller) in &self.users {
            let is_name = Choice::from(u8::from(name == Some(&caller.name)));
            if bool::from(password.is(secret) & is_name) {
                found = Some(caller);
            }
        }
        found.cloned()
    }
}

/// What proves who sent a request of Amazon's clients.
#[derive(Debug)]
pub enum Proof {
    /// Nothing more is needed.
    Known(Arc<Caller>),
    /// A signature, over the body too.
    Signed {
        /// What the request says.
        claim: sigv4::Claim,
        /// The key's secret.
        secret: Secret,
        /// Whose key it is.
        caller: Arc<Caller>,
        /// The region that it must be for; empty: any.
        region: Arc<str>,
    },
}

impl Proof {
    /// Whether the body's digest is needed.
    pub const fn is_signed(&self) -> bool {
        matches!(self, Self::Signed { .. })
    }

    /// Who sent the request with this head and body to `service`.
    ///
    /// # Errors
    ///
    /// [`Exception`] where the signature is not that of the key, see [`sigv4::Claim::verify`].
    pub fn caller(
        self,
        head: &Parts,
        body: &sigv4::BodyDigest,
        service: &str,
        now_ns: i64,
    ) -> Result<Arc<Caller>, Exception> {
        match self {
            Self::Known(caller) => Ok(caller),
            Self::Signed { claim, secret, caller, region } => {
                let expected =
                    sigv4::Expected { secret: &secret.0, service, region: &region, now_ns };
                claim.verify(head, body, &expected)?;
                Ok(caller)
            }
        }
    }
}

/// A secret, or what is wrong with it among the problems.
fn kept(secret: Result<Secret, AuthError>, problems: &mut Vec<AuthError>) -> Option<Secret> {
    secret.map_err(|error| problems.push(error)).ok()
}

/// Names of a list that are none, or stand in it twice.
fn unnamed(list: &'static str, mut names: Vec<&String>) -> Vec<AuthError> {
    names.sort_unstable();
    let twice = names.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0]);
    let empty = names.iter().copied().filter(|name| name.is_empty()).take(1);
    let mut wrong: Vec<&String> = twice.chain(empty).collect();
    wrong.dedup();
    wrong.into_iter().map(|name| AuthError::Name { list, name: name.clone() }).collect()
}

fn caller(name: &str, read: &[String], write: &[String]) -> Arc<Caller> {
    Arc::new(Caller { name: name.to_owned(), read: scope(read), write: scope(write) })
}

fn scope(names: &[String]) -> Scope {
    if names.iter().any(|name| name == ALL_DATABASES) {
        return Scope::All;
    }
    Scope::Named(names.to_vec())
}

fn secret_of(
    owner: &str,
    key: &'static str,
    text: Option<&Secret>,
    file: Option<&Path>,
) -> Result<Secret, AuthError> {
    let secret = match (text, file) {
        (Some(secret), None) => secret.clone(),
        (None, Some(path)) => read_secret(path).map_err(|source| AuthError::File {
            owner: owner.to_owned(),
            path: path.to_owned(),
            source,
        })?,
        _ => return Err(AuthError::NotOne { owner: owner.to_owned(), key }),
    };
    if secret.0.is_empty() {
        return Err(AuthError::Empty { owner: owner.to_owned(), key });
    }
    Ok(secret)
}

fn read_secret(path: &Path) -> std::io::Result<Secret> {
    use std::io::Read as _;
    let mut text = String::new();
    let mut file = std::fs::File::open(path)?.take(SECRET_FILE_BYTES_MAX + 1);
    if file.read_to_string(&mut text)? as u64 > SECRET_FILE_BYTES_MAX {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(Secret(text.trim().to_owned()))
}

/// There are credentials, but not in any form that we know.
struct Unreadable;

fn shown(headers: &HeaderMap, params: &Params) -> Result<Option<Shown>, Unreadable> {
    if let Some(password) = params.get("p").filter(|password| !password.is_empty()) {
        let name = params.text("u").to_owned();
        return Ok(Some(Shown::User { name, password: password.to_owned() }));
    }
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(header) = all.next() else { return Ok(None) };
    // Whoever stands before us may have looked at the other.
    if all.next().is_some() {
        return Err(Unreadable);
    }
    let header = header.to_str().map_err(|_not_ascii| Unreadable)?;
    let (scheme, credentials) = header.trim().split_once(' ').ok_or(Unreadable)?;
    let credentials = credentials.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Ok(Some(Shown::Token(credentials.to_owned()))),
        "token" => Ok(Some(match credentials.split_once(':') {
            Some((name, password)) => {
                Shown::User { name: name.to_owned(), password: password.to_owned() }
            }
            None => Shown::Token(credentials.to_owned()),
        })),
        "basic" => {
            let bytes = BASE64.decode(credentials).map_err(|_malformed| Unreadable)?;
            let text = String::from_utf8(bytes).map_err(|_not_text| Unreadable)?;
            let (name, password) = text.split_once(':').ok_or(Unreadable)?;
            Ok(Some(Shown::User { name: name.to_owned(), password: password.to_owned() }))
        }
        _ => Err(Unreadable),
    }
}

/// Why nobody is known. `InfluxDB` 1 clients tell the two apart; neither says what came close.
#[derive(Clone, Copy)]
enum Why {
    Missing,
    Wrong,
}

fn unauthorized(family: Family, why: Why) -> Fault {
    let message = match (family, why) {
        (Family::V1 | Family::Native, Why::Missing) => "unable to parse authentication credentials",
        (Family::V1 | Family::Native, Why::Wrong) => "authorization failed",
        (Family::V2, _) => "unauthorized access",
        (Family::V3 | Family::Timestream | Family::DataZone, _) => {
            "the request was not authenticated"
        }
    };
    Fault::new(Kind::Unauthorized, message)
}

#[cfg(test)]
mod tests;
