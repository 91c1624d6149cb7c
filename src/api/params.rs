//! The query string, decoded.

use std::ops::Range;

use super::fault::Fault;

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
    fn flags_are_true_or_false() {
        let params = Params::parse("a=true&b=0&c=maybe").unwrap();
        assert_eq!(params.flag("a", false).ok(), Some(true));
        assert_eq!(params.flag("b", true).ok(), Some(false));
        assert_eq!(params.flag("d", true).ok(), Some(true));
        assert!(params.flag("c", true).is_err());
    }
}
