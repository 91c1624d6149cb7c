//! The promise: no bytes at all make a reader of ours panic, and what it reads of damaged bytes is
//! never made up. Sound inputs are mutated, from a seed that is printed; `fuzz/run` tries the
//! same targets under libFuzzer.
//!
//! `TIDEGATE_FUZZ_SECONDS` is how long each target is tried (default 2), `TIDEGATE_FUZZ_SEED` repeats
//! a run: its n-th input is always the same.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use std::time::Duration;

use tidegate::base::clock::{Clock, SystemClock};

#[path = "common/random.rs"]
#[expect(dead_code, reason = "other tests use what this one does not")]
mod random;
#[path = "fuzz_formats/seeds.rs"]
mod seeds;
#[path = "fuzz_formats/targets.rs"]
mod targets;

use random::Random;

/// How long each target is tried where nothing else is asked for, in seconds.
const SECONDS: u64 = 2;

/// Most mutations of one input.
const MUTATIONS_MAX: u64 = 8;

/// Longest input; what grows beyond is cut.
const INPUT_BYTES_MAX: usize = 4096;

/// Inputs between two looks at the clock.
const INPUTS_A_LOOK: u64 = 64;

/// Fewest inputs that show something.
const INPUTS_MIN: u64 = 256;

/// Integers at which code decides.
const BORDERS: [u64; 10] = [0, 1, 7, 8, 0x7f, 0x80, 0xffff_ffff, 1 << 31, u64::MAX, 48 << 20];

/// A target and its sound inputs.
type Target = (fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// Says which input it was when the test fails on it.
struct Input {
    seed: u64,
    number: u64,
}

impl Drop for Input {
    #[expect(clippy::print_stderr, reason = "a failed run is repeated by its seed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed on input {}: TIDEGATE_FUZZ_SEED={}", self.number, self.seed);
        }
    }
}

#[expect(clippy::print_stderr, reason = "a run is repeated by its seed, and says how far it got")]
fn run(name: &str, (target, sound): Target) {
    let seconds = std::env::var("TIDEGATE_FUZZ_SECONDS").ok().map(|text| text.parse().unwrap());
    let duration = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let seed = Random::seed_from("TIDEGATE_FUZZ_SEED");
    eprintln!("{name}: TIDEGATE_FUZZ_SEED={seed}");
    let sound = sound();
    for input in &sound {
        target(input);
    }
    let (random, clock) = (Random::new(seed), SystemClock::new());
    let end = clock.monotonic() + duration;
    let mut number = 0;
    while number < INPUTS_MIN || clock.monotonic() < end {
        for _ in 0..INPUTS_A_LOOK {
            let _input = Input { seed, number };
            target(&mutation(&mut random.part(number), &sound));
            number += 1;
        }
    }
    eprintln!("{name}: {number} inputs in {seconds:?} s", seconds = duration.as_secs());
    assert!(number >= INPUTS_MIN, "too few inputs to show anything");
}

/// One of the sound inputs, changed here and there.
fn mutation(random: &mut Random, sound: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.pick(sound).clone();
    for _ in 0..=random.within(0..MUTATIONS_MAX) {
        let at = random.below(bytes.len() + 1);
        let length = random.below(bytes.len() - at + 1).min(random.below(64) + 1);
        match random.below(7) {
            0 => flip(random, &mut bytes),
            1 => overwrite(&mut bytes, at, &[random.next().to_le_bytes()[0]]),
            2 => {
                let border = random.pick(&BORDERS).to_le_bytes();
                overwrite(&mut bytes, at, &border[..*random.pick(&[1, 2, 4, 8])]);
            }
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let copied = bytes[at..at + length].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, copied));
            }
            5 => {
                let other = random.pick(sound);
                let from = random.below(other.len());
                drop(bytes.splice(at.., other[from..].iter().copied()));
            }
            _ => bytes.truncate(at),
        }
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}

fn flip(random: &mut Random, bytes: &mut [u8]) {
    if !bytes.is_empty() {
        let bit = random.below(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (to, from) in bytes[at..].iter_mut().zip(with) {
        *to = *from;
    }
}

#[test]
fn a_segment_of_any_bytes_is_walked() {
    run("segment", (targets::segment_with_checks, seeds::frames));
    run("segment as it is", (targets::segment_as_it_is, seeds::frames));
}

/// libFuzzer found it: the number behind it overflowed.
#[test]
fn a_frame_with_the_largest_number_is_none() {
    let [before, behind] =
        [(1, b"a"), (u64::MAX, b"b")].map(|(lsn, text)| seeds::frame(lsn, 1, text));
    targets::segment_with_checks(&[before, vec![0; 32], behind].concat());
}

#[test]
fn a_payload_of_any_bytes_is_read_or_refused() {
    run("payload", (targets::payload, seeds::payloads));
}

#[test]
fn line_protocol_of_any_bytes_becomes_a_payload_that_reads_back() {
    run("line", (targets::line_protocol, seeds::lines));
}

#[test]
fn json_of_any_bytes_becomes_a_payload_that_reads_back() {
    run("json", (targets::json_body, seeds::json));
}

/// Writes the sound inputs where libFuzzer begins with them.
#[test]
#[ignore = "writes into fuzz/corpus; run it before a libFuzzer run"]
fn write_corpus() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let all: [(&str, Vec<Vec<u8>>); 4] = [
        ("segment", seeds::frames()),
        ("payload", seeds::payloads()),
        ("line", seeds::lines()),
        ("json", seeds::json()),
    ];
    for (name, inputs) in all {
        let dir = corpus.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        for (at, input) in inputs.iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{at}")), input).unwrap();
        }
        assert!(inputs.len() >= 2, "{name} has something to begin with");
    }
}
