//! Directories that are followed as they are: a file with digests says which files there are.
//!
//! What such a file names is all there is: a listing that anybody could have made adds nothing to it.

use std::collections::BTreeMap;

use smart_sync_store::manifest::TreePath;
use smart_sync_sync::kinds::follow::{Answer, Question};
use smart_sync_sync::openpgp::{ClearText, KeyRing, SIGNATURES_BYTES_MAX};
use smart_sync_sync::time::UnixTime;

use super::digests;
use super::look::{Offering, Wants};
use super::must::Must;
use super::versions::OfVersions;

/// What stands behind the name of a file with its signature.
const SIGNATURES: [&str; 3] = [".asc", ".sig", ".gpgsig"];

/// A look at such a directory.
pub(super) struct Whole<'a> {
    /// Where the digests are upstream; none where they are of this machine.
    path: Option<&'a str>,
    key_ring: Option<&'a KeyRing>,
    now: UnixTime,
    files_max: usize,
    text: Option<Vec<u8>>,
    /// The files with signatures that were found.
    signatures: BTreeMap<String, Vec<u8>>,
    has_asked: bool,
    has_asked_for_signatures: bool,
    /// What the files are that the digests name, where these are versions, and which are wanted.
    versions: Option<(OfVersions, Wants<'a>)>,
}

impl<'a> Whole<'a> {
    /// The digests are in a file upstream.
    pub(super) fn upstream(path: &'a str, wants: &Wants<'a>, files_max: usize) -> Self {
        Self {
            path: Some(path),
            key_ring: wants.key_ring,
            now: wants.now,
            files_max,
            text: None,
            signatures: BTreeMap::new(),
            has_asked: false,
            has_asked_for_signatures: false,
            versions: None,
        }
    }

    /// They are here.
    pub(super) fn here(text: Vec<u8>, wants: &Wants<'a>, files_max: usize) -> Self {
        let nothing = Self::upstream("", wants, files_max);
        Self { path: None, text: Some(text), ..nothing }
    }

    /// The files are versions, where the kind knows such.
    pub(super) fn of_versions(self, versions: Option<OfVersions>, wants: Wants<'a>) -> Self {
        Self { versions: versions.map(|versions| (versions, wants)), ..self }
    }

    /// What has to be read next.
    pub(super) fn questions(&mut self) -> Vec<Question> {
        let Some(path) = self.path else { return Vec::new() };
        let document = |path: String, bytes_max| Question::Document { path, bytes_max };
        if !std::mem::replace(&mut self.has_asked, true) {
            return vec![document(path.to_owned(), digests::BYTES_MAX)];
        }
        let is_signed = self.text.as_deref().is_some_and(ClearText::is_meant);
        let asks = self.key_ring.is_some() && !is_signed && !self.has_asked_for_signatures;
        self.has_asked_for_signatures = true;
        if !asks {
            return Vec::new();
        }
        SIGNATURES.iter().map(|end| document(format!("{path}{end}"), SIGNATURES_BYTES_MAX as u64)).collect()
    }

    /// Takes in what was read.
    pub(super) fn answer(&mut self, question: &Question, answer: Answer<'_>) -> Result<(), String> {
        let (Question::Document { path, .. }, answer) = (question, answer) else { return Ok(()) };
        let is_digests = self.path == Some(path.as_str());
        match answer {
            Answer::Document(bytes) if is_digests => self.text = Some(bytes.to_vec()),
            Answer::Document(bytes) => {
                self.signatures.insert(path.clone(), bytes.to_vec());
            }
            _ if is_digests => return Err(format!("there is no {path}")),
            _ => {}
        }
        Ok(())
    }

    /// What is to be brought: what the digests name, and the files that say so.
    pub(super) fn offer(self) -> Result<Offering, String> {
        let text = self.text.as_deref().unwrap_or_default();
        let name = self.path.unwrap_or("the file with digests");
        let signed = self.judge(name, text)?;
        let parsed = digests::parse(name, signed.as_deref().unwrap_or(text), self.files_max)?;
        let mut offering = Offering::default();
        for (path, sum) in parsed {
            let place = str::from_utf8(path.as_bytes()).map_err(|error| error.to_string())?.to_owned();
            let must = Must::Come { size: None, bytes_max: u64::MAX, sums: vec![sum] };
            offering.add(path, place, must)?;
        }
        if let Some((versions, wants)) = &self.versions {
            return versions.choose(offering, wants).map_err(|error| format!("{name}: {error}"));
        }
        let read = self.path.map(|path| (path.to_owned(), text.to_vec()));
        for (place, bytes) in read.into_iter().chain(self.signatures) {
            let path = TreePath::new(place.as_bytes()).map_err(|error| format!("{place}: {error}"))?;
            offering.replace(path, place, Must::Read(bytes.into()));
        }
        Ok(offering)
    }

    /// The text that keys which count have signed, where it is another than what was read.
    fn judge(&self, name: &str, text: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let is_clear_text = ClearText::is_meant(text);
        let refused = |error: &dyn std::fmt::Display| format!("{name}: {error}");
        // What the operator has put here needs nobody else's word.
        let ring = self.key_ring.filter(|_| self.path.is_some());
        if is_clear_text {
            let text = match ring {
                Some(ring) => ring.verify_clear_text(text, self.now).map(|(text, _)| text),
                None => ClearText::parse(text).map(|parsed| parsed.text),
            };
            return text.map(|text| Some(text.into_bytes())).map_err(|error| refused(&error));
        }
        let Some(ring) = ring else { return Ok(None) };
        let mut reason = "it is not signed".to_owned();
        for signature in self.signatures.values() {
            match ring.verify_detached(signature, text, self.now) {
                Ok(Ok(_)) => return Ok(None),
                Ok(Err(error)) => reason = error.to_string(),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(refused(&reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0000000000000000000000000000000000000000000000000000000000000000  a\n";

    fn wants(key_ring: Option<&KeyRing>) -> Wants<'_> {
        Wants { architectures: &[], variants: &[], newest: None, key_ring, now: UnixTime::EPOCH }
    }

    fn asked(questions: &[Question]) -> Vec<String> {
        let path = |question: &Question| match question {
            Question::Document { path, .. } | Question::Listing { directory: path } => path.clone(),
        };
        questions.iter().map(path).collect()
    }

    #[test]
    fn without_keys_what_the_file_names_is_what_there_is() {
        let mut whole = Whole::upstream("sub/SUMS", &wants(None), 10);
        let questions = whole.questions();
        assert_eq!(asked(&questions), ["sub/SUMS"]);
        whole.answer(&questions[0], Answer::Document(TEXT.as_bytes())).unwrap();
        assert_eq!(whole.questions(), []);
        let offering = whole.offer().unwrap();
        let files: Vec<String> = offering.files.keys().map(ToString::to_string).collect();
        assert_eq!(files, ["a", "sub/SUMS"]);
        let mut whole = Whole::upstream("SUMS", &wants(None), 10);
        let questions = whole.questions();
        assert_eq!(whole.answer(&questions[0], Answer::Absent), Err("there is no SUMS".to_owned()));
    }

    #[test]
    fn with_keys_what_nobody_has_signed_is_refused() {
        let ring = KeyRing::default();
        let mut whole = Whole::upstream("SUMS", &wants(Some(&ring)), 10);
        let questions = whole.questions();
        whole.answer(&questions[0], Answer::Document(TEXT.as_bytes())).unwrap();
        let questions = whole.questions();
        assert_eq!(asked(&questions), ["SUMS.asc", "SUMS.sig", "SUMS.gpgsig"]);
        for question in &questions {
            whole.answer(question, Answer::Absent).unwrap();
        }
        assert_eq!(whole.questions(), []);
        assert_eq!(whole.offer().unwrap_err(), "SUMS: it is not signed");
        let offering = Whole::here(TEXT.into(), &wants(Some(&ring)), 10).offer().unwrap();
        assert_eq!(offering.files.len(), 1);
    }
}
