//! Azurite, Microsoft's emulator of Azure Blob Storage, which `tests/run.sh` installs.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::gateway::Place;
use super::wait_for;

/// Longest time until it answers, on a busy machine.
const START_MAX: Duration = Duration::from_mins(2);

/// The account and the key that Azurite knows. Source: its README, "Default Storage Account".
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// An account of Azure Blob Storage in memory. Killed when dropped.
pub(crate) struct Azurite {
    child: Child,
    /// Where its containers are.
    pub(crate) url: String,
}

impl Azurite {
    pub(crate) fn start() -> Self {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.tools");
        let program = tools.join("azurite/node_modules/azurite/dist/src/blob/main.js");
        assert!(program.exists(), "there is no {}: tests/run.sh installs it", program.display());
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = free.expect("there is a free port");
        let child = Command::new(tools.join("node"))
            .arg(program)
            .args(["--silent", "--inMemoryPersistence", "--skipApiVersionCheck"])
            .args(["--disableTelemetry", "--blobHost", "127.0.0.1"])
            .args(["--blobPort", &address.port().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("node, which tests/run.sh installs");
        let azurite = Self { child, url: format!("http://{address}/{ACCOUNT}") };
        wait_for("Azurite to answer", START_MAX, || TcpStream::connect(address).ok());
        azurite
    }

    /// The section `[object]` with which a gateway finds it; the key is put into a file of `place`.
    pub(crate) fn settings(&self, place: &Place) -> String {
        let secret = place.file("secret");
        std::fs::write(&secret, KEY).expect("a file can be written");
        let (url, secret) = (&self.url, secret.display().to_string());
        format!(
            "[object]\nendpoint = {url:?}\naccess_key_id = {ACCOUNT:?}\n\
             secret_access_key_file = {secret:?}\n"
        )
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
