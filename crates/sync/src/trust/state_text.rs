//! The state as text, in the manner of records: lines of `key value` in a fixed order, read strictly.
//!
//! The file is the machine's own, but it may be torn or have been edited by hand; what cannot be read as written is
//! refused, and never taken as "nothing is known".

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use smart_sync_store::id::{from_hex, to_hex};

use super::refusal::Fork;
use super::state::{Anchor, RefState, Seen, TrustState};
use crate::log::checkpoint::Checkpoint;
use crate::name::RefName;
use crate::note::Note;
use crate::record::{SlotSecret, Unverified};
use crate::time::UnixTime;

const HEADER: &str = "smart-sync/trust/v1";
/// The largest state that is read.
const TEXT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A trust state that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the trust state: {reason}")]
pub struct StateError {
    /// Which line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl TrustState {
    /// The text to keep. It holds the secrets of private channels, so it is for its owner alone.
    pub fn to_text(&self) -> String {
        use std::fmt::Write;
        let mut text = format!("{HEADER}\norigin {}\n", self.origin);
        let encode = |note: &Note| BASE64_STANDARD.encode(note.to_bytes());
        // Writing to a string does not fail.
        let _ = match &self.anchor {
            Anchor::Pin(pin) => writeln!(text, "pin {pin}"),
            Anchor::Seen(seen) => writeln!(
                text,
                "root {}\ncheckpoint {} {} {}",
                encode(seen.root.note()),
                seen.time.seconds(),
                seen.heads_time.seconds(),
                encode(&seen.checkpoint_note)
            ),
        };
        for (channel, secret) in &self.private {
            let _ = writeln!(text, "private {channel} {}", to_hex(&secret.0));
        }
        for ((channel, reference), state) in &self.refs {
            let RefState { seq, index, leaf, manifest } = state;
            let reference = reference.to_record();
            let _ = writeln!(text, "ref {channel} {reference} {seq} {index} {leaf} blake3:{manifest}");
        }
        if let Some(fork) = &self.fork {
            let _ = writeln!(text, "fork {} {}", encode(&fork.known), encode(&fork.offered));
        }
        text.push_str("end\n");
        text
    }
}

impl FromStr for TrustState {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        let mut lines = StateLines { lines: text, line: 0 };
        if text.len() > TEXT_BYTES_MAX {
            return Err(lines.refuse("it is longer than 64 MiB"));
        }
        lines.exactly(HEADER)?;
        let origin = lines.parsed("origin")?;
        let anchor = match lines.value_if("pin") {
            Some(pin) => Anchor::Pin(lines.part(pin)?),
            None => Anchor::Seen(Box::new(lines.seen()?)),
        };
        let (mut private, mut refs) = (BTreeMap::new(), BTreeMap::new());
        while let Some(value) = lines.value_if("private") {
            let [channel, secret] = lines.parts(value)?;
            let secret = from_hex(secret).ok_or_else(|| lines.refuse("a secret is 64 hexadecimal digits"))?;
            private.insert(lines.part(channel)?, SlotSecret(secret));
        }
        while let Some(value) = lines.value_if("ref") {
            let [channel, kind, name, seq, index, leaf, manifest] = lines.parts(value)?;
            let reference = RefName::from_record(&format!("{kind} {name}"))
                .map_err(|error| lines.refuse(error.to_string()))?;
            let manifest = manifest.strip_prefix("blake3:").unwrap_or_default();
            let state = RefState {
                seq: lines.part(seq)?,
                index: lines.part(index)?,
                leaf: lines.part(leaf)?,
                manifest: lines.part(manifest)?,
            };
            refs.insert((lines.part(channel)?, reference), state);
        }
        let fork = match lines.value_if("fork") {
            Some(value) => {
                let [known, offered] = lines.parts(value)?;
                Some(Fork { known: lines.note(known)?, offered: lines.note(offered)? })
            }
            None => None,
        };
        // Without this line a file that was cut off after a whole line would forget refs.
        lines.exactly("end")?;
        let state = Self { origin, anchor, refs, private, fork };
        if state.to_text() == text {
            Ok(state)
        } else {
            Err(lines.refuse("it is not written as smart-sync does"))
        }
    }
}

struct StateLines<'a> {
    lines: &'a str,
    line: usize,
}

impl<'a> StateLines<'a> {
    fn refuse(&self, reason: impl Into<String>) -> StateError {
        StateError { line: self.line, reason: reason.into() }
    }

    fn exactly(&mut self, expected: &str) -> Result<(), StateError> {
        self.line += 1;
        match self.lines.split_once('\n') {
            Some((line, rest)) if line == expected => {
                self.lines = rest;
                Ok(())
            }
            _ => Err(self.refuse(format!("expected {expected:?}"))),
        }
    }

    fn value_if(&mut self, key: &str) -> Option<&'a str> {
        let (line, rest) = self.lines.split_once('\n')?;
        let value = line.strip_prefix(key)?.strip_prefix(' ')?;
        self.lines = rest;
        self.line += 1;
        Some(value)
    }

    fn value(&mut self, key: &str) -> Result<&'a str, StateError> {
        self.value_if(key)
            .ok_or_else(|| StateError { line: self.line + 1, reason: format!("expected a line {key:?}") })
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, key: &str) -> Result<T, StateError> {
        let value = self.value(key)?;
        self.part(value)
    }

    fn part<T: FromStr<Err: Display>>(&self, text: &str) -> Result<T, StateError> {
        text.parse().map_err(|error: T::Err| self.refuse(error.to_string()))
    }

    fn parts<const N: usize>(&self, text: &'a str) -> Result<[&'a str; N], StateError> {
        let parts: Vec<&str> = text.splitn(N + 1, ' ').collect();
        parts.try_into().map_err(|_| self.refuse(format!("expected {N} values")))
    }

    fn note(&self, encoded: &str) -> Result<Note, StateError> {
        Note::parse(&self.note_bytes(encoded)?).map_err(|error| self.refuse(error.to_string()))
    }

    fn note_bytes(&self, encoded: &str) -> Result<Vec<u8>, StateError> {
        BASE64_STANDARD.decode(encoded).map_err(|_| self.refuse("a note is not in base64"))
    }

    fn time(&self, text: &str) -> Result<UnixTime, StateError> {
        UnixTime::new(self.part(text)?).ok_or_else(|| self.refuse("a time is after the year 9999"))
    }

    fn seen(&mut self) -> Result<Seen, StateError> {
        let root = self.value("root")?;
        let root = Unverified::parse(&self.note_bytes(root)?)
            .and_then(Unverified::verify_own)
            .map_err(|error| self.refuse(error.to_string()))?;
        let value = self.value("checkpoint")?;
        let [time, heads_time, note] = self.parts(value)?;
        let checkpoint_note = self.note(note)?;
        let checkpoint =
            Checkpoint::parse(checkpoint_note.text()).map_err(|error| self.refuse(error.to_string()))?;
        let (time, heads_time) = (self.time(time)?, self.time(heads_time)?);
        Ok(Seen { root, checkpoint, checkpoint_note, time, heads_time })
    }
}
