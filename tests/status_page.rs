//! Promise: the status page shows a server under load, live, to whoever may see it; on a phone and in the
//! dark too. Headless Chromium opens it, from the real server.
//!
//! The pictures stay below the build folder, for whoever wants to look.

#![expect(clippy::panic, reason = "helpers of tests")]

#[path = "status_page/browser.rs"]
mod browser;
#[path = "common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use browser::Browser;
use common::client::Client;
use common::gateway::{Gateway, Place};
use common::{tell, wait_for};
use tidegate::base::clock::{Clock, SystemClock};

/// Longest time until a browser has started or a page has changed, on a busy machine.
const SHOWN_MAX: Duration = Duration::from_mins(2);

/// Polls after which a page has something to compare.
const POLLS: u64 = 4;

/// Good and bad lines of one request.
const GOOD: u64 = 50;

/// Smallest ratio of text to ground. Source: WCAG 2.2, success criterion 1.4.3, level AA.
const CONTRAST_MIN: f64 = 4.5;

/// The smallest contrast of any text that is shown, and the text.
const WORST_CONTRAST: &str = r"(() => {
  const parts = (color) => (color.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((all, c, at) => all + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const color = parts(getComputedStyle(node).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  let worst = [99, ''];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility() || ['STYLE', 'SCRIPT', 'NOSCRIPT'].includes(node.tagName)) continue;
    const pair = [light(parts(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < worst[0]) worst = [ratio, node.outerHTML.slice(0, 120)];
  }
  return worst;
})()";

/// Writes until it is dropped: good lines, a bad one, and one that conflicts with another.
struct Load {
    stop: Arc<AtomicBool>,
    /// Records acknowledged.
    taken: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    fn start(server: &Gateway) -> Self {
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (is_over, count, address) = (Arc::clone(&stop), Arc::clone(&taken), server.address);
        #[expect(clippy::disallowed_methods, reason = "a test's own thread, joined at its end")]
        let thread = spawn(move || {
            let (clock, mut client, mut round) = (SystemClock::new(), Client::new(address), 0);
            while !is_over.load(Ordering::Relaxed) {
                let line =
                    |at| format!("cpu,host=h{} usage={at} {}\n", at % 8, round * GOOD + at + 1);
                let others = format!("stand,site=a t={round} 1\ncpu,host=h1\n");
                let body: String = (0..GOOD).map(line).chain([others]).collect();
                let reply = client.post("/write?db=fleet&precision=ms", &[], body.as_bytes());
                // The bad line is named.
                assert_eq!(reply.expect("a write is answered").status, 400);
                count.fetch_add(GOOD + 1, Ordering::SeqCst);
                round += 1;
                clock.sleep(Duration::from_millis(20));
            }
        });
        Self { stop, taken, thread: Some(thread) }
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "a write was not answered as it should be"
            );
        }
    }
}

fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("status_page-{name}.png"))
}

/// A number as the page writes it.
fn number(text: &str) -> u64 {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
}

fn wait_for_polls(browser: &mut Browser, more: u64) {
    let polls = |browser: &mut Browser| {
        let polls = browser.eval("document.getElementById('polled')?.dataset.polls ?? '0'");
        polls.as_str().unwrap_or("0").parse::<u64>().unwrap_or(0)
    };
    let first = polls(browser);
    wait_for("the page to poll", SHOWN_MAX, || (polls(browser) >= first + more).then_some(()));
}

#[test]
fn figures_are_there_are_true_and_move() {
    let place = Place::new("");
    let server = place.start();
    let mut browser = Browser::start(&place);
    let load = Load::start(&server);
    browser.open(&format!("http://{}/", server.address));
    browser.look(1180, "light");
    wait_for_polls(&mut browser, POLLS);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let before = load.taken();
        wait_for_polls(&mut browser, 2);
        let shown = number(&browser.text("in-total"));
        // A request is counted by the server before its client hears of it.
        let after = load.taken() + GOOD + 1;
        assert!(
            (before..=after).contains(&shown),
            "{shown} records, and {before} to {after} were sent"
        );
        seen.push((shown, number(&browser.text("m-applied")), browser.text("in-rate")));
    }
    tell(format!("{seen:?}"));
    assert!(seen[1].0 > seen[0].0 && seen[1].1 > seen[0].1, "nothing moves: {seen:?}");
    assert!(!["–", "0", ""].contains(&seen[1].2.as_str()), "no rate: {seen:?}");
    assert_eq!(browser.text("state"), "ready");
    let marks = ["checkpoint", "applied", "durable", "appended"];
    let marks = marks.map(|mark| number(&browser.text(&format!("m-{mark}"))));
    assert!(marks.is_sorted() && marks[3] > 0, "{marks:?}");
    for (id, figure) in [("ack-p99", "s"), ("ack-p50", "s"), ("age", "s"), ("version", "0.")] {
        assert!(browser.text(id).contains(figure), "{id}: {:?}", browser.text(id));
    }
    let rows = |browser: &mut Browser, id: &str| {
        browser.eval(&format!("document.getElementById('{id}').rows.length")).as_u64()
    };
    let shards = std::thread::available_parallelism().unwrap().get() as u64;
    assert_eq!(rows(&mut browser, "shards"), Some(shards.min(64)));
    assert_eq!(rows(&mut browser, "latency"), Some(4));
    assert_eq!(
        browser.eval("document.getElementById('in-line').querySelectorAll('path').length"),
        2
    );
    let links = browser
        .eval("[...document.querySelectorAll('#reasons a')].map((a) => a.getAttribute('href'))");
    let links = links.to_string();
    for reason in ["no_measure", "version_conflict"] {
        assert!(links.contains(&format!("api/v1/rejects?reason={reason}")), "{links}");
    }
    // Whoever went to a link by keyboard is not thrown off it by the next poll.
    browser.eval("document.querySelector('#reasons a').focus()");
    wait_for_polls(&mut browser, 2);
    assert_eq!(browser.eval("document.activeElement.tagName"), "A");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    drop(load);
    server.stop();
    wait_for("the page to miss its server", SHOWN_MAX, || {
        (browser.text("state") == "not reachable").then_some(())
    });
}

#[test]
fn it_can_be_read_on_a_phone_and_in_the_dark() {
    let place = Place::new("");
    let server = place.start();
    let load = Load::start(&server);
    let mut browser = Browser::start(&place);
    browser.open(&format!("http://{}/", server.address));
    for (width, scheme, ground) in [
        (1180, "light", "rgb(243, 246, 248)"),
        (1180, "dark", "rgb(13, 21, 26)"),
        (390, "light", "rgb(243, 246, 248)"),
        (390, "dark", "rgb(13, 21, 26)"),
        (320, "dark", "rgb(13, 21, 26)"),
    ] {
        browser.look(width, scheme);
        wait_for_polls(&mut browser, 2);
        let file = picture(&format!("{width}-{scheme}"));
        browser.shoot(&file);
        assert_eq!(browser.eval("getComputedStyle(document.body).backgroundColor"), ground);
        let wide = browser.eval("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= u64::from(width), "{wide} pixels wide on {width}: {}", file.display());
        let worst = browser.eval(WORST_CONTRAST);
        let ratio = worst[0].as_f64().unwrap();
        assert!((CONTRAST_MIN..=21.0).contains(&ratio), "{width} {scheme}: {worst}");
        tell(format!("{}: least contrast {ratio:.2}", file.display()));
    }
    // Every picture has words, and every field a name.
    let unnamed =
        "[...document.querySelectorAll('[role=img]:not([aria-label]), input:not([aria-label])')]
        .filter((node) => !node.labels?.length).map((node) => node.outerHTML)";
    assert_eq!(browser.eval(unnamed).to_string(), "[]");
    drop(load);
}

#[test]
fn who_is_not_known_is_asked_for_a_token_and_sees_nothing() {
    let settings = "[auth]\n\
        tokens = [{ name = \"ops\", token = \"open-sesame\", read = [], write = [] }]\n\
        users = [{ name = \"ada\", password = \"of lovelace\", read = [], write = [] }]\n";
    let place = Place::new(settings);
    let server = place.start();
    let status = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let headers = if token.is_empty() { &[][..] } else { &headers[..] };
        server.client().request("GET", "/api/v1/status", headers, b"").unwrap()
    };
    assert_eq!([status("").status, status("wrong").status], [401, 401]);
    assert_eq!(status("open-sesame").json()["name"], "tidegate");
    let mut browser = Browser::start(&place);
    browser.open(&format!("http://{}/", server.address));
    let is_hidden = |browser: &mut Browser, id: &str| {
        browser.eval(&format!("document.getElementById('{id}').hidden")) == true
    };
    wait_for("the page to ask", SHOWN_MAX, || {
        (browser.text("state") == "asks for a token").then_some(())
    });
    assert!(is_hidden(&mut browser, "main") && !is_hidden(&mut browser, "auth"));
    browser.shoot(&picture("token"));
    let enter = |browser: &mut Browser, token: &str| {
        browser.eval(&format!(
            "document.getElementById('token').value = '{token}'; document.getElementById('auth').requestSubmit()"
        ));
    };
    enter(&mut browser, "wrong");
    wait_for("the wrong token to be refused", SHOWN_MAX, || {
        browser.text("auth-why").contains("not known").then_some(())
    });
    assert!(is_hidden(&mut browser, "main"));
    enter(&mut browser, "open-sesame");
    wait_for("the figures", SHOWN_MAX, || (!is_hidden(&mut browser, "main")).then_some(()));
    wait_for_polls(&mut browser, 2);
    assert_eq!(browser.text("state"), "ready");
    assert!(is_hidden(&mut browser, "auth"));
    assert_eq!(browser.eval("document.getElementById('token').value"), "");
    // Kept for this tab, and for this page only.
    assert_eq!(browser.eval("sessionStorage.getItem('tidegate-token')"), "open-sesame");
    assert_eq!(browser.eval("localStorage.length + document.cookie.length"), 0);
    browser.eval("document.getElementById('forget').click()");
    wait_for("the page to forget", SHOWN_MAX, || is_hidden(&mut browser, "main").then_some(()));
    assert!(browser.eval("sessionStorage.getItem('tidegate-token')").is_null());
    enter(&mut browser, "ada:of lovelace");
    wait_for("the figures for a user", SHOWN_MAX, || {
        (!is_hidden(&mut browser, "main")).then_some(())
    });
}

#[test]
fn a_browser_gets_the_page_and_a_program_the_list_of_paths() {
    let place = Place::new("");
    let server = place.start();
    let get =
        |accept: &str| server.client().request("GET", "/", &[("Accept", accept)], b"").unwrap();
    let page = get("text/html,application/xhtml+xml,*/*;q=0.8");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("vary"), Some("Accept"));
    let list = get("*/*");
    assert_eq!(list.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(list.text().contains("/api/v1/status"), "{}", list.text());
    let status = server.client().get("/api/v1/status").unwrap();
    assert_eq!(status.header("content-type"), Some("application/json; charset=utf-8"));
    let status = status.json();
    // As its module says, member by member.
    let documented = include_str!("../src/api/status.rs");
    for member in status.as_object().unwrap().keys() {
        assert!(documented.contains(&format!("`{member}`")), "{member} is not documented");
    }
    for mark in ["checkpoint", "applied", "durable", "appended"] {
        assert!(status["log"][mark].is_u64(), "{status}");
    }
    assert_eq!(status["ready"], true);
    assert_eq!(status["parts"].as_array().unwrap().len(), 3);
}
