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
        _ => Trouble::Away,
    }
}
