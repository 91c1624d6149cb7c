//! Promise: the log's own commands tell what is in it, find every damage, and disturb no server.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Output;

use common::gateway::{Gateway, Place};

/// Bytes before the first frame of a segment.
const HEADER_PAGE_BYTES: u64 = 4096;

/// Bytes of a frame's header.
const FRAME_HEADER_BYTES: u64 = 32;

/// Runs `tidegate wal ..`.
fn wal(place: &Place, arguments: &[&str]) -> Output {
    place.run("wal", arguments)
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("the command ends by itself")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Sends `count` requests of one line each, so as many frames; times count from `begin`.
fn send(server: &Gateway, begin: u64, count: u64) {
    for n in begin..begin + count {
        server.write("iot", &format!("weather,site=a t={n}.5,n={n}i {}", 1_700_000_000 + n));
    }
}

fn first_segment(place: &Place) -> PathBuf {
    place.files("wal", ".wal").first().expect("the log has a segment").clone()
}

/// Where the frame that is `behind` frames after the first begins in a segment's file.
fn frame_offset(path: &PathBuf, behind: u64) -> u64 {
    let file = fs::File::open(path).expect("the segment can be read");
    let mut offset = HEADER_PAGE_BYTES;
    for _ in 0..behind {
        let mut length = [0; 4];
        file.read_exact_at(&mut length, offset + 4).expect("a frame has a header");
        let length = u64::from(u32::from_le_bytes(length));
        offset += FRAME_HEADER_BYTES + length.next_multiple_of(8);
    }
    offset
}

/// Flips a bit of the byte at `offset`.
fn damage(path: &PathBuf, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = file.expect("the segment can be written");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("the segment has this byte");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("the segment can be written");
}

/// Flips a bit at the begin and one at `second`: both copies of what stands there twice.
fn damage_twice(path: &PathBuf, second: u64) {
    damage(path, 0);
    damage(path, second);
}

/// A log of `count` frames whose server was killed.
fn killed(count: u64) -> Place {
    let place = Place::new("");
    let server = place.start();
    send(&server, 1, count);
    server.kill();
    place
}

#[test]
fn ls_lists_segments_and_marks_beside_a_running_server() {
    let place = Place::new("");
    let server = place.start();
    send(&server, 1, 5);
    let listed = wal(&place, &["ls"]);
    assert_eq!(code(&listed), 0, "{}", err(&listed));
    let text = out(&listed);
    let line = text.lines().find(|line| line.contains(" last ")).expect("a segment is the last");
    assert!(line.starts_with("00000000000000000001.wal"), "{text}");
    assert!(line.contains("1-5") && line.contains(" 5 "), "{text}");
    assert!(text.contains("\ncheckpoint 0 ") && text.contains("\nlast       5\n"), "{text}");
    send(&server, 6, 1);
    server.stop();
}

#[test]
fn verify_finds_a_sound_log_sound_beside_a_running_server_under_load() {
    let place = Place::new("");
    let server = place.start();
    let looks = std::thread::scope(|scope| {
        scope.spawn(|| send(&server, 1, 300));
        (0..10).map(|_| wal(&place, &["verify"])).collect::<Vec<_>>()
    });
    for look in looks {
        assert_eq!(code(&look), 0, "{}{}", out(&look), err(&look));
    }
    let last = wal(&place, &["verify"]);
    assert!(out(&last).contains("300 sound frames"), "{}", out(&last));
}

#[test]
fn verify_names_segment_offset_and_lsn_of_damage_and_what_to_do() {
    let place = killed(6);
    let segment = first_segment(&place);
    let third = frame_offset(&segment, 2);
    damage(&segment, third + FRAME_HEADER_BYTES + 3);
    let verified = wal(&place, &["verify"]);
    assert_eq!(code(&verified), 1);
    let text = out(&verified);
    let expected = format!(
        "00000000000000000001.wal: a synced frame is damaged, segment 1 at byte {third}, LSN 3\n"
    );
    assert!(text.contains(&expected), "{text}");
    assert!(text.contains("what to do: restore the file from a copy, or run `tidegate wal"));
    assert!(text.contains("5 sound frames in 1 segments, 1 damages"), "{text}");
    assert!(err(&verified).contains("is damaged"), "{}", err(&verified));
}

#[test]
fn verify_sees_a_damaged_frame_header_and_goes_on_behind_it() {
    let place = killed(6);
    let segment = first_segment(&place);
    damage(&segment, frame_offset(&segment, 1) + 8);
    let text = out(&wal(&place, &["verify"]));
    assert!(text.contains(", LSN 2\n") && text.contains("5 sound frames"), "{text}");
}

#[test]
fn verify_sees_a_damaged_segment_header_and_a_damaged_checkpoint() {
    let place = killed(3);
    let segment = first_segment(&place);
    for copy in [0, 2048] {
        damage(&segment, copy);
        damage(&place.data().join("wal/checkpoint"), copy * 2);
    }
    let verified = wal(&place, &["verify"]);
    assert_eq!(code(&verified), 1);
    let text = out(&verified);
    assert!(text.contains("checkpoint: the checkpoint is damaged"), "{text}");
    assert!(text.contains("a segment's header is damaged, segment 1"), "{text}");
}

#[test]
fn dump_writes_the_records_that_came_beside_a_running_server() {
    let place = Place::new("");
    let server = place.start();
    send(&server, 1, 4);
    let reply = server.client().post("/write?db=other", &[], b"cpu u=1i 9\ncpu broken").unwrap();
    assert_eq!(reply.status, 400, "{}", reply.text());
    let dumped = wal(&place, &["dump", "--from", "2", "--to", "5"]);
    assert_eq!(code(&dumped), 0, "{}", err(&dumped));
    let text = out(&dumped);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..4],
        [
            r#"{"lsn":2,"database":"iot","measurement":"weather","tags":{"site":"a"},"fields":{"n":2,"t":2.5},"timestamp":1700000002,"version":1}"#,
            r#"{"lsn":3,"database":"iot","measurement":"weather","tags":{"site":"a"},"fields":{"n":3,"t":3.5},"timestamp":1700000003,"version":1}"#,
            r#"{"lsn":4,"database":"iot","measurement":"weather","tags":{"site":"a"},"fields":{"n":4,"t":4.5},"timestamp":1700000004,"version":1}"#,
            r#"{"lsn":5,"database":"other","measurement":"cpu","tags":{"source":"none"},"fields":{"u":1},"timestamp":9,"version":1}"#,
        ]
    );
    assert!(lines[4].contains(r#""refused":"#) && lines[4].contains("cpu broken"), "{text}");
    assert_eq!(lines.len(), 5);
    let lines = out(&wal(&place, &["dump", "--to", "1", "--format", "line"]));
    assert_eq!(lines, "# lsn 1, database iot\nweather,site=a n=1i,t=1.5 1700000001\n");
}

#[test]
fn dump_stops_at_damage_and_says_so() {
    let place = killed(6);
    let segment = first_segment(&place);
    damage(&segment, frame_offset(&segment, 2) + FRAME_HEADER_BYTES);
    let dumped = wal(&place, &["dump"]);
    assert_eq!(out(&dumped).lines().count(), 2);
    assert_eq!(code(&dumped), 1, "a dump that lacks records is no success");
    assert!(err(&dumped).contains("tidegate wal verify"), "{}", err(&dumped));
}

#[test]
fn dump_tells_the_holes_between_the_frames_that_it_writes() {
    let place = killed(6);
    let segment = first_segment(&place);
    damage(&segment, frame_offset(&segment, 2) + FRAME_HEADER_BYTES);
    let broken = place.file("broken");
    let salvaged = wal(&place, &["salvage", "--to", broken.to_str().expect("a plain name")]);
    assert_eq!(code(&salvaged), 0, "{}", err(&salvaged));
    let dumped = wal(&place, &["dump"]);
    assert_eq!(out(&dumped).lines().count(), 5);
    assert_eq!(code(&dumped), 1, "a dump that lacks records is no success");
    assert!(err(&dumped).contains("LSN 3 to 3: lost before"), "{}", err(&dumped));
    assert!(err(&dumped).contains("1 LSNs that were asked for"), "{}", err(&dumped));
    let dumped = wal(&place, &["dump", "--from", "4"]);
    assert_eq!((code(&dumped), out(&dumped).lines().count()), (0, 3), "{}", err(&dumped));
}

/// Goal: a stretch whose file is gone is told, before the frames that are there too. Method: a log that
/// begins behind its first frames, as one does whose files were used again.
#[test]
fn dump_tells_frames_before_the_first_that_is_there() {
    let place = killed(6);
    fs::remove_dir_all(place.data().join("wal")).expect("the log is there");
    let begun = wal(&place, &["begin", "--after", "100"]);
    assert_eq!(code(&begun), 0, "{}", err(&begun));
    let server = place.start();
    send(&server, 7, 2);
    server.kill();
    let dumped = wal(&place, &["dump"]);
    assert_eq!((code(&dumped), out(&dumped).lines().count()), (0, 2), "{}", err(&dumped));
    let dumped = wal(&place, &["dump", "--from", "99"]);
    assert_eq!((code(&dumped), out(&dumped).lines().count()), (1, 2), "{}", err(&dumped));
    assert!(err(&dumped).contains("LSN 99 to 100: their file was used again"), "{}", err(&dumped));
    let dumped = wal(&place, &["dump", "--from", "5", "--to", "9"]);
    assert_eq!((code(&dumped), out(&dumped).as_str()), (1, ""), "{}", err(&dumped));
    assert!(err(&dumped).contains("LSN 5 to 9: "), "{}", err(&dumped));
    for file in place.files("wal", ".wal") {
        fs::remove_file(file).expect("it is there");
    }
    let dumped = wal(&place, &["dump", "--from", "100"]);
    assert_eq!((code(&dumped), out(&dumped).as_str()), (1, ""), "{}", err(&dumped));
}

#[test]
fn commands_without_a_log_or_with_a_wrong_flag_say_so() {
    let place = Place::new("");
    for command in ["ls", "verify", "dump"] {
        let output = wal(&place, &[command]);
        assert_eq!(code(&output), 1);
        assert!(err(&output).contains("there is no log in"), "{}", err(&output));
        let help = wal(&place, &[command, "--help"]);
        assert!(code(&help) == 0 && out(&help).contains("Example:\n  tidegate wal"));
    }
    assert_eq!(code(&wal(&place, &["dump", "--format", "xml"])), 2);
    assert!(!place.data().exists(), "a look makes nothing");
}

#[test]
fn salvage_starts_a_refused_log_with_all_that_is_sound_and_lists_what_is_lost() {
    let place = killed(8);
    let segment = first_segment(&place);
    damage(&segment, frame_offset(&segment, 2) + FRAME_HEADER_BYTES);
    damage(&segment, frame_offset(&segment, 5) + 8);
    let broken = fs::read(&segment).expect("the segment can be read");
    let (mut child, log) = place.spawn();
    assert_eq!(child.wait().expect("it is our child").code(), Some(1), "the start is refused");
    let refusal = fs::read_to_string(log).expect("a log was written");
    assert!(refusal.contains("tidegate wal salvage --to DIR"), "{refusal}");
    let to = place.file("broken");
    let salvaged = wal(&place, &["salvage", "--to", to.to_str().expect("a plain name")]);
    assert_eq!(code(&salvaged), 0, "{}", err(&salvaged));
    assert!(fs::read(to.join("00000000000000000001.wal")).expect("a copy") == broken);
    let listing: serde_json::Value =
        serde_json::from_slice(&fs::read(to.join("salvage.json")).expect("a listing"))
            .expect("the listing is JSON");
    let expected = serde_json::json!([{"first": 3, "last": 3}, {"first": 6, "last": 6}]);
    assert_eq!(listing["lost_lsns"], expected, "{listing}");
    assert_eq!(listing["sound_frames"], 6);
    let text = fs::read_to_string(to.join("salvage.txt")).expect("a listing");
    assert!(text.contains("lost: LSN 3 to 3\n") && text.contains("lost: LSN 6 to 6\n"), "{text}");
    assert_eq!(code(&wal(&place, &["verify"])), 0);
    let server = place.start();
    send(&server, 9, 1);
    server.settle();
    let rows = server.export("iot", "weather");
    let mut times: Vec<i64> = rows.keys().map(|key| key.time_ns - 1_700_000_000).collect();
    times.sort_unstable();
    assert_eq!(times, [1, 2, 4, 5, 7, 8, 9], "all but what was damaged, and what came later");
    server.stop();
}

#[test]
fn salvage_mends_headers_lengths_checkpoints_and_missing_segments() {
    type Break = fn(&Place);
    let cases: [(&str, Break, usize); 4] = [
        ("a checkpoint", |p| damage_twice(&p.data().join("wal/checkpoint"), 4096), 5),
        (
            "a length",
            |p| {
                let file = fs::OpenOptions::new().append(true).open(first_segment(p));
                file.and_then(|file| file.set_len(1 << 20)).expect("the file can be cut");
            },
            5,
        ),
        ("a segment", |p| fs::remove_file(first_segment(p)).expect("it is there"), 0),
        ("a header", |p| damage_twice(&first_segment(p), 2048), 0),
    ];
    for (what, break_it, kept) in cases {
        let place = killed(5);
        break_it(&place);
        assert_eq!(code(&wal(&place, &["verify"])), 1, "{what}");
        let to = place.file("broken");
        let salvaged = wal(&place, &["salvage", "--to", to.to_str().expect("a plain name")]);
        assert_eq!(code(&salvaged), 0, "{what}: {}", err(&salvaged));
        let server = place.start();
        server.settle();
        assert_eq!(server.export("iot", "weather").len(), kept, "{what}");
        server.stop();
    }
}

#[test]
fn salvage_leaves_a_sound_log_and_a_running_server_alone() {
    let place = killed(3);
    let to = place.file("broken");
    let arguments = ["salvage", "--to", to.to_str().expect("a plain name")];
    let nothing = wal(&place, &arguments);
    assert_eq!((code(&nothing), to.exists()), (0, false), "{}", out(&nothing));
    assert!(out(&nothing).contains("nothing was changed"));
    let server = place.start();
    let refused = wal(&place, &arguments);
    assert_eq!((code(&refused), to.exists()), (1, false));
    assert!(err(&refused).contains("is in use by process"), "{}", err(&refused));
    server.stop();
}

#[test]
fn salvage_does_not_fill_the_disk_up_to_a_stray_file() {
    let place = killed(2);
    let stray = place.data().join("wal/18446744073709551615.wal");
    fs::write(&stray, b"no segment").expect("a file can be made");
    let verified = wal(&place, &["verify"]);
    assert_eq!(code(&verified), 1);
    let to = place.file("broken");
    let refused = wal(&place, &["salvage", "--to", to.to_str().expect("a plain name")]);
    assert_eq!((code(&refused), to.exists()), (1, false), "{}", out(&refused));
    assert!(err(&refused).contains("missing in a row"), "{}", err(&refused));
    assert!(stray.exists(), "nothing is deleted");
}

/// Tables with four records in files, a conflict that was reported, and no log.
fn without_a_log() -> Place {
    let place = Place::new("");
    let server = place.start();
    send(&server, 1, 4);
    server.write("iot", "weather,site=a t=-1.5 1700000001");
    server.settle();
    server.stop();
    fs::remove_dir_all(place.data().join("wal")).expect("the log can be lost");
    place
}

/// The last frame that [`without_a_log`] appended.
const LAST: u64 = 6;

fn refused_start(place: &Place) -> String {
    let (mut child, log) = place.spawn();
    assert_eq!(child.wait().expect("it is our child").code(), Some(1), "the start is refused");
    fs::read_to_string(log).expect("a log was written")
}

#[test]
fn begin_makes_a_log_for_tables_whose_log_is_lost() {
    let place = without_a_log();
    let refusal = refused_start(&place);
    assert!(refusal.contains("tidegate wal begin --help"), "{refusal}");
    let begun = wal(&place, &["begin"]);
    assert_eq!(code(&begun), 0, "{}", err(&begun));
    let said = out(&begun);
    let (_, after) = said.split_once("begins after LSN ").expect("it says where");
    let after: u64 = after.split(';').next().and_then(|lsn| lsn.parse().ok()).expect("a number");
    // What its last process reserved for reports is not given again either.
    assert!(after > LAST, "{said}");
    assert_eq!(code(&wal(&place, &["verify"])), 0);
    let server = place.start();
    let reply = server.write("iot", "weather,site=a t=9.5 1700000009");
    assert_eq!(reply.header("x-tidegate-lsn"), Some(&*(after + 1).to_string()));
    server.settle();
    let rows = server.export("iot", "weather");
    let mut times: Vec<i64> = rows.keys().map(|key| key.time_ns - 1_700_000_000).collect();
    times.sort_unstable();
    assert_eq!(times, [1, 2, 3, 4, 9], "what was stored, and what came later");
    server.kill();
    place.start().stop();
}

#[test]
fn begin_gives_no_number_twice_that_tables_or_reports_know() {
    let place = without_a_log();
    let low = wal(&place, &["begin", "--after", "4"]);
    assert_eq!(code(&low), 1);
    assert!(err(&low).contains("are stored, or reserved for reports"), "{}", err(&low));
    // A report alone knows of a later frame.
    let report = place.files("rejects", ".json").pop().expect("the conflict was reported");
    let later = "00000000000003000500-0of1-0.json";
    fs::copy(&report, report.with_file_name(later)).expect("it can be copied");
    assert_eq!(code(&wal(&place, &["begin", "--after", "3000499"])), 1);
    assert_eq!(code(&wal(&place, &["begin", "--after", "3001000"])), 0);
    // What was begun has no frame yet: it may begin elsewhere, but not before what is known.
    assert_eq!(code(&wal(&place, &["begin", "--after", "5000000"])), 0);
    assert_eq!(code(&wal(&place, &["begin", "--after", "3000499"])), 1);
    assert_eq!(code(&wal(&place, &["begin", "--after", "3001000"])), 0);
    let none_left = wal(&place, &["begin", "--after", "4611686018427387904"]);
    assert_eq!(code(&none_left), 2, "{}", err(&none_left));
    let server = place.start();
    let reply = server.write("iot", "weather,site=a t=9.5 1700000009");
    assert_eq!(reply.header("x-tidegate-lsn"), Some("3001001"));
    let busy = wal(&place, &["begin"]);
    assert!(code(&busy) == 1 && err(&busy).contains("process"), "{}", err(&busy));
    server.kill();
    let full = wal(&place, &["begin"]);
    assert!(code(&full) == 1 && err(&full).contains("there is a log already"), "{}", err(&full));
    place.start().stop();
}
