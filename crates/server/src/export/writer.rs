//! Writing files that are not there yet.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Report;
use super::destination::Destination;

/// What was found at the destination, what belongs there, and what was written to bring both together.
pub(super) struct Writer<'a> {
    destination: &'a Destination,
    present: BTreeMap<String, u64>,
    expected: BTreeSet<String>,
    report: Report,
}

impl<'a> Writer<'a> {
    /// Looks at what is there.
    pub(super) async fn new(destination: &'a Destination) -> anyhow::Result<Self> {
        let present = destination.list().await?;
        Ok(Self { destination, present, expected: BTreeSet::new(), report: Report::default() })
    }

    /// Says that a file belongs there, and whether it is there.
    pub(super) fn expect(&mut self, path: &str) -> bool {
        self.expected.insert(path.to_owned());
        self.present.contains_key(path)
    }

    /// The same of a file that never changes, and has this length.
    pub(super) fn expect_of(&mut self, path: &str, length: u64) -> bool {
        self.expect(path) && self.present.get(path) == Some(&length)
    }

    /// What is there.
    pub(super) async fn read(&self, path: &str) -> anyhow::Result<Option<Bytes>> {
        if self.present.contains_key(path) { self.destination.get(path).await } else { Ok(None) }
    }

    /// Writes a file.
    pub(super) async fn write(&mut self, path: &str, bytes: Bytes) -> anyhow::Result<()> {
        let length = bytes.len() as u64;
        self.destination.put(path, bytes).await?;
        self.expected.insert(path.to_owned());
        self.present.insert(path.to_owned(), length);
        self.report.written += 1;
        self.report.bytes += length;
        Ok(())
    }

    /// Writes a file unless it is there with these bytes.
    pub(super) async fn replace(&mut self, path: &str, bytes: Bytes) -> anyhow::Result<()> {
        if self.expect_of(path, bytes.len() as u64) && self.read(path).await?.as_ref() == Some(&bytes) {
            return Ok(());
        }
        self.write(path, bytes).await
    }

    /// Every file that is there.
    pub(super) fn present(&self) -> impl Iterator<Item = &str> {
        self.present.keys().map(String::as_str)
    }

    /// Every file that belongs there.
    pub(super) const fn expected(&self) -> &BTreeSet<String> {
        &self.expected
    }

    /// What was written.
    pub(super) const fn report(&self) -> Report {
        self.report
    }
}
