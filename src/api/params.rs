//! The query string, decoded.

use std::ops::Range;

use super::fault::Fault;
use crate::base::near::nearest;

/// Most parameters of one query string; real clients send fewer than ten.
const PARAMETERS_MAX: usize = 64;

/// The parameters of a query string or form, in the order in which they came.
///
/// It may hold a password (`p`), so it does not print.
#[derive(Clone, Default)]
pub struct Params {
    /// All names and values, decoded. In one piece, since each request has some.
    text: String,
    /// Where in it a name and its value stand.
    pairs: Vec<(Range<usize>, Range<usize>)>,
}

impl Params {
    /// Reads `name=value&name=value`, with `%XX` and `+` decoded.
    ///
    /// # Errors
    ///
    /// [`Fault`] 400 when an escape is malformed, the text is not UTF-8, or there are too many. The
    /// message names no value, since one may be a password.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut params = Self::default();
        params.text.reserve_exact(text.len());
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if params.pairs.len() == PARAMETERS_MAX {
                return Err(Fault::invalid(format!("more than {PARAMETERS_MAX} query parameters")));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name, &mut params.text).ok_or_else(|| {
                Fault::invalid("a query parameter's name is not valid percent-encoded UTF-8")
            })?;
            let value = decode(value, &mut params.text).ok_or_else(|| {
                let name = &params.text[name.clone()];
                Fault::invalid(format!(
                    "query parameter {name:?} is not valid percent-encoded UTF-8: write % as %25"
                ))
            })?;
            params.pairs.push((name, value));
        }
        Ok(params)
    }

    fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = |range: &Range<usize>| &self.text[range.clone()];
        self.pairs.iter().map(move |(name, value)| (text(name), text(value)))
    }

    /// The names, in the order in which they came.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all().map(|(name, _)| name)
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The first value of `name`, or the empty text.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Refuses what an endpoint of our own has no use for. Passed over, a `tabel=` would put records where
    /// nobody looks for them, and of two values one would count without a word. `InfluxDB` and those that
    /// follow it pass over unknown ones, so their paths do here.
    ///
    /// `known` are the endpoint's own; those by which somebody says who they are, `u` and `p`, are of all.
    ///
    /// # Errors
    ///
    /// [`Fault`] 400 for a name that is none of them, or comes twice. The message has no value.
    pub fn only(&self, known: &[&str]) -> Result<(), Fault> {
        let of_callers = ["u", "p"];
        for (at, (name, _)) in self.all().enumerate() {
            if self.all().take(at).any(|(before, _)| before == name) {
                return Err(Fault::invalid(format!("parameter {name:?} comes twice: send one")));
            }
            if known.contains(&name) || of_callers.contains(&name) {
                continue;
            }
            let what = format!("there is no parameter {name:?} here");
            let right = match (nearest(name, known.iter().copied()), known) {
                (Some(meant), _) => format!("did you mean {meant}? There are {}", known.join(", ")),
                (None, []) => "send none".to_owned(),
                (None, known) => format!("there are {}", known.join(", ")),
            };
            return Err(Fault::invalid(format!("{what}: {right}")));
        }
        Ok(())
    }

    /// All that they ask, for comparison: sorted by name, without what says who asks (`u` and `p`).
    pub fn asked(&self) -> String {
        let mut all: Vec<_> = self.all().filter(|(name, _)| !matches!(*name, "u" | "p")).collect();
        // Stable: of one that comes twice the first counts.
        all.sort_by_key(|(name, _)| *name);
        format!("{all:?}")
    }

    /// The value of a parameter that is true or false; `default` where it is missing.
    ///
    /// # Errors
    ///
    /// [`Fault`] 400 when it is neither.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Fault> {
        match self.get(name) {
            None => Ok(default),
            Some("true" | "1" | "t") => Ok(true),
            Some("false" | "0" | "f") => Ok(false),
            Some(found) => {
                Err(Fault::invalid(format!("invalid {name} {found:?} (use true or false)")))
            }
        }
    }
}

/// Decodes `text` onto the end of `onto`, and tells where it stands. `None` when an escape is malformed or
/// the result is not UTF-8.
fn decode(text: &str, onto: &mut String) -> Option<Range<usize>> {
    let start = onto.len();
    // Nearly all are as they are.
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        onto.push_str(text);
        return Some(start..onto.len());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let (digits, tail) = tail.split_first_chunk::<2>()?;
                out.push(nibble(digits[0])? << 4 | nibble(digits[1])?);
                rest = tail;
            }
            other => out.push(other),
        }
    }
    onto.push_str(std::str::from_utf8(&out).ok()?);
    Some(start..onto.len())
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_one_counts() {
        let params = Params::parse("db=a%2Fb&q=SHOW+DATABASES&db=c&empty=&flag&&x=%C3%A4").unwrap();
        assert_eq!(params.get("db"), Some("a/b"));
        assert_eq!(params.get("q"), Some("SHOW DATABASES"));
        assert_eq!(params.get("empty"), Some(""));
        assert_eq!(params.get("flag"), Some(""));
        assert_eq!(params.get("x"), Some("ä"));
        assert_eq!(params.get("none"), None);
    }

    #[test]
    fn what_is_asked_is_the_same_in_any_order_and_holds_no_password() {
        let asked = |text| Params::parse(text).unwrap().asked();
        assert_eq!(asked("db=a&org=b&u=me&p=secret"), asked("org=b&db=a"));
        assert_ne!(asked("db=a&org=b"), asked("db=a&org=c"));
        assert_ne!(asked("db=a&db=b"), asked("db=b&db=a"));
        assert!(!asked("db=a&p=secret").contains("secret"));
    }

    #[test]
    fn malformed_escapes_are_refused_without_their_value() {
        for text in ["p=%", "p=%4", "p=%zz", "p=secret%ff"] {
            let fault = Params::parse(text).err().unwrap();
            assert_eq!(fault.status().as_u16(), 400, "{text}");
            assert!(!fault.message.contains("secret"));
        }
        assert!(Params::parse(&"a=1&".repeat(PARAMETERS_MAX + 1)).is_err());
    }

    #[test]
    fn what_an_endpoint_has_not_is_refused_by_name_and_without_its_value() {
        let said = |text, known: &[&str]| {
            let fault = Params::parse(text).unwrap().only(known).unwrap_err();
            assert_eq!(fault.status().as_u16(), 400);
            assert!(!fault.message.contains("s3cret"), "{}", fault.message);
            fault.message
        };
        let known = ["db", "table", "precision"];
        assert_eq!(
            said("db=a&tabel=s3cret", &known),
            "there is no parameter \"tabel\" here: did you mean table? There are db, table, precision"
        );
        assert_eq!(
            said("org=s3cret", &known),
            "there is no parameter \"org\" here: there are db, table, precision"
        );
        assert_eq!(
            said("verbose=s3cret", &[]),
            "there is no parameter \"verbose\" here: send none"
        );
        assert_eq!(said("db=a&db=s3cret", &known), "parameter \"db\" comes twice: send one");
        assert_eq!(said("p=a&p=s3cret", &known), "parameter \"p\" comes twice: send one");
        for text in ["", "db=a", "u=me&p=s3cret&db=a&table=", "precision=ns"] {
            assert!(Params::parse(text).unwrap().only(&known).is_ok(), "{text}");
        }
    }

    #[test]
    fn flags_are_true_or_false() {
        let params = Params::parse("a=true&b=0&c=maybe").unwrap();
        assert_eq!(params.flag("a", false).ok(), Some(true));
        assert_eq!(params.flag("b", true).ok(), Some(false));
        assert_eq!(params.flag("d", true).ok(), Some(true));
        assert!(params.flag("c", true).is_err());
    }
}
