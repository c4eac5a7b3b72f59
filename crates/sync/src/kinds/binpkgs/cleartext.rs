//! Texts with an OpenPGP signature around them (RFC 9580, section 7), taken apart.
//!
//! Only the form that `gpg --clear-sign` writes for a Manifest is read, and nothing may stand before or behind it:
//! what a program that verifies the signature takes for the signed text is what is read here.

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE_BEGIN: &str = "-----BEGIN PGP SIGNATURE-----";
const SIGNATURE_END: &str = "-----END PGP SIGNATURE-----";

/// A text with its signature around it. The signature is not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearSigned {
    whole: String,
    text_begin: usize,
    signature_begin: usize,
}

impl ClearSigned {
    /// Whether a text has the form at all, so that it has to be read as one.
    pub(super) fn is_meant(text: &str) -> bool {
        text.contains("-----BEGIN PGP ")
    }

    /// Takes a text apart; says what is wrong with it, and in which line.
    pub(super) fn parse(whole: &str) -> Result<Self, (usize, &'static str)> {
        let mut offset = 0;
        let mut lines = whole.split_inclusive('\n').enumerate().map(|(number, line)| {
            let begin = offset;
            offset += line.len();
            (number + 1, begin, line.strip_suffix('\n').unwrap_or(line))
        });
        let cut_short = (1, "the signed text is cut short");
        match lines.next() {
            Some((_, _, BEGIN)) => {}
            _ => return Err((1, "there is text before the one that is signed")),
        }
        let text_begin = loop {
            match lines.next().ok_or(cut_short)? {
                (_, begin, "") => break begin + 1,
                (_, _, line) if line.starts_with("Hash: ") => {}
                (number, ..) => return Err((number, "an armor header other than Hash")),
            }
        };
        let signature_begin = loop {
            match lines.next().ok_or(cut_short)? {
                (_, begin, SIGNATURE_BEGIN) => break begin,
                // What begins with a dash is escaped in such a text; no line of a Manifest begins with one.
                (number, _, line) if line.starts_with('-') => {
                    return Err((number, "a line of the signed text begins with a dash"));
                }
                (number, _, line) if line.ends_with([' ', '\t', '\r']) => {
                    return Err((
                        number,
                        "a line of the signed text ends with white space, which is not signed",
                    ));
                }
                _ => {}
            }
        };
        loop {
            match lines.next().ok_or((1, "the signature is cut short"))? {
                (_, _, SIGNATURE_END) => break,
                (number, _, line) if !line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') => {
                    return Err((number, "the signature is no armored text"));
                }
                _ => {}
            }
        }
        match lines.find(|(_, _, line)| !line.is_empty()) {
            Some((number, ..)) => Err((number, "there is text behind the signature")),
            None => Ok(Self { whole: whole.to_owned(), text_begin, signature_begin }),
        }
    }

    /// Everything: what a program is given that verifies such texts.
    pub fn whole(&self) -> &str {
        &self.whole
    }

    /// The text that is signed, in whole lines.
    pub fn text(&self) -> &str {
        &self.whole[self.text_begin..self.signature_begin]
    }

    /// The number of lines before the text.
    pub(super) fn lines_before(&self) -> usize {
        self.whole[..self.text_begin].lines().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(text: &str) -> String {
        format!("{BEGIN}\nHash: SHA512\n\n{text}{SIGNATURE_BEGIN}\n\niHUE\n=6+vW\n{SIGNATURE_END}\n")
    }

    #[test]
    fn a_signed_text_is_taken_apart() {
        let parsed = ClearSigned::parse(&signed("a\nb\n")).unwrap();
        assert_eq!((parsed.text(), parsed.lines_before()), ("a\nb\n", 3));
        assert_eq!(parsed.whole(), signed("a\nb\n"));
    }

    #[test]
    fn what_would_be_read_in_two_ways_is_refused() {
        let check = |text: &str, line: usize| {
            assert!(matches!(ClearSigned::parse(text), Err((number, _)) if number == line), "{text:?}");
        };
        let whole = signed("a\n");
        check(&format!("DATA\n{whole}"), 1);
        check(&whole.replace("Hash: SHA512", "Comment: x"), 2);
        check(&signed("a\n- b\n"), 5);
        check(&signed("a \n"), 4);
        check(&signed("a\r\n"), 4);
        check(&whole.replace(SIGNATURE_END, ""), 1);
        check(&whole.replace(SIGNATURE_BEGIN, "x"), 9);
        check(&whole.replace("iHUE", "iH\u{1b}UE"), 7);
        check(&format!("{whole}DATA\n"), 10);
    }
}
