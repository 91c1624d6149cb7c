//! The name of a gateway: a random number in a file of its data folder, made once and kept for good.
//!
//! What lies outside the folder and belongs to its log names the gateway by it: the marks of a shared
//! database, the owner of a reject sink. A copy of the folder has the same name.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::Path;

use super::fs;

/// The file of the data folder with the gateway's name.
pub const FILE_NAME: &str = "gateway-id";

/// The name of the gateway that has the data folder `dir`; `None` where it has none yet.
///
/// # Errors
///
/// When the file cannot be read, and when it is empty: it is never made so, and another name would be that of
/// another gateway.
pub fn known(dir: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(dir.join(FILE_NAME)) {
        Ok(text) if text.trim().is_empty() => {
            let told = "it is empty, where it should hold 32 hexadecimal digits: restore it from a copy; the reject \
                        sink's .owner.json and a shared database's tidegate.gateways have its text too";
            Err(io::Error::new(io::ErrorKind::InvalidData, told))
        }
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of the gateway that has the data folder `dir`; made where it has none.
///
/// # Errors
///
/// As [`known`], and when the file cannot be made.
pub fn of_folder(dir: &Path, wall_ns: i64) -> io::Result<String> {
    if let Some(name) = known(dir)? {
        return Ok(name);
    }
    // Seeded by the system's generator, without a file: a folder that is entered as a root need have no /dev.
    let random = RandomState::new();
    let half = |salt: u8| random.hash_one((salt, wall_ns, std::process::id()));
    let name = format!("{:016x}{:016x}", half(0), half(1));
    fs::replace(&dir.join(FILE_NAME), name.as_bytes())?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_name_and_each_has_its_own() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = of_folder(one.path(), 1).unwrap();
        assert_eq!(name.len(), 32);
        assert_eq!(of_folder(one.path(), 2).unwrap(), name);
        assert_ne!(of_folder(other.path(), 1).unwrap(), name);
        std::fs::write(one.path().join(FILE_NAME), "\n").unwrap();
        let error = of_folder(one.path(), 1).unwrap_err();
        assert!(
            error.to_string().contains("it is empty"),
            "another name is another gateway: {error}"
        );
        std::fs::write(one.path().join(FILE_NAME), format!("{name}\r\n")).unwrap();
        assert_eq!(of_folder(one.path(), 1).unwrap(), name, "as an editor may leave it");
    }
}
