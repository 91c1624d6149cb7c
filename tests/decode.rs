//! The promise: line protocol is read as other implementations read it, and where they differ, as
//! `tests/data/line-protocol/README.md` says.

use std::fs;

#[path = "decode/judge.rs"]
mod judge;
#[path = "decode/properties.rs"]
mod properties;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/line-protocol");

/// How many cases there are, so that none can get lost unseen.
const CASES_COUNT: usize = 955;

/// Cases that the decoder answers in another way than their file asks for: file, name, why.
const ANSWERED_DIFFERENTLY: &[(&str, &str, &str)] = &[];

/// Goal: every case of every collection is answered right. Method: the raw lines are judged, since
/// the cases tell unsigned from signed integers; a case is right if it meets our rules, or where
/// these leave it open, the outcome of its source.
#[test]
fn every_case_is_answered_as_it_asks() {
    let mut files: Vec<_> = fs::read_dir(CASES)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let (mut count, mut wrong) = (0, Vec::new());
    for path in files {
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        for case in judge::cases(&fs::read_to_string(&path).unwrap()) {
            count += 1;
            if let Err(why) = case.judge() {
                wrong.push((file.clone(), case.name().to_owned(), why));
            }
        }
    }
    let unexpected: Vec<_> = wrong
        .iter()
        .filter(|(file, name, _)| {
            !ANSWERED_DIFFERENTLY.iter().any(|(f, n, _)| (f, n) == (&file.as_str(), &name.as_str()))
        })
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert_eq!(wrong.len(), ANSWERED_DIFFERENTLY.len(), "a listed case is answered as it asks");
    assert_eq!(count, CASES_COUNT);
}
