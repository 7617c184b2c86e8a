use super::{Bounds, Event, Reader};
use crate::broken::Fault;
use crate::input::Input;
use crate::output_text;

const BOUNDS: Bounds = Bounds {
    depth: 4,
    attributes: 3,
    attribute: 8,
};

/// Events, written down.
fn events(text: &[u8]) -> String {
    let mut reader = text;
    let mut xml = Reader::new(Input::open(&mut reader, 1 << 20).unwrap(), BOUNDS);
    let mut out = String::new();
    loop {
        match xml.next() {
            Ok(Event::Start(tag)) => out.push_str(&format!("<{tag:?}>")),
            Ok(Event::End) => out.push_str("</>"),
            Ok(Event::Text(text)) => out.push_str(&String::from_utf8_lossy(text)),
            Ok(Event::Eof) => return out,
            Err(Fault::Broken(broken)) => return format!("{out}! {broken}"),
            Err(Fault::Io(error)) => panic!("{error}"),
        }
    }
}

fn plain(text: &str) -> String {
    events(text.as_bytes())
        .replace("Tag { name: ", "")
        .replace(", attributes: []", "")
        .replace(" }>", ">")
}

#[test]
fn text_comes_with_entities_resolved_and_others_as_they_are() {
    assert_eq!(
        plain("<a>1 &lt; 2 &amp;&amp; &#65;&#x42; &nbsp; & &#0; &#xD800;</a>"),
        "<\"a\">1 < 2 && AB &nbsp; & \u{fffd} \u{fffd}</>"
    );
    assert_eq!(
        plain("<a>x<![CDATA[<b>&amp;]] ]]]>y<!-- -- > --><?p?>z</a>"),
        "<\"a\">x<b>&amp;]] ]yz</>"
    );
}

#[test]
fn a_doctype_is_passed_over_and_expands_nothing() {
    let laughs = "<!DOCTYPE a [<!ENTITY b \"]>&c;&c;\"> <!-- it's --> <!ENTITY d SYSTEM 'file:///x'>]>\
                  <a>&b;&d;</a>";
    assert_eq!(plain(laughs), "<\"a\">&b;&d;</>");
}

#[test]
fn what_is_broken_says_where_and_why() {
    let said = |text| {
        let said = plain(text);
        said.split_once("! ")
            .map(|(_, said)| said.to_owned())
            .unwrap()
    };
    insta::assert_snapshot!(
        [
            "",
            " \n ",
            "log: x\n<a/>",
            "<a>",
            "<a><b",
            "<a b",
            "<a b=",
            "<a b='",
            "<a b='x'",
            "<a></b>",
            "</a>",
            "<a b>",
            "<a b=c>",
            "<a>1 < 2</a>",
            "<a/ >",
            "<a><![CDATA[x",
            "<a><!-- x",
            "<!DOCTYPE a [",
            "<?xml",
            "<a><a><a><a><a>",
            "<a b='' c='' d='' e=''>",
            "\n\n<a>\n</b>",
        ]
        .map(|text| format!("{text:?}: {}", said(text)))
        .join("\n")
    );
    let long = format!("<{}>", "x".repeat(300));
    assert!(said(&long).contains("more than 256 bytes"));
}

#[test]
fn several_roots_are_read_and_text_after_ends_it() {
    assert_eq!(
        plain("\u{feff}<a/>\n\u{feff}<?xml version='1.0'?><b/> done <c/>"),
        "<\"a\"></><\"b\"></>"
    );
}

#[test]
fn attributes_are_bounded_and_keep_what_they_are_given() {
    assert_eq!(
        events(b"<x:a b = '1&quot;<' c=\"123456789\"\n/>"),
        "<Tag { name: \"a\", attributes: [(\"b\", \"1\\\"<\"), (\"c\", \"12345678\")] }></>"
    );
}

#[test]
fn long_texts_come_in_pieces() {
    let text = format!(
        "<a>{}<![CDATA[{}]]></a>",
        "x&amp;".repeat(9000),
        "]y".repeat(9000)
    );
    assert_eq!(
        plain(&text),
        format!("<\"a\">{}{}</>", "x&".repeat(9000), "]y".repeat(9000))
    );
}

#[test]
fn output_is_text_again_also_when_it_is_cut() {
    assert_eq!(
        output_text(b"a &lt;<![CDATA[ b & ]]>c\0"),
        "a < b & c\u{fffd}"
    );
    assert_eq!(output_text(b"a<![CDATA[ b &amp; "), "a b &amp; ");
    assert_eq!(output_text(b"b ]]> c &am"), "b ]]> c &am");
}
