//! A line of JSON with its checksum before it, the form of the catalog's log and of the manifest: 8
//! lower-case hexadecimal digits of the CRC-32 of the JSON's bytes, one space, the JSON, `\n`.

const CHECKSUM_DIGITS: usize = 8;

/// The line that holds `json`, which must be one line itself.
pub(super) fn line_of(json: &str) -> Vec<u8> {
    assert!(!json.contains('\n'), "an entry is one line");
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes()
}

/// The bytes before a last line that a crash cut short: one without an end, or one with zeros, which
/// is how a file system shows bytes that it never wrote.
pub(super) fn sound_length(bytes: &[u8]) -> usize {
    let ended = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    if ended < bytes.len() {
        return ended;
    }
    let begin = bytes[..ended.saturating_sub(1)]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    if bytes[begin..ended].contains(&0) { begin } else { ended }
}

/// The JSON of a line.
///
/// # Errors
///
/// What is wrong with the line, for people: no end, no checksum, or one that does not fit.
pub(super) fn json_of(line: &[u8]) -> Result<&[u8], String> {
    let line = line.strip_suffix(b"\n").ok_or("has no end")?;
    let (checksum, json) =
        line.split_at_checked(CHECKSUM_DIGITS).ok_or("is shorter than a checksum")?;
    let json = json.strip_prefix(b" ").ok_or("has no space behind its checksum")?;
    let expected = std::str::from_utf8(checksum)
        .ok()
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or("begins with no checksum")?;
    let found = crc32fast::hash(json);
    if found != expected {
        return Err(format!("checksum {found:#010x}, expected {expected:#010x}"));
    }
    Ok(json)
}
