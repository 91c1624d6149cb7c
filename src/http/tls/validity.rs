//! Until when a certificate holds, read out of its DER.
//!
//! ```text
//! Certificate    SEQUENCE { TBSCertificate, .. }
//! TBSCertificate SEQUENCE { [0] version OPTIONAL, INTEGER serial, SEQUENCE algorithm, SEQUENCE issuer,
//!                           SEQUENCE { notBefore, notAfter }, .. }
//! a time         UTCTime "YYMMDDHHMMSSZ" | GeneralizedTime "YYYYMMDDHHMMSSZ"
//! ```
//!
//! Source: RFC 5280, 4.1; X.690, 8.1 and 10.1.

/// Tags of DER.
const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// When the certificate in `der` expires, seconds since 1970; `None` where it is none.
pub fn not_after(der: &[u8]) -> Option<i64> {
    let (certificate, _) = content_of(SEQUENCE, der)?;
    let (tbs, _) = content_of(SEQUENCE, certificate)?;
    // Version 1 leaves its number out.
    let rest = content_of(VERSION, tbs).map_or(tbs, |(_, rest)| rest);
    let (_, rest) = content_of(INTEGER, rest)?;
    let (_, rest) = content_of(SEQUENCE, rest)?;
    let (_, rest) = content_of(SEQUENCE, rest)?;
    let (validity, _) = content_of(SEQUENCE, rest)?;
    let (_, _, after) = element(validity)?;
    let (tag, text, _) = element(after)?;
    let text = std::str::from_utf8(text).ok()?;
    match tag {
        // Source: RFC 5280, 4.1.2.5.1: 50 and more are of the twentieth century.
        UTC_TIME if text.get(..2)? >= "50" => seconds(&format!("19{text}")),
        UTC_TIME => seconds(&format!("20{text}")),
        GENERALIZED_TIME => seconds(text),
        _ => None,
    }
}

fn seconds(text: &str) -> Option<i64> {
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    // 99991231235959Z, which stands for "never", is past what a timestamp can say.
    // Source: RFC 5280, 4.1.2.5.
    let zoned = time.to_zoned(jiff::tz::TimeZone::UTC);
    Some(zoned.map_or(jiff::Timestamp::MAX, |time| time.timestamp()).as_second())
}

/// The content of the first element, which must have this tag, and what follows it.
fn content_of(wanted: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(der)?;
    (tag == wanted).then_some((content, rest))
}

/// Tag and content of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        // Four bytes of length are more than any certificate has.
        let digits = usize::from(first & 0x7f);
        let bytes = rest.get(..digits).filter(|bytes| (1..=4).contains(&bytes.len()))?;
        rest = rest.get(digits..)?;
        bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
    };
    Some((tag, rest.get(..length)?, rest.get(length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element of DER.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap();
        let mut bytes = vec![tag, 0x82, (length >> 8) as u8, (length & 0xff) as u8];
        bytes.extend_from_slice(content);
        bytes
    }

    fn certificate(version: &[u8], tag: u8, not_after: &str) -> Vec<u8> {
        let validity = [der(UTC_TIME, b"200101000000Z"), der(tag, not_after.as_bytes())].concat();
        let tbs = [
            version.to_vec(),
            der(INTEGER, &[1]),
            der(SEQUENCE, b"alg"),
            der(SEQUENCE, b"issuer"),
            der(SEQUENCE, &validity),
        ];
        der(SEQUENCE, &der(SEQUENCE, &tbs.concat()))
    }

    #[test]
    fn every_form_of_a_time_is_read() {
        let version = der(VERSION, &[2, 1, 2]);
        let never = jiff::Timestamp::MAX.as_second();
        for (version, tag, text, expected) in [
            (&version[..], UTC_TIME, "700101000001Z", Some(1)),
            (&[][..], UTC_TIME, "700101000001Z", Some(1)),
            (&version, UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (&version, GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (&version, GENERALIZED_TIME, "99991231235959Z", Some(never)),
            (&version, GENERALIZED_TIME, "20501301000000Z", None),
            (&version, UTC_TIME, "", None),
            (&version, UTC_TIME, "ä", None),
            (&version, INTEGER, "700101000001Z", None),
        ] {
            assert_eq!(not_after(&certificate(version, tag, text)), expected, "{text}");
        }
    }

    #[test]
    fn a_certificate_that_is_cut_or_bent_is_none_and_no_panic() {
        let whole = certificate(&der(VERSION, &[2, 1, 2]), UTC_TIME, "700101000001Z");
        for end in 0..whole.len() {
            assert_eq!(not_after(&whole[..end]), None, "{end}");
        }
        for at in 0..whole.len() {
            for bent in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = bent;
                // Whatever it says: it says something.
                let _seen: Option<i64> = not_after(&bytes);
            }
        }
    }
}
