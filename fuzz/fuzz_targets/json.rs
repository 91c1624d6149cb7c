//! libFuzzer on `targets::json_body`.
#![no_main]
#![expect(dead_code, reason = "the other targets are tried by binaries of their own")]

#[path = "../../tests/fuzz_formats/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    targets::json_body(bytes);
});
