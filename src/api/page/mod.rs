//! The status page: what a browser gets at `/`.
//!
//! One document, compiled in, that asks nobody but this server: `page.html` with `page.css` and `page.js`
//! put into it. It shows what [`super::status`] answers, and nothing of the server's own is written into
//! it, so it needs no credentials; its polling does where the server knows somebody.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::StatusCode;
use hyper::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use sha2::{Digest as _, Sha256};

use super::reply::Reply;

const HTML: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Where style and script go.
const STYLE_MARK: &str = "/*style*/";
const SCRIPT_MARK: &str = "/*script*/";

const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// The document, and the policy that lets a browser run what is in it and nothing else.
static PAGE: LazyLock<(String, HeaderValue)> = LazyLock::new(|| {
    let document = HTML.replacen(STYLE_MARK, STYLE, 1).replacen(SCRIPT_MARK, SCRIPT, 1);
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest(SCRIPT),
        digest(STYLE)
    );
    (document, HeaderValue::from_str(&policy).expect("a policy is visible ASCII"))
});

/// A text as a policy names it. Source: W3C, "Content Security Policy Level 3", 2.3.1.
fn digest(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(Sha256::digest(text.as_bytes())))
}

/// Whether somebody wants to look, as opposed to a program that takes anything.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        // A weight of nothing is a refusal. Source: RFC 9110, 12.4.2.
        let is_refused = |part: &str| {
            let weight = part.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("q"));
            weight
                .is_some_and(|(_, weight)| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0))
        };
        is_html && !parts.any(is_refused)
    })
}

/// Answers `/` to a browser.
pub fn answer() -> Reply {
    let (document, policy) = &*PAGE;
    Reply::full(StatusCode::OK, CONTENT_TYPE, document.as_str())
        .with(CONTENT_SECURITY_POLICY, policy.clone())
        .with(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
        .with(REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
        .with(CACHE_CONTROL, HeaderValue::from_static("no-cache"))
        .with(VARY, HeaderValue::from_static("Accept"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most bytes of the document: it must come at once, by a poor line too.
    const BYTES_MAX: usize = 32 << 10;

    fn accepts(value: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(value));
        is_asked_for(&headers)
    }

    #[test]
    fn browsers_get_the_page_and_programs_do_not() {
        assert!(accepts("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(accepts("Text/HTML; q=0.5"));
        for value in ["*/*", "text/plain", "application/json", "", "text/htmlx", "text/html;q=0"] {
            assert!(!accepts(value), "{value}");
        }
        assert!(!is_asked_for(&HeaderMap::new()));
    }

    #[test]
    fn the_document_is_whole_and_asks_nobody_else() {
        let (document, policy) = &*PAGE;
        assert!(!document.contains(STYLE_MARK) && !document.contains(SCRIPT_MARK));
        assert!(document.len() <= BYTES_MAX, "{} bytes", document.len());
        // The namespace of SVG is a name, not an address that is asked.
        let bare = document.replace("http://www.w3.org/2000/svg", "");
        for elsewhere in ["http:", "https:", "src=\"", "@import", "url(", "innerHTML"] {
            assert!(!bare.contains(elsewhere), "{elsewhere}");
        }
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
