//! Texts with their signatures behind them (RFC 9580, section 7).
//!
//! The text that is handed out is the one that was signed, so that nobody reads what nobody has signed: nothing stands
//! before or behind it, and white space at the end of its lines, which is not signed, is gone.

use super::digested::Digested;
use super::error::SignatureError;
use super::signatures::{Signatures, Signed};

/// The most bytes of such a text, its signatures included.
pub const CLEAR_TEXT_BYTES_MAX: usize = 32 << 20;

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE_BEGIN: &str = "-----BEGIN PGP SIGNATURE-----";
const SIGNATURE_END: &str = "-----END PGP SIGNATURE-----";
/// Stands before a line that begins with a dash.
const ESCAPE: &str = "- ";

/// A text, and the signatures that stand behind it, which are not judged yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearText {
    /// The text that was signed. Each of its lines ends with a newline.
    pub text: String,
    /// Its signatures.
    pub digested: Digested,
}

impl ClearText {
    /// Whether a file is such a text, so that it has to be read as one.
    pub fn is_meant(bytes: &[u8]) -> bool {
        bytes.windows(BEGIN.len()).any(|window| window == BEGIN.as_bytes())
    }

    /// Takes such a text apart.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        let malformed = |reason: &str| SignatureError::Malformed(reason.to_owned());
        if bytes.len() > CLEAR_TEXT_BYTES_MAX {
            return Err(malformed("the text is too long"));
        }
        let whole = str::from_utf8(bytes).map_err(|_| malformed("the text is no UTF-8"))?;
        if whole.chars().any(|character| character.is_control() && !matches!(character, '\n' | '\r' | '\t')) {
            return Err(malformed("there are control characters in the text"));
        }
        let mut lines = whole.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        match lines.find(|line| !line.is_empty()) {
            Some(BEGIN) => {}
            _ if Self::is_meant(bytes) => {
                return Err(malformed("something stands before the text that is signed"));
            }
            _ => return Err(SignatureError::NotSigned),
        }
        let short = || malformed("the text is cut short");
        loop {
            match lines.next().ok_or_else(short)? {
                line if line.trim().is_empty() => break,
                line if line.starts_with("Hash: ") => {}
                _ => return Err(malformed("there is a header other than Hash")),
            }
        }
        let mut text = String::with_capacity(whole.len());
        loop {
            let line = match lines.next().ok_or_else(short)? {
                SIGNATURE_BEGIN => break,
                line if line.contains('\r') => {
                    return Err(malformed("there is a carriage return inside of a line"));
                }
                line => line.strip_prefix(ESCAPE).map_or_else(|| unescaped(line), Ok)?,
            };
            text.push_str(line.trim_end_matches([' ', '\t']));
            text.push('\n');
        }
        let mut armored = format!("{SIGNATURE_BEGIN}\n");
        loop {
            let line = lines.next().ok_or_else(|| malformed("the signature is cut short"))?;
            armored.push_str(line);
            armored.push('\n');
            if line == SIGNATURE_END {
                break;
            }
        }
        if lines.any(|line| !line.is_empty()) {
            return Err(malformed("something stands behind the signature"));
        }
        let signatures = Signatures::read(armored.as_bytes(), Signed::Text)?;
        let digested = signatures.digest(hashed(&text).as_bytes());
        let digested = digested.map_err(|error| SignatureError::Malformed(error.to_string()))?;
        Ok(Self { text, digested })
    }

    /// Puts a text together with its signature. The text is one that [`hashed`] was asked about.
    pub(super) fn write(text: &str, armored: &str) -> String {
        let mut whole = format!("{BEGIN}\nHash: SHA512\n\n");
        for line in text.lines() {
            if line.starts_with('-') {
                whole.push_str(ESCAPE);
            }
            whole.push_str(line);
            whole.push('\n');
        }
        whole + armored
    }
}

/// A line that is not escaped: one that begins with a dash has to be.
fn unescaped(line: &str) -> Result<&str, SignatureError> {
    if line.starts_with('-') {
        return Err(SignatureError::Malformed("a line of the text begins with a dash".to_owned()));
    }
    Ok(line)
}

/// What is hashed of a text whose lines end with a newline: with a carriage return each, and without the end of the last
/// line, which belongs to the signature.
pub(super) fn hashed(text: &str) -> String {
    text.strip_suffix('\n').unwrap_or(text).replace('\n', "\r\n")
}
