//! The promise: bytes are laid out as the documentation says. The tables are read out of the module
//! comments, and what the code writes is held against them, field by field, without the code's own
//! readers: a table that nobody corrected fails, and so does a format that changed by accident.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails ends its test")]

#[path = "format/log.rs"]
mod log;
#[path = "format/payload.rs"]
mod payload;
#[path = "format/tables.rs"]
mod tables;
#[path = "format/wire.rs"]
mod wire;

mod bites {
    //! The comparison is shown to find what is wrong.

    use super::tables::{hold, length, module_comment, table};
    use super::wire::{Cell, Form, Shape, crc32};

    const HEADS: [&str; 4] = ["offset", "bytes", "field", "content"];

    /// Whether a table with these rows agrees with the bytes `01 02 00 03 00 00 00`, an `a` of one
    /// byte, a `b` of two, and a `c` of four.
    fn judge(rows: [&str; 3]) -> Result<(), String> {
        let rows = rows.map(|row| format!("//! | {row} |\n")).concat();
        let source = format!(
            "//! A thing.\n//!\n//! | offset | bytes | field | content |\n//! |---|---|---|---|\n{rows}\nfn a() {{}}"
        );
        let fields = table(&module_comment(&source), &HEADS)?.fields("field");
        if length(&fields)? != 7 {
            return Err("another length".to_owned());
        }
        let known = [
            ("a", vec![1]),
            ("b", 2_u16.to_le_bytes().to_vec()),
            ("c", 3_u32.to_le_bytes().to_vec()),
        ];
        hold(&fields, &[1, 2, 0, 3, 0, 0, 0], &known)
    }

    #[test]
    fn a_table_that_disagrees_with_the_bytes_is_found() {
        assert_eq!(judge(["0 | 1 | a | 1", "1 | 2 | b | 2", "3 | 4 | c | 3"]), Ok(()));
        for (rows, what) in [
            (["0 | 1 | a | 1", "1 | 3 | b | 2", "3 | 4 | c | 3"], "overlap"),
            (["0 | 1 | a | 1", "1 | 1 | b | 2", "3 | 4 | c | 3"], "gap"),
            (["0 | 1 | a | 1", "1 | 1 | b | 2", "2 | 5 | c | 3"], "widths"),
            (["0 | 1 | a | 1", "1 | 2 | b | 2", "3 | 8 | c | 3"], "too long"),
            (["0 | 2 | b | 2", "2 | 1 | a | 1", "3 | 4 | c | 3"], "two exchanged"),
            (["0 | 1 | a | 1", "1 | 2 | d | 2", "3 | 4 | c | 3"], "another name"),
            (["0 | 1 | a | 1", "1 | 2 | b | 2", "3 + a | 4 | c | 3"], "a field without a place"),
            (["0 | 1 | a | 1", "1 | 2 | b", "3 | 4 | c | 3"], "a row cut short"),
        ] {
            assert!(judge(rows).is_err(), "{what}");
        }
    }

    #[test]
    fn a_missing_table_and_a_second_one_are_found() {
        let one = "| offset | bytes | field | content |\n|---|---|---|---|\n| 0 | 1 | a | 1 |\n";
        assert!(table("no table", &HEADS).is_err());
        assert!(table(one, &HEADS).is_ok());
        assert!(table(&format!("{one}\n{one}"), &HEADS).is_err());
    }

    #[test]
    fn the_forms_are_what_their_sources_say() {
        // Source: catalogue of parametrised CRC algorithms, CRC-32/ISO-HDLC, "check".
        assert_eq!(crc32(&[b"1234", b"56789"]), 0xcbf4_3926);
        assert_eq!(Form::named("varint").read(&mut &[0xe5, 0x8e, 0x26][..]), Cell::Number(624_485));
        assert_eq!(Form::named("signed").read(&mut &[3][..]), Cell::Signed(-2));
        assert_eq!(Form::named("8 bytes, IEEE 754"), Form::Fixed(8));
    }

    #[test]
    fn a_described_shape_is_read_in_its_order() {
        let shape = Shape::described(
            "a (varint), b, c (text), n (varint), that many of: t (1 byte: 0 or 1), u (bytes)",
        );
        let mut rest = &[5, 1, b'x', 0, 2, 7, 1, 9, 8, 0, 77][..];
        let read = shape.read(&mut rest);
        let names: Vec<&str> = read.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["a", "b", "c", "n", "t", "u", "t", "u"]);
        assert_eq!(read[5].1, Cell::Bytes(vec![9]));
        assert_eq!(rest, [77]);
    }
}
