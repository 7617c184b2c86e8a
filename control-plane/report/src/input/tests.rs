use std::io::Read;

use super::Input;
use crate::broken::Fault;

fn text(bytes: &[u8]) -> String {
    let mut reader = bytes;
    let mut input = Input::open(&mut reader, 1000).unwrap();
    let mut out = String::new();
    input.read_to_string(&mut out).unwrap();
    out
}

#[test]
fn marks_shapes_and_declarations_tell_the_encoding() {
    assert_eq!(text("\u{feff}é".as_bytes()), "é");
    assert_eq!(text(&[0xff, 0xfe, 0xe9, 0, 0x3d, 0xd8, 0, 0xde]), "é😀");
    assert_eq!(text(&[0, b'<', 0, b'a']), "<a");
    assert_eq!(text(&[b'<', 0, b'a', 0]), "<a");
    let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?>\xe9";
    assert!(text(latin).ends_with('é'));
    // What .NET writes into UTF-8.
    let lie = "<?xml version=\"1.0\" encoding=\"utf-16\"?>é";
    assert_eq!(text(lie.as_bytes()), lie);
    assert_eq!(text(b""), "");
}

#[test]
fn the_bound_on_bytes_tells_its_name_and_place() {
    let mut reader = &b"ab\ncdef"[..];
    let mut input = Input::open(&mut reader, 4).unwrap();
    input.consume(4);
    let Err(Fault::Broken(broken)) = input.fill() else {
        panic!("it is accepted");
    };
    assert_eq!(
        broken.to_string(),
        "line 2 (byte 4): more than 4 bytes: the limit `bytes`"
    );
}

#[test]
fn a_file_of_exactly_the_bound_is_read() {
    let mut reader = &b"abcd"[..];
    let mut input = Input::open(&mut reader, 4).unwrap();
    input.consume(4);
    assert!(input.fill().unwrap().is_empty());
}
