//! A headless Chromium, driven over its debugging pipe: messages of JSON, each ended by a zero byte.
//! Source: the protocol of Chrome's developer tools.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::common::gateway::{Place, kill};

/// A browser with one page. Killed when dropped.
pub(crate) struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    calls: u64,
    session: Option<String>,
    /// Errors of the page, and what its policy has kept from it.
    complaints: Vec<String>,
}

impl Browser {
    pub(crate) fn start(place: &Place) -> Self {
        let [to, from] = ["browser.in", "browser.out"].map(|name| place.file(name));
        let made = Command::new("mkfifo").args([&to, &from]).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo {} fails", to.display());
        let log = File::create(place.file("browser.log")).expect("a log file can be made");
        // The browser wants its pipe as descriptors 3 and 4, which a shell can give it.
        let child = Command::new("bash")
            .arg("-c")
            .arg(
                "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
                 --remote-debugging-pipe --user-data-dir=\"$2\" 3<\"$0\" 4>\"$1\"",
            )
            .args([&to, &from, &place.file("browser")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("bash starts");
        // In the order in which the shell opens them: each waits for the other end.
        let to = fs::OpenOptions::new().write(true).open(to).expect("a pipe opens");
        let from = BufReader::new(File::open(from).expect("a pipe opens"));
        Self { child, to, from, calls: 0, session: None, complaints: Vec::new() }
    }

    /// Opens `url` in a new page, which later calls are about.
    pub(crate) fn open(&mut self, url: &str) {
        self.session = None;
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.call("Target.attachToTarget", &attach)["sessionId"].clone();
        self.session = session.as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), &json!({}));
        }
        self.call("Page.navigate", &json!({ "url": url }));
    }

    /// What an expression of JavaScript is in the page.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", &asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text of the element with this id.
    pub(crate) fn text(&mut self, id: &str) -> String {
        let text = self.eval(&format!("document.getElementById('{id}')?.innerText ?? ''"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// A window of this width, bright or dark.
    pub(crate) fn look(&mut self, width: u32, scheme: &str) {
        let height = if width < 600 { 844 } else { 1100 };
        let window = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &window);
        let scheme = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", &json!({ "features": [scheme] }));
    }

    /// The whole page as a PNG.
    pub(crate) fn shoot(&mut self, file: &Path) {
        let asked = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.call("Page.captureScreenshot", &asked);
        let bytes = BASE64.decode(shot["data"].as_str().unwrap_or_default()).expect("base 64");
        fs::write(file, bytes).expect("a picture can be written");
    }

    /// What the page complained of so far.
    pub(crate) fn complaints(&self) -> &[String] {
        &self.complaints
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser listens");
        loop {
            let mut answer = Vec::new();
            self.from.read_until(0, &mut answer).expect("the browser answers");
            assert_eq!(answer.pop(), Some(0), "the browser has ended: see browser.log");
            let answer: Value = serde_json::from_slice(&answer).expect("the browser sends JSON");
            if answer["id"] == self.calls {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.hear(&answer);
        }
    }

    fn hear(&mut self, event: &Value) {
        let is_complaint = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        if is_complaint {
            self.complaints.push(event["params"].to_string());
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}
