//! Files that stay for a while after nothing names them any more.
//!
//! Whoever has fetched an index may fetch everything that it names for some time. So what an index does not name any
//! more stays in the tree until then, and a file of the tree says since when: a line `SECONDS PATH` for each, by their
//! paths. Mirrors of every kind keep the promise that way, because it is part of what is published.

use std::collections::BTreeMap;

use smart_sync_store::manifest::TreePath;

use crate::time::UnixTime;

/// Where it is written, in a tree.
pub const FILE: &str = ".smart-sync/retired";
/// How long such files stay, in seconds: a week.
pub const GRACE_SECONDS: u64 = 7 * 24 * 3600;
/// The largest such file that is read.
pub const BYTES_MAX: u64 = 64 << 20;

/// Files that nothing names any more, and since when.
pub type Retired = BTreeMap<TreePath, u64>;

/// Reads the file.
pub fn parse(bytes: &[u8]) -> Result<Retired, String> {
    let mut retired = Retired::new();
    for line in bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n') {
        if line.is_empty() && bytes.is_empty() {
            break;
        }
        let space = line.iter().position(|byte| *byte == b' ').ok_or_else(|| wrong(line))?;
        let seconds: u64 = str::from_utf8(&line[..space])
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| wrong(line))?;
        let path = TreePath::new(&line[space + 1..]).map_err(|_| wrong(line))?;
        if UnixTime::new(seconds).is_none() || retired.insert(path, seconds).is_some() {
            return Err(wrong(line));
        }
    }
    Ok(retired)
}

fn wrong(line: &[u8]) -> String {
    let line = &line[..line.len().min(200)];
    format!("{FILE}: {} is no line of it", smart_sync_store::manifest::Shown(line))
}

/// Writes the file. A path with a line break in it cannot be written, and is not one that an index could name.
pub fn render(retired: &Retired) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, seconds) in retired.iter().filter(|(path, _)| !path.as_bytes().contains(&b'\n')) {
        bytes.extend_from_slice(format!("{seconds} ").as_bytes());
        bytes.extend_from_slice(path.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// Whether what nothing has named since then has been there for long enough.
pub const fn is_over(since: u64, now: UnixTime) -> bool {
    now.seconds().saturating_sub(since) >= GRACE_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let retired: Retired = [("a/b c", 5), ("z", u64::from(u32::MAX))]
            .map(|(path, since)| (TreePath::new(path.as_bytes()).unwrap(), since))
            .into();
        let bytes = render(&retired);
        assert_eq!(bytes, b"5 a/b c\n4294967295 z\n");
        assert_eq!(parse(&bytes), Ok(retired));
        assert_eq!(parse(b""), Ok(Retired::new()));
        for wrong in
            ["5\n", "x a\n", "5 ../a\n", "5 a\n5 a\n", "\n", "5 a\n\n", "99999999999999 a\n", "-1 a\n"]
        {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_week_is_enough() {
        let now = UnixTime::new(GRACE_SECONDS + 100).unwrap();
        assert!(is_over(100, now) && !is_over(101, now) && !is_over(u64::MAX, now));
    }
}
