//! Why a store does not do what it is asked.

use crate::base::class::Class;

/// An object could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {place}/{key}")]
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
    /// Whatever may pass: the store is away, or too busy.
    Away,
}

impl ObjectError {
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
    pub(super) fn no_bucket(place: &str, bucket: &str) -> Self {
        let source = std::io::Error::other("there is no such bucket");
        Self { trouble: Trouble::NotFound, ..Self::new("open", place, bucket, source) }
    }

    /// The object is not the one that was listed.
    pub(super) fn changed(place: &str, key: &str) -> Self {
        let source = std::io::Error::other("the object is not the one that was listed");
        Self { trouble: Trouble::Changed, ..Self::new("read", place, key, source) }
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
    let status = words.split_once("status code: ").map_or("", |(_, status)| status);
    match status.split(' ').next() {
        Some("404") => Trouble::NotFound,
        Some("401" | "403") => Trouble::Denied,
        _ => Trouble::Away,
    }
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
            assert_eq!(store.put("a", vec![1]).unwrap_err().trouble(), trouble);
            thread.join().unwrap();
        }
    }
}
