//! An upstream behind TLS, whose certificate comes from nobody the system knows.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::common::wait_for;
use crate::{House, LONG, gateway_place_at, recent_ns};

/// Ends TLS in front of the upstream, until it is dropped.
struct Terminator {
    port: u16,
    _runtime: Runtime,
}

impl Terminator {
    fn before(upstream: SocketAddr, dir: &Path) -> Self {
        let certificate = CertificateDer::from_pem_file(dir.join("server.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not like the certificate goes away.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
                    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                });
            }
        });
        Self { port, _runtime: runtime }
    }
}

/// Makes certificates that sign themselves, for `localhost`.
fn certificates(dir: &Path) {
    for name in ["server", "other"] {
        let output = Command::new("openssl")
            .current_dir(dir)
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
            .output()
            .expect("openssl starts; tests/run.sh installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Records go to nobody whose certificate comes from somewhere else, and wait.
#[test]
fn an_upstream_is_believed_by_the_authorities_that_the_settings_name() {
    let house = House::new("");
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let terminator = Terminator::before(house.proxy.address, dir.path());
    let endpoint = format!("https://localhost:{}", terminator.port);
    let time_ns = recent_ns();
    let empty = dir.path().join("empty.crt");
    std::fs::write(&empty, "nothing").unwrap();
    for (ca, is_believed) in [
        (None, false),
        (Some("other.crt"), false),
        (Some("empty.crt"), false),
        (Some("server.crt"), true),
    ] {
        let engine = ca.map_or_else(String::new, |ca| {
            format!("ca_file = '{}'\n", dir.path().join(ca).display())
        });
        let place = gateway_place_at(&endpoint, &engine, "");
        let server = place.start();
        server.write("fleet", &format!("cpu,host=h n=1i {time_ns}"));
        if is_believed {
            wait_for("the record to arrive", LONG, || {
                house.stored_or_none("cpu").filter(|stored| stored.len() == 1)
            });
        } else {
            let told = wait_for("the trouble to be told", LONG, || {
                let text = server.client().get("/health").unwrap().text();
                text.contains("nothing is stored since").then_some(text)
            });
            let is_named = ca != Some("empty.crt") || told.contains("has no certificate");
            assert!(is_named, "{told}");
            assert_eq!(house.proxy.requests(), 0, "nothing was sent there: {ca:?}");
        }
        server.kill();
    }
}
