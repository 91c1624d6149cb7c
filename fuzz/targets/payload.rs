//! libFuzzer on the target of that name in tests/fuzz_formats.

#![no_main]

#[path = "../../tests/fuzz_formats/targets.rs"]
#[expect(dead_code, reason = "the other targets are tried by binaries of their own")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    targets::payload(bytes);
});
