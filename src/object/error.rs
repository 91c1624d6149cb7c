//! Why a store does not do what it is asked.

use crate::base::class::Class;

/// An object could not be written or read. Whoever asked over the network is told [`Self::plain`]: the
/// chain of causes has paths of this machine and the words of a library.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", whole(place, key))]
pub struct ObjectError {
    what: &'static str,
    place: String,
    key: String,
    trouble: Trouble,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What is wrong, for whoever decides whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no such bucket or object.
    NotFound,
    /// The credentials do not do.
    Denied,
    /// The object is another one than when it was listed.
    Changed,
    /// The name is no key.
    Invalid,
    /// It belongs to somebody else.
    Taken,
    /// Whatever may pass: the store is away, or too busy.
    Away,
}

/// What is done when the settings' own secret is read, which no client knows of.
pub(super) const READ_SECRET: &str = "read the secret in";

/// What a store in a directory stands in was there when it was opened.
#[derive(Debug, thiserror::Error)]
#[error("its folder is gone: put it back, or mount it again")]
struct Gone;

/// Place and key, of which one may be unknown.
fn whole(place: &str, key: &str) -> String {
    let separator = if place.is_empty() || key.is_empty() { "" } else { "/" };
    format!("{place}{separator}{key}")
}

impl ObjectError {
    /// What was tried, on which bucket and key, and why it failed, in words that show nothing of the
    /// machine that tried.
    pub fn plain(&self) -> String {
        if self.what == READ_SECRET {
            return "the server cannot read its own credentials for object stores".to_owned();
        }
        format!("{self}: {}", self.cause())
    }

    fn cause(&self) -> String {
        let status =
            status_in(&self.source.to_string()).map(|status| format!(" (status {status})"));
        let status = status.unwrap_or_default();
        match self.trouble {
            // What is written was not there before: only its bucket can be missed.
            Trouble::NotFound if matches!(self.what, "list" | "open" | "write") => {
                "there is no such bucket".to_owned()
            }
            Trouble::NotFound => "there is no such object".to_owned(),
            Trouble::Denied => format!("access is denied{status}"),
            Trouble::Changed => "it is another object than when it was listed".to_owned(),
            Trouble::Taken => "it is another gateway's".to_owned(),
            Trouble::Invalid if self.source.is::<std::io::Error>() => self.source.to_string(),
            Trouble::Invalid => "no part of a key may be empty, . or ..".to_owned(),
            Trouble::Away => format!("{}{status}", self.absence()),
        }
    }

    /// What an object says makes its store of no use; `told` says to the operator why, and what to do.
    pub(crate) fn told(
        place: &str,
        key: &str,
        trouble: Trouble,
        told: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { trouble, ..Self::new("use", place, key, told) }
    }

    /// Why a store is away.
    fn absence(&self) -> String {
        if self.source.is::<Gone>() {
            return self.source.to_string();
        }
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&*self.source);
        while let Some(cause) = next {
            if cause.is::<tokio::time::error::Elapsed>() {
                return "it did not answer in time".to_owned();
            }
            let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            if let Some(kind) = kind.filter(|kind| *kind != std::io::ErrorKind::Other) {
                return kind.to_string();
            }
            next = cause.source();
        }
        "the store is away".to_owned()
    }

    /// Who must act: a store that is away comes back, so the caller tries again.
    pub const fn class(&self) -> Class {
        Class::Busy
    }

    /// What is wrong.
    pub const fn trouble(&self) -> Trouble {
        self.trouble
    }

    /// An error with what the system said.
    pub(super) fn new(
        what: &'static str,
        place: &str,
        key: &str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let (place, key) = (place.to_owned(), key.to_owned());
        Self { what, place, key, trouble: Trouble::Away, source: Box::new(source) }
    }

    /// An error of the crate.
    pub(super) fn of(
        what: &'static str,
        place: &str,
        key: &str,
        source: object_store::Error,
    ) -> Self {
        Self { trouble: trouble_of(&source), ..Self::new(what, place, key, source) }
    }

    /// There is no such bucket.
    pub(super) fn no_bucket(bucket: &str) -> Self {
        let source = std::io::Error::other("there is no such bucket");
        Self { trouble: Trouble::NotFound, ..Self::new("open", "", bucket, source) }
    }

    /// The directory of a store is not there any more.
    pub(super) fn gone(what: &'static str, place: &str, key: &str) -> Self {
        Self::new(what, place, key, Gone)
    }

    /// The object is not the one that was listed.
    pub(super) fn changed(place: &str, key: &str) -> Self {
        let source = std::io::Error::other("the object is not the one that was listed");
        Self { trouble: Trouble::Changed, ..Self::new("read", place, key, source) }
    }

    /// A name that belongs to a file elsewhere.
    pub(super) fn outside(what: &'static str, place: &str, key: &str) -> Self {
        Self::invalid(what, place, key, "a symbolic link leads out of its folder")
    }

    /// A name, or a URL, of another form.
    pub(super) fn invalid(
        what: &'static str,
        place: &str,
        name: &str,
        right: &'static str,
    ) -> Self {
        let source = std::io::Error::other(right);
        Self { trouble: Trouble::Invalid, ..Self::new(what, place, name, source) }
    }
}

fn trouble_of(error: &object_store::Error) -> Trouble {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => Trouble::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Trouble::Denied,
        Error::Precondition { .. } => Trouble::Changed,
        Error::InvalidPath { .. } => Trouble::Invalid,
        Error::Generic { .. } => trouble_in(&error.to_string()),
        _ => Trouble::Away,
    }
}

/// What a server said to a listing: the crate has no variant for a bucket that is not there or not ours,
/// and the type of its error is its own, so the status is looked for in the words.
fn trouble_in(words: &str) -> Trouble {
    match status_in(words) {
        Some("404") => Trouble::NotFound,
        Some("401" | "403") => Trouble::Denied,
        _ => Trouble::Away,
    }
}

/// The status that a server answered with, in what the crate says of it: `.. status code: 404 Not Found`,
/// `.. error response 500 ..`, `.. with status 403 Forbidden`.
fn status_in(words: &str) -> Option<&str> {
    let marks = ["status code: ", "with status ", "error response "];
    let (_, status) = marks.iter().find_map(|mark| words.split_once(mark))?;
    let status = status.get(..3)?;
    status.bytes().all(|byte| byte.is_ascii_digit()).then_some(status)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::object::{Buckets, Object, Options};

    /// Answers every request with this status.
    fn server(status: &'static str) -> (String, crate::base::thread::Thread) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = crate::base::thread::Thread::spawn("s3", move || {
            // One connection for each of the three calls below, since each is closed.
            for stream in listener.incoming().take(3) {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let _read = stream.read(&mut request).unwrap();
                let head = "Content-Length: 5\r\nConnection: close\r\n\r\n<x/>\n";
                write!(stream, "HTTP/1.1 {status}\r\n{head}").unwrap();
            }
        });
        (url, thread.unwrap())
    }

    #[test]
    fn a_bucket_that_is_denied_or_not_there_is_no_store_that_is_away() {
        for (status, trouble) in
            [("403 Forbidden", Trouble::Denied), ("404 Not Found", Trouble::NotFound)]
        {
            let (endpoint, thread) = server(status);
            let secret = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(secret.path(), "secret\n").unwrap();
            let secret_access_key_file = secret.path().to_owned();
            let access_key_id = "key".to_owned();
            let options =
                Options { endpoint, access_key_id, secret_access_key_file, ..Options::default() };
            let store = Buckets::open("s3://", &options).unwrap().bucket("mine", None).unwrap();
            let object = Object { key: "a".to_owned(), bytes: 1, tag: String::new() };
            assert_eq!(store.objects("a", 1).unwrap_err().trouble(), trouble);
            assert_eq!(store.get_range(&object, 0..1).unwrap_err().trouble(), trouble);
            let error = store.put("a", vec![1]).unwrap_err();
            assert_eq!(error.trouble(), trouble);
            let expected = match trouble {
                Trouble::Denied => "cannot write s3://mine/a: access is denied (status 403)",
                _ => "cannot write s3://mine/a: there is no such bucket",
            };
            assert_eq!(error.plain(), expected);
            thread.join().unwrap();
        }
    }

    #[test]
    fn what_a_client_is_told_names_bucket_and_key_and_shows_nothing_of_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let url = dir.path().display().to_string();
        std::fs::create_dir(dir.path().join("mine")).unwrap();
        let buckets = Buckets::open(&url, &Options::default()).unwrap();
        let store = buckets.bucket("mine", None).unwrap();
        assert_eq!(store.place(), "mine");
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let secret_access_key_file = dir.path().join("secret");
        std::fs::write(&secret_access_key_file, "secret").unwrap();
        let (endpoint, access_key_id) = (format!("http://{free}"), "key".to_owned());
        let away =
            Options { endpoint, access_key_id, secret_access_key_file, ..Options::default() };
        let away = Buckets::open("s3://", &away).unwrap().bucket("away", None).unwrap();
        let no_secret = Options {
            access_key_id: "key".to_owned(),
            secret_access_key_file: dir.path().join("none"),
            ..Options::default()
        };
        let no_secret = Buckets::open("s3://", &no_secret).unwrap().bucket("b", None);
        for (error, told) in [
            (store.get("a/b").unwrap_err(), "cannot read mine/a/b: there is no such object"),
            (
                store.get("../b").unwrap_err(),
                "cannot read mine/../b: no part of a key may be empty, . or ..",
            ),
            (buckets.bucket("no", None).unwrap_err(), "cannot open no: there is no such bucket"),
            (
                buckets.bucket("a/b", None).unwrap_err(),
                "cannot open a/b: a bucket is named by one word",
            ),
            (away.objects("x", 1).unwrap_err(), "cannot list s3://away/x: connection refused"),
            (
                no_secret.unwrap_err(),
                "the server cannot read its own credentials for object stores",
            ),
        ] {
            assert_eq!(error.plain(), told);
            assert!(!error.plain().contains(&url));
        }
    }
}
