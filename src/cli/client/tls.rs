//! TLS towards servers: whom they must be, and in plain words why a handshake failed.
//!
//! | trust | whose certificate will do |
//! |---|---|
//! | the system's authorities | one that comes from them, is in its time and names the host |
//! | `--ca-file` | the same with the authorities in the file; one that stands in the file itself needs no authority |
//! | of settings | the one in `server.tls.cert_file`, whatever it names |
//! | anybody | any; for a question without secrets to this machine itself |

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    Error, RootCertStore, SignatureScheme, StreamOwned,
};

use crate::cli::Failure;
use crate::http::tls::validity;

/// What the server of an https URL must show, and what it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Trust {
    /// Certificate authorities (PEM) that the server of an https URL must have its certificate from, or
    /// that certificate itself. Without it: the system's authorities.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Our own certificate (PEM), for a server that asks its clients for one.
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// The private key of it (PEM).
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// The certificate in `server.tls.cert_file`, where the server is that of the settings.
    #[arg(skip)]
    own: Option<PathBuf>,
}

impl Trust {
    /// Trusts what comes from the authorities in a file.
    #[cfg(test)]
    pub(super) fn of(ca_file: &Path) -> Self {
        Self { ca_file: Some(ca_file.to_owned()), ..Self::default() }
    }

    /// The same, and where no authorities were named, whoever shows the certificate in this file.
    #[must_use]
    pub fn or_own(&self, cert_file: &Path) -> Self {
        let own = self.ca_file.is_none().then(|| cert_file.to_owned());
        Self { own, ..self.clone() }
    }

    /// Whether nothing was said.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How connections to one server are encrypted.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// Where the certificate must come from, for people.
    wanted: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whose certificate will do.
#[derive(Debug)]
enum Whose {
    /// One that comes from authorities, or is one of these.
    Known(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>),
    /// This one.
    Own(CertificateDer<'static>),
    Anybody,
}

#[derive(Debug)]
struct Verifier {
    whose: Whose,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    /// Towards `host`, which `trust` must know.
    pub(super) fn new(host: &str, trust: &Trust) -> Result<Self, Failure> {
        let provider = Arc::new(ring::default_provider());
        let (whose, wanted) = match (&trust.ca_file, &trust.own) {
            (Some(file), _) => {
                let all = certificates("--ca-file", file)?;
                let wanted = format!("from no authority in {}", file.display());
                (known(all, &provider, file)?, wanted)
            }
            (None, Some(file)) => {
                let first = certificates("server.tls.cert_file", file)?.swap_remove(0);
                (Whose::Own(first), format!("not the one in {}", file.display()))
            }
            (None, None) => (
                of_system(&provider)?,
                "from no authority that the system knows; name the authority's certificate by --ca-file"
                    .to_owned(),
            ),
        };
        Self::with(host, trust, Verifier { whose, provider }, wanted)
    }

    /// Towards a server on this machine, whoever it is.
    pub(super) fn of_anybody(host: &str, trust: &Trust) -> Result<Self, Failure> {
        let provider = Arc::new(ring::default_provider());
        Self::with(host, trust, Verifier { whose: Whose::Anybody, provider }, String::new())
    }

    fn with(
        host: &str,
        trust: &Trust,
        verifier: Verifier,
        wanted: String,
    ) -> Result<Self, Failure> {
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare)
            .map_err(|error| Failure::usage(format!("https://{host}: {error}")))?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
            .with_safe_default_protocol_versions()
            .map_err(Failure::failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match (&trust.cert_file, &trust.key_file) {
            (Some(cert_file), Some(key_file)) => {
                let chain = certificates("--cert-file", cert_file)?;
                let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| {
                    let file = key_file.display();
                    Failure::usage(format!("--key-file {file}: no private key in PEM: {error}"))
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    let (cert, key) = (cert_file.display(), key_file.display());
                    Failure::usage(format!("--cert-file {cert} and --key-file {key}: {error}"))
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), name, wanted })
    }

    /// Agrees with the server at `place` on encryption.
    pub(super) fn handshake(
        &self,
        mut socket: TcpStream,
        place: &str,
    ) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(io::Error::other)?;
        while connection.is_handshaking() {
            match connection.complete_io(&mut socket) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => {
                    done.map_err(|error| self.told(error, place))?;
                }
            }
        }
        Ok(StreamOwned::new(connection, socket))
    }

    /// Why there is no connection, in words that say what to do. `InvalidData` where nothing changes by
    /// itself.
    fn told(&self, error: io::Error, place: &str) -> io::Error {
        let Some(found) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => io::Error::new(
                    error.kind(),
                    format!("{place} ended the connection in the handshake; does it speak TLS?"),
                ),
                _ => error,
            };
        };
        let what = match found {
            Error::InvalidCertificate(wrong) => self.of_certificate(wrong, place),
            Error::InvalidMessage(_) => {
                format!("{place} does not speak TLS: write http://{place}")
            }
            other => of_handshake(other, place),
        };
        io::Error::new(io::ErrorKind::InvalidData, what)
    }

    fn of_certificate(&self, wrong: &CertificateError, place: &str) -> String {
        use CertificateError as E;
        match wrong {
            // A bad signature: of another authority of the same name.
            E::UnknownIssuer | E::BadSignature => {
                format!("the certificate of {place} is {}", self.wanted)
            }
            E::Expired => format!("the certificate of {place} has expired; have it renewed"),
            E::ExpiredContext { not_after, .. } => format!(
                "the certificate of {place} expired at {}; have it renewed",
                time(*not_after)
            ),
            E::NotValidYet => {
                format!("the certificate of {place} is not valid yet; is the clock right?")
            }
            E::NotValidYetContext { not_before, .. } => format!(
                "the certificate of {place} is not valid before {}; is the clock right?",
                time(*not_before)
            ),
            E::NotValidForNameContext { presented, .. } if !presented.is_empty() => format!(
                "the certificate of {place} is not for that name, but for {}: write one of those in the URL",
                presented.join(", ")
            ),
            E::NotValidForName | E::NotValidForNameContext { .. } => {
                format!(
                    "the certificate of {place} is not for that name: write the one that it is for"
                )
            }
            // One that is its own authority, and not one of those that were named.
            other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                format!("the certificate of {place} is {}", self.wanted)
            }
            other => format!("the certificate of {place} cannot be trusted: {other}"),
        }
    }
}

/// What else goes wrong in a handshake, or in the first answer after one.
pub(super) fn of_handshake(error: &Error, place: &str) -> String {
    use AlertDescription as A;
    match error {
        Error::AlertReceived(A::CertificateRequired | A::HandshakeFailure | A::BadCertificate) => {
            format!(
                "{place} ends the handshake; it may ask its clients for a certificate: name one by \
                 --cert-file and --key-file"
            )
        }
        Error::AlertReceived(
            alert @ (A::UnknownCA | A::CertificateExpired | A::CertificateUnknown),
        ) => {
            format!("{place} does not take our certificate, that in --cert-file: {alert:?}")
        }
        other => format!("{place}: TLS: {other}"),
    }
}

fn time(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn certificates(flag: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let wrong = |what: String| Failure::usage(format!("{flag} {}: {what}", file.display()));
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| wrong(format!("it is not PEM: {error}")))?;
    if all.is_empty() { Err(wrong("it holds no certificate in PEM".into())) } else { Ok(all) }
}

fn known(
    all: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
    file: &Path,
) -> Result<Whose, Failure> {
    let wrong =
        |what: &dyn fmt::Display| Failure::usage(format!("--ca-file {}: {what}", file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in &all {
        roots.add(certificate.clone()).map_err(|error| wrong(&error))?;
    }
    let verifier = verifier(roots, provider).map_err(|error| wrong(&error))?;
    Ok(Whose::Known(verifier, all))
}

fn of_system(provider: &Arc<CryptoProvider>) -> Result<Whose, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let what = "the system has no certificate authorities: name some by --ca-file";
        return Err(Failure::usage(what));
    }
    let verifier = verifier(roots, provider).map_err(Failure::failed)?;
    Ok(Whose::Known(verifier, Vec::new()))
}

fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, tokio_rustls::rustls::server::VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.whose {
            Whose::Anybody => Ok(ServerCertVerified::assertion()),
            Whose::Own(own) if own == end_entity => Ok(ServerCertVerified::assertion()),
            Whose::Own(_) => Err(CertificateError::UnknownIssuer.into()),
            Whose::Known(_, named) if named.contains(&end_entity.clone().into_owned()) => {
                is_in_time(end_entity, now)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            Whose::Known(authorities, _) => authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate that no authority vouches for has not expired.
fn is_in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let not_after = validity::not_after(certificate).ok_or(CertificateError::BadEncoding)?;
    let not_after = u64::try_from(not_after).unwrap_or_default();
    if now.as_secs() > not_after {
        let not_after = UnixTime::since_unix_epoch(std::time::Duration::from_secs(not_after));
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    Ok(())
}
