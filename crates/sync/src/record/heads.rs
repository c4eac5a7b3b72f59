//! Heads: a leaf that sums up where every ref stands. It is not signed; the checkpoint covers it.

use super::RecordError;
use super::lines::{Lines, or_none};
use crate::log::merkle::{LogHash, SIZE_MAX};
use crate::time::UnixTime;

/// A heads leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heads {
    /// When the batch before it was written, by the server's clock.
    pub time: UnixTime,
    /// The leaf hash of the previous heads leaf.
    pub prev: Option<LogHash>,
    /// The root document in force.
    pub root: RootRef,
    /// The root hash over the table of heads.
    pub table: LogHash,
    /// The number of its entries.
    pub count: u64,
}

/// A root document, by its version and its leaf hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootRef {
    /// The version.
    pub version: u64,
    /// The leaf hash.
    pub leaf: LogHash,
}

impl Heads {
    /// The first line.
    pub const HEADER: &'static str = "smart-sync/heads/v1";
    /// No heads leaf is longer.
    const BYTES_MAX: usize = 1024;

    /// Reads the bytes of a heads leaf.
    pub fn parse(leaf: &[u8]) -> Result<Self, RecordError> {
        let text =
            str::from_utf8(leaf).ok().filter(|text| text.len() <= Self::BYTES_MAX).ok_or_else(|| {
                let reason = "it is not a short text in UTF-8".to_owned();
                RecordError::Line { record: Self::HEADER, line: 1, reason }
            })?;
        let mut lines = Lines::open(Self::HEADER, text)?;
        let time = lines.time("time")?;
        let prev = lines.hash_or_none("prev-heads")?;
        let value = lines.value("root")?;
        let [version, leaf] = lines.as_parts(value)?;
        let root = RootRef { version: lines.as_number(version)?, leaf: lines.as_parsed(leaf)? };
        let value = lines.value("heads")?;
        let [table, count] = lines.as_parts(value)?;
        let (table, count) = (lines.as_parsed(table)?, lines.as_number(count)?);
        if root.version == 0 || count > SIZE_MAX {
            return Err(lines.refuse("a number is outside of what it counts"));
        }
        lines.finish()?;
        Ok(Self { time, prev, root, table, count })
    }

    /// The text of the leaf.
    pub fn to_text(&self) -> String {
        format!(
            "{}\ntime {}\nprev-heads {}\nroot {} {}\nheads {} {}\n",
            Self::HEADER,
            self.time.seconds(),
            or_none(self.prev.as_ref()),
            self.root.version,
            self.root.leaf,
            self.table,
            self.count
        )
    }
}
