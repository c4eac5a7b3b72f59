//! The files that came from upstream: each stays, whatever becomes of the upstream it came from.

use rusqlite::{Connection, OptionalExtension as _, params};
use smart_sync_store::id::{BlobId, ContentId};
use smart_sync_store::manifest::Content;
use smart_sync_sync::kinds::pull::{Asked, Expected};
use smart_sync_sync::name::Channel;

use super::database::digest;

/// A file that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Its name.
    pub(crate) name: String,
    /// What it had to be, and is.
    pub(crate) expected: Expected,
    /// Where it is in the store.
    pub(crate) content: Content,
    /// When it was asked for first, in seconds since 1970.
    pub(crate) time: u64,
    /// The upstream that it came from; several, if it came in parts.
    pub(crate) source: String,
}

/// Notes that a file is there.
pub(super) fn note(db: &Connection, channel: &Channel, kept: &Kept) -> anyhow::Result<()> {
    let Kept { name, expected: Expected { size, blake2b, sha512 }, content, time, source } = kept;
    let (id, blob) = (content.id.as_bytes(), content.blob.as_bytes());
    db.execute(
        "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![channel.as_str(), name, sha512, blake2b, size, id, blob, time, source],
    )?;
    Ok(())
}

/// Forgets a file whose content is lost.
pub(super) fn forget(db: &Connection, channel: &Channel, kept: &Kept) -> anyhow::Result<()> {
    db.execute(
        "DELETE FROM kept WHERE channel = ? AND name = ? AND sha512 = ?",
        params![channel.as_str(), kept.name, kept.expected.sha512],
    )?;
    Ok(())
}

const COLUMNS: &str = "SELECT name, size, blake2b, sha512, content, blob, time, source FROM kept";

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Kept> {
    let expected = Expected { size: row.get(1)?, blake2b: digest(row, 2)?, sha512: digest(row, 3)? };
    let (id, blob) = (ContentId::from_bytes(digest(row, 4)?), BlobId::from_bytes(digest(row, 5)?));
    let content = Content { size: expected.size, blob, id };
    Ok(Kept { name: row.get(0)?, expected, content, time: row.get(6)?, source: row.get(7)? })
}

/// The file that is asked for; of several by one name the one that came last.
pub(super) fn find(db: &Connection, channel: &Channel, asked: &Asked) -> anyhow::Result<Option<Kept>> {
    let channel = channel.as_str();
    Ok(match asked {
        Asked::Name(name) => {
            let sql = format!("{COLUMNS} WHERE channel = ? AND name = ? ORDER BY time DESC LIMIT 1");
            db.prepare_cached(&sql)?.query_row(params![channel, name], read).optional()?
        }
        Asked::Content(sha512) => {
            let sql = format!("{COLUMNS} WHERE channel = ? AND sha512 = ? LIMIT 1");
            db.prepare_cached(&sql)?.query_row(params![channel, sha512], read).optional()?
        }
    })
}

/// The files of a channel.
pub(super) fn of_channel(db: &Connection, channel: &Channel) -> anyhow::Result<Vec<Kept>> {
    let mut statement = db.prepare(&format!("{COLUMNS} WHERE channel = ?"))?;
    Ok(statement.query_map([channel.as_str()], read)?.collect::<Result<_, _>>()?)
}

/// All files, each with the channel that it is kept for.
pub(super) fn all(db: &Connection) -> anyhow::Result<Vec<(Channel, Content)>> {
    let mut statement = db.prepare("SELECT channel, size, content, blob FROM kept")?;
    let rows = statement.query_map([], |row| {
        let (id, blob) = (ContentId::from_bytes(digest(row, 2)?), BlobId::from_bytes(digest(row, 3)?));
        Ok((row.get::<_, String>(0)?, Content { size: row.get(1)?, blob, id }))
    })?;
    let channel_of = |row: rusqlite::Result<(String, Content)>| {
        let (channel, content) = row?;
        Ok((channel.parse()?, content))
    };
    rows.map(channel_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirrors::database;

    #[test]
    fn what_is_kept_is_found_by_name_and_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("upstream.db");
        let db = database::open(&path).unwrap();
        let (here, there): (Channel, Channel) = ("distfiles".parse().unwrap(), "other".parse().unwrap());
        let file = |byte: u8, time: u64| Kept {
            name: "a-1".to_owned(),
            expected: Expected { size: 5, blake2b: [byte; 64], sha512: [byte; 64] },
            content: Content {
                size: 5,
                blob: BlobId::from_bytes([byte; 20]),
                id: ContentId::from_bytes([byte; 32]),
            },
            time,
            source: "http://upstream".to_owned(),
        };
        for (channel, kept) in [(&here, file(1, 10)), (&here, file(2, 20)), (&there, file(3, 30))] {
            note(&db, channel, &kept).unwrap();
        }
        drop(db);
        let db = database::open(&path).unwrap();
        let name = Asked::Name("a-1".to_owned());
        assert_eq!(find(&db, &here, &name).unwrap(), Some(file(2, 20)));
        assert_eq!(find(&db, &here, &Asked::Content([1; 64])).unwrap(), Some(file(1, 10)));
        assert_eq!(find(&db, &here, &Asked::Content([3; 64])).unwrap(), None);
        forget(&db, &here, &file(2, 20)).unwrap();
        assert_eq!(find(&db, &here, &name).unwrap(), Some(file(1, 10)));
        assert_eq!(all(&db).unwrap(), [(here, file(1, 10).content), (there, file(3, 30).content)]);
    }
}
