//! A certificate authority of the test's own, made by `openssl`, and a client that trusts it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::common::volume::run;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with `ca.pem`, and with what it signs.
#[derive(Debug)]
pub(crate) struct Authority {
    dir: TempDir,
}

/// How a key is made, and how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// P-256 in PKCS#8.
    Pkcs8,
    /// P-256 in SEC1.
    Sec1,
    /// RSA in PKCS#1.
    Rsa,
    /// Ed25519 in PKCS#8.
    Ed25519,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self { dir: tempfile::tempdir().expect("a folder can be made") };
        authority.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-days",
            "30",
            "-subj",
            "/CN=test authority",
        ]);
        authority
    }

    /// Runs `openssl` in the folder.
    pub(crate) fn openssl(&self, arguments: &[&str]) -> String {
        run(Command::new("openssl").current_dir(self.dir.path()).args(arguments))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Signs a certificate for this machine: `<name>.pem` and `<name>.key`, for so many days.
    pub(crate) fn sign(&self, name: &str, key: Key, days: u32) -> (PathBuf, PathBuf) {
        let [key_file, pem, request] = ["key", "pem", "csr"].map(|end| format!("{name}.{end}"));
        match key {
            Key::Rsa => self.openssl(&["genrsa", "-traditional", "-out", &key_file, "2048"]),
            Key::Sec1 => self.openssl(&[
                "ecparam",
                "-genkey",
                "-noout",
                "-name",
                "prime256v1",
                "-out",
                &key_file,
            ]),
            Key::Pkcs8 => self.openssl(&[
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-out",
                &key_file,
            ]),
            Key::Ed25519 => self.openssl(&["genpkey", "-algorithm", "ED25519", "-out", &key_file]),
        };
        std::fs::write(
            self.file("names"),
            "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n",
        )
        .expect("it can be written");
        let subject = format!("/CN={name}");
        self.openssl(&["req", "-new", "-key", &key_file, "-subj", &subject, "-out", &request]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            &days.to_string(),
            "-extfile",
            "names",
            "-out",
            &pem,
        ]);
        (self.file(&pem), self.file(&key_file))
    }

    /// A connection to `address` that trusts this authority alone, with the certificate `own` if any.
    pub(crate) fn connect(
        &self,
        address: SocketAddr,
        own: Option<&str>,
    ) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.ca()).expect("openssl wrote it");
        roots.add(ca).expect("it is an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let [pem, key] = ["pem", "key"].map(|end| self.file(&format!("{name}.{end}")));
                let chain = vec![CertificateDer::from_pem_file(pem).expect("openssl wrote it")];
                let key = PrivateKeyDer::from_pem_file(key).expect("openssl wrote it");
                builder.with_client_auth_cert(chain, key).expect("they fit")
            }
        };
        let name = ServerName::IpAddress(address.ip().into());
        let connection = ClientConnection::new(Arc::new(config), name).expect("it can be made");
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    /// Whose certificate the server shows now.
    pub(crate) fn shown(&self, address: SocketAddr) -> Vec<u8> {
        let stream = self.connect(address, None).expect("a handshake");
        let chain = stream.conn.peer_certificates().expect("a server shows one");
        chain[0].as_ref().to_vec()
    }
}

/// The certificate in a file, as it goes over the wire.
pub(crate) fn der(pem: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(pem).expect("openssl wrote it").as_ref().to_vec()
}

/// Asks for a path on a connection that stays open; the whole answer to a request whose body is short.
pub(crate) fn ask(
    stream: &mut StreamOwned<ClientConnection, TcpStream>,
    request: &str,
) -> io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().expect("a number")) {
                return Ok(text.into_owned());
            }
        }
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..read]);
    }
}
