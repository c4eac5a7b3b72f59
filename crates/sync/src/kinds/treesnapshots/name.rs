//! The names of snapshots and of what lies beside them: `gentoo-20261130.tar.xz`, and the same with `.gpgsig` or `.md5sum`
//! behind it.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::kinds::binpkgs::codec::Codec;

/// What clients begin the names of snapshots with.
const TREES: [&str; 2] = ["gentoo", "portage"];
/// The compressions that they ask for.
const CODECS: [Codec; 2] = [Codec::Xz, Codec::Bzip2];

/// The name of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SnapshotName {
    /// The day that the snapshot is of.
    pub(super) date: Date,
    /// The whole name.
    pub(super) name: String,
    pub(super) codec: Codec,
}

impl SnapshotName {
    /// Reads the name of a file.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (stem, suffix) = name.split_once(".tar")?;
        let codec = Codec::of_suffix(suffix).filter(|codec| CODECS.contains(codec))?;
        let (tree, date) = stem.split_once('-')?;
        let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
        let number = |range: std::ops::Range<usize>| date.get(range)?.parse::<i8>().ok();
        if !TREES.contains(&tree) || !is_date {
            return None;
        }
        let date = Date::new(date[..4].parse().ok()?, number(4..6)?, number(6..8)?).ok()?;
        Some(Self { date, name: name.to_owned(), codec })
    }

    /// When the day begins, in seconds since 1970.
    pub(super) fn begin(&self) -> u64 {
        let begin = self.date.to_zoned(TimeZone::UTC).map_or(0, |zoned| zoned.timestamp().as_second());
        u64::try_from(begin).unwrap_or(0)
    }

    /// The name of the file with its signature.
    pub(super) fn signature(&self) -> String {
        format!("{}.gpgsig", self.name)
    }

    /// The name of the file with its digest.
    pub(super) fn digest(&self) -> String {
        format!("{}.md5sum", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_clients_ask_for_are_those_of_snapshots() {
        let name = SnapshotName::parse("gentoo-20261130.tar.xz").expect("it is one");
        assert_eq!((name.begin(), name.codec), (1_795_996_800, Codec::Xz));
        assert_eq!(name.signature(), "gentoo-20261130.tar.xz.gpgsig");
        assert!(SnapshotName::parse("portage-20240229.tar.bz2").is_some());
        for other in [
            "gentoo-20261130.tar.zst",
            "gentoo-20261130.tar",
            "gentoo-20261131.tar.xz",
            "gentoo-20230229.tar.xz",
            "gentoo-2026113.tar.xz",
            "gentoo-+2026113.tar.xz",
            "gentoo-latest.tar.xz",
            "gentoo-20261130.tar.xz.gpgsig",
            "other-20261130.tar.xz",
            "gentoo-20261130.tar.xz.tar.xz",
            "",
        ] {
            assert_eq!(SnapshotName::parse(other), None, "{other}");
        }
    }
}
