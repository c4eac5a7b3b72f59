//! What only readers with a token may know of private channels.
//!
//! The log holds commitments; what opens them is kept here, in one file per leaf, written durably before the leaf
//! is. The secret of a channel makes its slots unguessable and is made with its first publication.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use smart_sync_store::id::{ObjectId, from_hex, to_hex};
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::name::Channel;
use smart_sync_sync::record::{COMMITMENT_RANDOM_BYTES, Opening, SlotSecret};

use super::index::file_name;
use crate::durable;

/// The openings and the channel secrets of a realm.
pub(crate) struct Secrets {
    directory: PathBuf,
}

impl Secrets {
    /// The secrets in this directory.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The secret of a channel, if it has one.
    pub(crate) fn slot_secret(&self, channel: &Channel) -> anyhow::Result<Option<SlotSecret>> {
        let path = self.channel_path(channel);
        let reading = || format!("reading {}", path.display());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(reading),
        };
        let secret =
            from_hex(text.trim_end()).context("it is not 64 hexadecimal digits").with_context(reading)?;
        Ok(Some(SlotSecret(secret)))
    }

    /// The secret of a channel, made if it has none. The caller holds the lock of the log.
    pub(crate) fn make_slot_secret(&self, channel: &Channel) -> anyhow::Result<SlotSecret> {
        if let Some(secret) = self.slot_secret(channel)? {
            return Ok(secret);
        }
        let secret: [u8; 32] = random()?;
        durable::write_private(&self.channel_path(channel), format!("{}\n", to_hex(&secret)).as_bytes())?;
        Ok(SlotSecret(secret))
    }

    /// Seals a note. The opening is to be kept durably before anything refers to it.
    pub(crate) fn seal(note: Vec<u8>) -> anyhow::Result<Opening> {
        Ok(Opening { random: random()?, note })
    }

    /// Keeps what opens a sealed leaf.
    pub(crate) fn keep(&self, leaf: &LogHash, opening: &Opening) -> anyhow::Result<()> {
        let bytes = [&opening.random[..], &opening.note].concat();
        durable::write_private(&self.opening_path(leaf), &bytes)
    }

    /// What opens a sealed leaf.
    pub(crate) fn opening(&self, leaf: &LogHash) -> anyhow::Result<Opening> {
        let path = self.opening_path(leaf);
        let reading = || format!("reading {}", path.display());
        let bytes = fs::read(&path).with_context(reading)?;
        ensure!(bytes.len() > COMMITMENT_RANDOM_BYTES, "{} is too short", path.display());
        let (random, note) = bytes.split_at(COMMITMENT_RANDOM_BYTES);
        Ok(Opening { random: random.try_into()?, note: note.to_vec() })
    }

    fn channel_path(&self, channel: &Channel) -> PathBuf {
        // A channel's name may be longer than that of a file.
        self.directory.join(format!("{}.channel", ObjectId::of(channel.as_str().as_bytes())))
    }

    fn opening_path(&self, leaf: &LogHash) -> PathBuf {
        self.directory.join(format!("{}.opening", file_name(leaf)))
    }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("asking the system for random bytes")?;
    Ok(bytes)
}
