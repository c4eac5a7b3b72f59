//! Texts that would be read in two ways.

use super::super::{ClearText, SignatureError};

/// A signature that is not one of this text; only the form of the text is looked at here.
const SIGNATURE: &str = include_str!("../../../tests/golden/openpgp/text.asc");

#[test]
fn only_what_was_signed_is_read() {
    let (before, signature) = SIGNATURE.split_once("-----BEGIN PGP SIGNATURE-----").unwrap();
    let begin = before.split_once("\n\n").unwrap().0;
    let whole = |text: &str| format!("{begin}\n\n{text}-----BEGIN PGP SIGNATURE-----{signature}");
    let parse = |whole: &str| ClearText::parse(whole.as_bytes()).map(|parsed| parsed.text);
    assert_eq!(parse(&whole("a\n- - b\n\nc \t\n")).unwrap(), "a\n- b\n\nc\n");
    assert_eq!(parse(&whole("a\nb\n").replace('\n', "\r\n")).unwrap(), "a\nb\n");
    assert_eq!(parse(&format!("\n{}\n\n", whole("a\n"))).unwrap(), "a\n");

    let refused = |whole: &str, reason: &str| match parse(whole) {
        Err(SignatureError::Malformed(said)) => assert!(said.contains(reason), "{said}"),
        other => panic!("{reason}: {other:?}"),
    };
    refused(&format!("x\n{}", whole("a\n")), "before the text");
    refused(&format!("{}x\n", whole("a\n")), "behind the signature");
    refused(&whole("-b\n"), "begins with a dash");
    refused(&whole("a\rb\n"), "carriage return");
    refused(&whole("a\0\n"), "control characters");
    refused(&whole("a\n").replace("Hash: SHA512", "Comment: x"), "other than Hash");
    refused(&whole("a\n").replace("-----END PGP SIGNATURE-----\n", ""), "cut short");
    refused(&before.replace("-----BEGIN PGP SIGNATURE-----", ""), "cut short");
    assert!(matches!(parse("DATA a 1\n"), Err(SignatureError::NotSigned)));
    assert!(matches!(parse(""), Err(SignatureError::NotSigned)));
}
