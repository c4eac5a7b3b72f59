//! Signed notes, as [C2SP signed-note](https://c2sp.org/signed-note) has them.
//!
//! A note is parsed without believing it: its text can only be read for a purpose after [`Note::verified_by`] has
//! said which of the keys that matter have signed it. One note has one spelling, and what it may cost to look at is
//! bounded before it is looked at.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::key::{KeyHash, KeyName, KeyType, SignError, Signature, Signer, VerifierKey};
use crate::time::UnixTime;

/// The most bytes of a note.
pub const NOTE_BYTES_MAX: usize = 65_535;
/// The most signature lines of a note.
pub const NOTE_SIGNATURES_MAX: usize = 64;

/// The longest signature of any type, in bytes: room for types that are not known here and are passed over.
const SIGNATURE_BYTES_MAX: usize = 8192;
const SIGNATURE_START: &str = "\u{2014} ";

/// A text and the signatures that stand below it. Nothing is said about whether they are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: KeyName,
    hash: KeyHash,
    bytes: Vec<u8>,
}

/// A key whose signature on a note is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedBy<'k> {
    /// The key.
    pub key: &'k VerifierKey,
    /// When it signed, for cosignatures.
    pub time: Option<UnixTime>,
}

/// Why a note was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Over [`NOTE_BYTES_MAX`].
    #[error("the note has {0} bytes, over the limit of {NOTE_BYTES_MAX}")]
    TooLong(usize),
    /// Over [`NOTE_SIGNATURES_MAX`].
    #[error("the note has over {NOTE_SIGNATURES_MAX} signatures")]
    TooManySignatures,
    /// The bytes are not UTF-8.
    #[error("the note is not UTF-8")]
    NotUtf8,
    /// A control character, a carriage return for instance.
    #[error("the note holds the control character {0:?}")]
    ControlCharacter(char),
    /// The text or the last line does not end in a newline, or there is no text.
    #[error("the note does not end in a newline")]
    NoNewline,
    /// No blank line, so no signatures.
    #[error("the note is not signed")]
    NotSigned,
    /// A line that should be a signature is none.
    #[error("signature line {0} of the note is malformed")]
    MalformedSignature(usize),
    /// Two lines of one key.
    #[error("the note has two signatures of the key {0}")]
    DuplicateSignature(KeyName),
    /// A key that counts here is named, and its signature is wrong.
    #[error("the signature of {0} is wrong: the note was changed, or another key signed it")]
    WrongSignature(KeyName),
}

impl Note {
    /// Makes a note without signatures.
    pub fn new(text: String) -> Result<Self, NoteError> {
        check_characters(&text)?;
        if text.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong(text.len()));
        }
        if !text.ends_with('\n') {
            return Err(NoteError::NoNewline);
        }
        Ok(Self { text, signatures: Vec::new() })
    }

    /// Reads a signed note.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong(bytes.len()));
        }
        let whole = str::from_utf8(bytes).map_err(|_| NoteError::NotUtf8)?;
        check_characters(whole)?;
        // The last blank line separates: a text may hold blank lines and lines that look like signatures.
        let (text, signatures) = whole.rsplit_once("\n\n").ok_or(NoteError::NotSigned)?;
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::NoNewline)?;
        if signatures.split('\n').count() > NOTE_SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures);
        }
        let mut note = Self { text: format!("{text}\n"), signatures: Vec::new() };
        for (index, line) in signatures.split('\n').enumerate() {
            let signature = NoteSignature::parse(line).ok_or(NoteError::MalformedSignature(index + 1))?;
            if note.signatures.iter().any(|other| other.is_of_same_key(&signature)) {
                return Err(NoteError::DuplicateSignature(signature.name));
            }
            note.signatures.push(signature);
        }
        Ok(note)
    }

    /// What is signed. It is to be believed only as far as [`Self::verified_by`] goes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, in their order.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// The bytes of the note.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.text.clone();
        out.push('\n');
        for signature in &self.signatures {
            out.push_str(&signature.to_line());
        }
        out.into_bytes()
    }

    /// Adds a signature over the text, in place of an older one of the same key.
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<(), SignError> {
        let signature = signer.sign(self.text.as_bytes())?;
        self.put(&signer.verifier_key(KeyType::Ed25519), signature.as_bytes().to_vec());
        Ok(())
    }

    /// Adds a cosignature (tlog-cosignature v1), which says that the signer saw this checkpoint at this time.
    pub fn cosign(&mut self, signer: &dyn Signer, time: UnixTime) -> Result<(), SignError> {
        let signature = signer.sign(&cosigned_message(&self.text, time.seconds()))?;
        let bytes = [time.seconds().to_be_bytes().as_slice(), signature.as_bytes()].concat();
        self.put(&signer.verifier_key(KeyType::Cosignature), bytes);
        Ok(())
    }

    /// Takes over the signatures of another note of the same text, where this one lacks them. Nothing happens when
    /// the texts differ.
    pub fn merge(&mut self, other: &Self) {
        if self.text != other.text {
            return;
        }
        for signature in &other.signatures {
            if !self.signatures.iter().any(|own| own.is_of_same_key(signature)) {
                self.signatures.push(signature.clone());
            }
        }
    }

    /// Takes over the signature of one key from another note of the same text, in place of an older one. Nothing
    /// happens when the texts differ.
    pub fn take_over(&mut self, other: &Self, key: &VerifierKey) {
        if self.text == other.text
            && let Some(signature) =
                other.signatures.iter().find(|line| line.name == *key.name() && line.hash == key.hash())
        {
            self.put(key, signature.bytes.clone());
        }
    }

    /// Puts the signatures into the one order that notes in the log have: by name, then by key hash.
    pub fn sort_signatures(&mut self) {
        self.signatures.sort_by(|a, b| (&a.name, a.hash).cmp(&(&b.name, b.hash)));
    }

    /// Whether the signatures are in the order of the log.
    pub fn is_sorted(&self) -> bool {
        self.signatures.is_sorted_by(|a, b| (&a.name, a.hash) < (&b.name, b.hash))
    }

    /// Which of these keys have signed the note. A key is counted once, however often and under whatever names it
    /// signed or is listed; signatures of keys that are not asked for are passed over. A wrong signature by one
    /// that is asked for refuses the note: nobody honest makes one.
    pub fn verified_by<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifierKey>,
    ) -> Result<Vec<VerifiedBy<'k>>, NoteError> {
        let mut verified: Vec<VerifiedBy<'k>> = Vec::new();
        for key in keys {
            let Some(signature) =
                self.signatures.iter().find(|line| line.name == *key.name() && line.hash == key.hash())
            else {
                continue;
            };
            let by = signature
                .check(&self.text, key)
                .ok_or_else(|| NoteError::WrongSignature(signature.name.clone()))?;
            if !verified.iter().any(|other| other.key.public_key() == key.public_key()) {
                verified.push(by);
            }
        }
        Ok(verified)
    }

    fn put(&mut self, key: &VerifierKey, bytes: Vec<u8>) {
        let signature = NoteSignature { name: key.name().clone(), hash: key.hash(), bytes };
        self.signatures.retain(|other| !other.is_of_same_key(&signature));
        self.signatures.push(signature);
    }
}

impl NoteSignature {
    /// The name of the key that is said to have signed.
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// The hash of the key that is said to have signed.
    pub const fn hash(&self) -> KeyHash {
        self.hash
    }

    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(SIGNATURE_START)?.split_once(' ')?;
        if encoded.len() > SIGNATURE_BYTES_MAX / 3 * 4 {
            return None;
        }
        // The engine refuses missing padding and stray bits, so one signature has one spelling.
        let bytes = BASE64_STANDARD.decode(encoded).ok()?;
        let (hash, bytes) = bytes.split_first_chunk::<4>().filter(|(_, rest)| !rest.is_empty())?;
        Some(Self { name: name.parse().ok()?, hash: KeyHash(*hash), bytes: bytes.to_vec() })
    }

    fn to_line(&self) -> String {
        let bytes = [self.hash.0.as_slice(), &self.bytes].concat();
        format!("{SIGNATURE_START}{} {}\n", self.name, BASE64_STANDARD.encode(bytes))
    }

    fn is_of_same_key(&self, other: &Self) -> bool {
        self.name == other.name && self.hash == other.hash
    }

    fn check<'k>(&self, text: &str, key: &'k VerifierKey) -> Option<VerifiedBy<'k>> {
        match key.key_type() {
            KeyType::Ed25519 => {
                let signature = Signature::from_bytes(self.bytes.as_slice().try_into().ok()?);
                let good = key.public_key().verifies(text.as_bytes(), &signature);
                good.then_some(VerifiedBy { key, time: None })
            }
            KeyType::Cosignature => {
                let (seconds, signature) = self.bytes.split_first_chunk::<8>()?;
                let seconds = u64::from_be_bytes(*seconds);
                let signature = Signature::from_bytes(signature.try_into().ok()?);
                let good = key.public_key().verifies(&cosigned_message(text, seconds), &signature);
                Some(VerifiedBy { key, time: Some(UnixTime::new(seconds).filter(|_| good)?) })
            }
        }
    }
}

fn cosigned_message(text: &str, seconds: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {seconds}\n{text}").into_bytes()
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    match text.chars().find(|character| character.is_control() && *character != '\n') {
        Some(character) => Err(NoteError::ControlCharacter(character)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
