//! What a start finds of a manifest and its changes.

use super::*;

const TABLE: TableId = TableId(7);

fn meta(number: u64, generation: u32) -> FileMeta {
    let (hash_min, hash_max) = (u64::MAX - 1, u64::MAX);
    let (time_ns_min, time_ns_max) = (i64::MIN, i64::MAX);
    let (day, rows, bytes) = (-3, 5, 1_000);
    FileMeta { number, generation, day, rows, bytes, time_ns_min, time_ns_max, hash_min, hash_max }
}

/// The next flush of one file, and how far it goes.
fn flush(manifest: &mut Manifest) -> Change {
    let number = manifest.next_file;
    manifest.next_file += 1;
    let attributes = BTreeMap::from([(format!("a{}", number % 3), 1)]);
    let file = meta(number, 0);
    Change {
        next_file: number + 1,
        stored: Some(vec![Lsn(number); BUCKETS]),
        written: vec![WrittenFile { table: TABLE, attributes, file }],
        ..Change::default()
    }
}

fn begun(dir: &Path, disk: &Arc<Disk>) -> Manifest {
    let mut manifest = Manifest::default();
    manifest.write(dir, disk).unwrap();
    manifest
}

/// What a start would find.
fn said(manifest: &Manifest) -> String {
    let Manifest { next_file, stored, tables, .. } = manifest;
    format!("{next_file} {:?} {tables:?}", stored[0])
}

fn found(dir: &Path) -> Result<String, String> {
    let loaded = Manifest::load(dir).map_err(|error| error.to_string())?;
    Ok(said(&loaded.expect("there is a manifest")))
}

#[test]
fn a_start_finds_what_every_commit_left_and_old_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let mut manifest = begun(dir.path(), &disk);
    let mut sequences = HashSet::new();
    for commit in 0_u64..2_000 {
        let mut change = flush(&mut manifest);
        if commit % 5 == 4 {
            change.removed.push((TABLE, commit - 3));
            change.written.push(WrittenFile {
                table: TABLE,
                attributes: BTreeMap::new(),
                file: meta(commit - 1, 1),
            });
        }
        if commit % 701 == 700 {
            change.forgotten.push(TABLE);
        }
        if change.removed.iter().any(|(table, number)| {
            !manifest.tables.get(table).is_some_and(|entry| entry.files.contains_key(number))
        }) {
            change.removed.clear();
        }
        manifest.commit(change, dir.path(), &disk).unwrap();
        sequences.insert(manifest.sequence);
        if commit % 97 == 0 {
            assert_eq!(found(dir.path()), Ok(said(&manifest)), "commit {commit}");
            assert!(manifest.strange_logs(dir.path()).unwrap().is_empty());
        }
    }
    assert!((3..200).contains(&sequences.len()), "written anew {} times", sequences.len());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "a manifest and its log");
}

/// Goal: a change counts as a whole or not at all, wherever a power cut stopped it, and nothing
/// else is taken for such a stop.
#[test]
fn a_line_that_was_cut_short_does_not_count_and_any_other_damage_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let mut manifest = begun(dir.path(), &disk);
    let log = dir.path().join(log_name(manifest.sequence));
    let mut ends = vec![(std::fs::read(&log).unwrap().len(), said(&manifest))];
    for _ in 0..3 {
        let change = flush(&mut manifest);
        manifest.commit(change, dir.path(), &disk).unwrap();
        ends.push((std::fs::read(&log).unwrap().len(), said(&manifest)));
    }
    let whole = std::fs::read(&log).unwrap();
    assert_eq!(whole.len(), ends[3].0, "three changes were appended");
    for length in ends[0].0..=whole.len() {
        for zeros in [0, 3] {
            // Without its last byte alone a line is whole.
            let counted = if zeros == 0 { length + 1 } else { length };
            let expected = ends.iter().rev().find(|(end, _)| *end <= counted).unwrap();
            let cut = [&whole[..length], &[0; 3][..zeros]].concat();
            std::fs::write(&log, &cut).unwrap();
            let is_torn = length + zeros > 0 && cut.last() != Some(&b'\n');
            let loaded = Manifest::load(dir.path()).unwrap().unwrap();
            assert_eq!(loaded.torn.is_some(), is_torn, "{length} bytes are told of");
            assert_eq!(found(dir.path()).as_ref(), Ok(&expected.1), "{length} bytes");
        }
    }
    for at in (0..whole.len()).filter(|at| whole[*at] != b'\n') {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&log, damaged).unwrap();
        let error = found(dir.path()).unwrap_err();
        assert!(error.contains(&log_name(1)), "byte {at}: {error}");
    }
    std::fs::write(&log, &whole[..ends[0].0 - 2]).unwrap();
    assert!(found(dir.path()).unwrap_err().contains("first line"));
    std::fs::remove_file(&log).unwrap();
    assert!(found(dir.path()).unwrap_err().contains("it is missing"));
}

#[test]
fn after_a_write_that_failed_nothing_is_appended_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let manifest = begun(dir.path(), &disk);
    let before = said(&manifest);
    // A disk with room for nothing more, or for all but the last byte, without which a line counts.
    for missing_bytes in [1, 2, 10_000] {
        let mut manifest = begun(dir.path(), &disk);
        let change = flush(&mut manifest);
        let room_bytes = line_of(&change).len().saturating_sub(missing_bytes);
        manifest.log.as_mut().unwrap().file.fill_after(room_bytes);
        let failed = manifest.commit(change, dir.path(), &disk);
        assert!(matches!(failed, Err(CommitError::Before(_))), "{failed:?}");
        assert_eq!(found(dir.path()).as_ref(), Ok(&before), "{room_bytes} bytes");
    }
    let mut manifest = begun(dir.path(), &disk);
    let change = flush(&mut manifest);
    let log = manifest.log.as_mut().unwrap();
    log.file = disk.create(Path::new("/dev/full")).unwrap();
    let failed = manifest.commit(change, dir.path(), &disk);
    assert!(matches!(failed, Err(CommitError::During(_))), "it can take back nothing: {failed:?}");
    let change = flush(&mut manifest);
    manifest.commit(change, dir.path(), &disk).unwrap();
    assert_eq!((manifest.sequence, found(dir.path())), (2, Ok(said(&manifest))));
}

/// Whether the change is durable nobody knows, and to sync once more could succeed without having written
/// it: nothing may come to stand behind it.
#[test]
fn after_a_sync_that_failed_the_file_of_changes_is_not_used_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let mut manifest = begun(dir.path(), &disk);
    let log = dir.path().join(log_name(1));
    let before = std::fs::read(&log).unwrap();
    // It takes every byte, and no sync: EINVAL.
    manifest.log.as_mut().unwrap().file = disk.create(Path::new("/dev/null")).unwrap();
    let change = flush(&mut manifest);
    let failed = manifest.commit(change, dir.path(), &disk);
    assert!(matches!(failed, Err(CommitError::During(_))), "{failed:?}");
    assert!(manifest.log.is_none(), "it is let go");
    let change = flush(&mut manifest);
    manifest.commit(change, dir.path(), &disk).unwrap();
    assert_eq!((manifest.sequence, found(dir.path())), (2, Ok(said(&manifest))), "a whole one");
    assert!(!log.exists() && !before.is_empty(), "the file before is gone");
}

#[test]
fn changes_that_are_not_of_this_manifest_are_refused() {
    let mut manifest = Manifest { next_file: 5, ..Manifest::default() };
    manifest.stored = vec![Lsn(9); BUCKETS];
    let change = || Change { next_file: 5, ..Change::default() };
    let written = WrittenFile { table: TABLE, attributes: BTreeMap::new(), file: meta(5, 0) };
    for (change, what) in [
        (Change { next_file: 4, ..change() }, "gives file number 4"),
        (Change { stored: Some(vec![Lsn(8); BUCKETS]), ..change() }, "takes a mark back"),
        (Change { stored: Some(vec![Lsn(9)]), ..change() }, "1 marks"),
        (Change { written: vec![written], ..change() }, "file number 5, which was not given"),
        (Change { removed: vec![(TABLE, 1)], ..change() }, "removes file 1 of table 7"),
    ] {
        assert!(manifest.fits(&change).unwrap_err().contains(what), "{change:?}");
    }
    assert_eq!(manifest.fits(&change()), Ok(()));
}
