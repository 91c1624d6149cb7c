//! TLS towards producers: section `server.tls`.
//!
//! Versions 1.3 and 1.2, HTTP/1.1 (ALPN), by rustls with the `ring` provider. Certificate and key are
//! read again on SIGHUP and when their files change; what cannot be used is refused, and the pair that
//! is in use stays. Connections that are open keep the certificate that they were opened with.

pub mod validity;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig, version};

use crate::base::class::Class;
use crate::base::units::Span;

/// Most bytes of a file of certificates or of a key.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The one protocol that is spoken inside. Source: RFC 7301, the registry's "http/1.1".
const ALPN: &[u8] = b"http/1.1";

/// The settings of section `server.tls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The server's certificate and those between it and an authority, in PEM; empty: no TLS.
    pub cert_file: PathBuf,
    /// Its private key in PEM: PKCS#8, SEC1 or PKCS#1, not encrypted.
    pub key_file: PathBuf,
    /// Authorities (PEM) that clients' certificates must come from; empty: clients need none. Whoever
    /// has no such certificate cannot speak to any endpoint, probes too.
    pub client_ca_file: PathBuf,
    /// How long a handshake may take; 100ms to 10min. Too low: slow networks are cut off. Too high:
    /// idle attackers hold connections.
    pub handshake_timeout: Span,
    /// How often the files are looked at; 100ms to 1d. A change is taken when two looks find the same
    /// files. Too low: disk accesses for nothing. Too high: a renewed certificate is used late.
    pub look_interval: Span,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            client_ca_file: PathBuf::new(),
            handshake_timeout: Span::secs(10),
            look_interval: Span::secs(30),
        }
    }
}

/// Why there can be no TLS. What was in use before stays.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the two files is named and the other is not.
    #[error("server.tls.{missing} is empty, and server.tls.{given} is not: name both, or none")]
    Half {
        /// The key that is empty.
        missing: &'static str,
        /// The key that is not.
        given: &'static str,
    },
    /// A file cannot be read, or is too large.
    #[error("server.tls.{key}: cannot read {}", path.display())]
    Read {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("server.tls.{key}: {} {what}", path.display())]
    Content {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What was found, and what would be right. Never a part of a key.
        what: String,
    },
    /// The key is not that of the certificate.
    #[error(
        "server.tls: the key in {} is not that of the first certificate in {}: the server's own \
         certificate comes first, then those between it and an authority",
        key.display(), cert.display()
    )]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
}

impl TlsError {
    /// Who must act: whoever wrote settings or files.
    pub const fn class(&self) -> Class {
        Class::Refused
    }
}

impl Options {
    /// Whether connections are encrypted.
    pub fn is_on(&self) -> bool {
        !self.cert_file.as_os_str().is_empty() || !self.key_file.as_os_str().is_empty()
    }

    /// The files that are read, with the names of their settings.
    fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        [
            ("cert_file", &self.cert_file),
            ("key_file", &self.key_file),
            ("client_ca_file", &self.client_ca_file),
        ]
        .into_iter()
        .filter(|(_, path)| !path.as_os_str().is_empty())
        .map(|(key, path)| (key, path.as_path()))
    }
}

/// What tells one state of the files from another.
pub type Stamps = Vec<Option<(SystemTime, u64, u64)>>;

/// The files as they are now: when they were changed, their sizes and their numbers. `None` for one that
/// cannot be found.
pub fn stamps(options: &Options) -> Stamps {
    use std::os::unix::fs::MetadataExt as _;
    let stamp = |path: &Path| {
        // Through links: a renewal may change where they lead.
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len(), found.ino()))
    };
    options.files().map(|(_, path)| stamp(path)).collect()
}

/// Certificate and key, ready for use.
#[derive(Debug)]
pub struct Material {
    config: Arc<ServerConfig>,
    /// When the first certificate of the chain expires, seconds since 1970.
    pub expires_seconds: i64,
}

impl Material {
    /// Reads what the settings name; `None` where TLS is off.
    ///
    /// # Errors
    ///
    /// [`TlsError`] for the first that cannot be used.
    pub fn load(options: &Options) -> Result<Option<Self>, TlsError> {
        let is_empty = |path: &Path| path.as_os_str().is_empty();
        let half = |missing, given| Err(TlsError::Half { missing, given });
        match (is_empty(&options.cert_file), is_empty(&options.key_file)) {
            (true, true) if is_empty(&options.client_ca_file) => return Ok(None),
            (true, true) => return half("cert_file", "client_ca_file"),
            (true, false) => return half("cert_file", "key_file"),
            (false, true) => return half("key_file", "cert_file"),
            (false, false) => {}
        }
        let chain = certificates("cert_file", &options.cert_file)?;
        let mut expires_seconds = i64::MAX;
        for certificate in &chain {
            let expires = validity::not_after(certificate).ok_or_else(|| {
                content("cert_file", &options.cert_file, "holds a certificate without validity")
            })?;
            expires_seconds = expires_seconds.min(expires);
        }
        let config = Arc::new(config(options, chain)?);
        Ok(Some(Self { config, expires_seconds }))
    }
}

fn config(
    options: &Options,
    chain: Vec<CertificateDer<'static>>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let text = read("key_file", &options.key_file)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_none| {
        let what = "holds no private key in PEM that can be read: PKCS#8, SEC1 or PKCS#1 (RSA), not \
                    encrypted";
        content("key_file", &options.key_file, what)
    })?;
    let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { cert: options.cert_file.clone(), key: options.key_file.clone() }
        }
        rustls::Error::InvalidCertificate(what) => {
            let what = format!("holds no certificate that can be used: {what}");
            content("cert_file", &options.cert_file, what)
        }
        other => {
            let what = format!("holds no key that can be used: {other}");
            content("key_file", &options.key_file, what)
        }
    })?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .expect("ring has suites for both versions");
    let builder = if options.client_ca_file.as_os_str().is_empty() {
        builder.with_no_client_auth()
    } else {
        builder.with_client_cert_verifier(client_verifier(options, provider)?)
    };
    let mut config =
        builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn client_verifier(
    options: &Options,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let (key, path) = ("client_ca_file", &options.client_ca_file);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, path)? {
        roots.add(certificate).map_err(|error| content(key, path, error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| content(key, path, error.to_string()))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(key, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| content(key, path, format!("is not PEM: {error}")))?;
    if all.is_empty() {
        return Err(content(key, path, "holds no certificate in PEM"));
    }
    Ok(all)
}

fn content(key: &'static str, path: &Path, what: impl Into<String>) -> TlsError {
    TlsError::Content { key, path: path.to_owned(), what: what.into() }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { key, path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

/// What handshakes use, replaced as a whole.
#[derive(Debug)]
pub struct Tls(RwLock<Arc<ServerConfig>>);

impl Tls {
    /// Handshakes with this.
    pub fn new(material: Material) -> Self {
        Self(RwLock::new(material.config))
    }

    /// What the next handshake uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on, handshakes use this.
    pub fn replace(&self, material: Material) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = material.config;
    }
}
