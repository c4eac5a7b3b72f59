//! Texts that may have a signature around them.

use crate::openpgp::{ClearText, Digested, KeyRing, SignatureError, Signer};
use crate::time::UnixTime;

/// The largest text that is read: digests, or the name of the newest build.
pub(super) const TEXT_BYTES_MAX: u64 = 256 << 10;

/// A text, and its signatures, which are not judged yet.
pub(super) struct SignedText {
    /// The text, as it was signed where it is.
    pub(super) text: String,
    digested: Option<Digested>,
}

impl SignedText {
    /// Takes a text apart.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, SignatureError> {
        if ClearText::is_meant(bytes) {
            let parsed = ClearText::parse(bytes)?;
            return Ok(Self { text: parsed.text, digested: Some(parsed.digested) });
        }
        let text = str::from_utf8(bytes);
        let text = text.map_err(|_| SignatureError::Malformed("the text is no UTF-8".to_owned()))?;
        Ok(Self { text: text.to_owned(), digested: None })
    }

    /// Who has signed it, where there are keys that may; without keys that is not asked.
    pub(super) fn judge(
        &self,
        ring: Option<&KeyRing>,
        now: UnixTime,
    ) -> Result<Option<Signer>, SignatureError> {
        let Some(ring) = ring else { return Ok(None) };
        let digested = self.digested.as_ref().ok_or(SignatureError::NotSigned)?;
        ring.judge(digested, now).map(Some)
    }
}

/// What to do about a signature that does not count. There is no way to publish what is not signed beside what is.
pub(super) fn hint(error: &SignatureError) -> &'static str {
    match error {
        SignatureError::NotSigned => {
            "fetch what it lacks from where it was built; without --keyring, signatures are not looked at"
        }
        error => error.hint(),
    }
}
