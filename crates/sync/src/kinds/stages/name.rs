//! Where release media are, and what lies beside them.
//!
//! A mirror has a directory `ARCH/autobuilds` for each architecture. Below it lie `TIMESTAMP/NAME-TIMESTAMP.tar.xz` with
//! files that say what it is, `latest-NAME.txt`, and in `current-NAME/` the newest files of that name once more. Names
//! come from directories and texts of others, so that only what is spelled like this is one.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use smart_sync_store::manifest::TreePath;

use crate::kinds::KindError;
use crate::kinds::published::tree_path;

/// The directory of an architecture that holds them.
const AUTOBUILDS: &str = "autobuilds";
/// The longest name of a directory or a file.
const NAME_BYTES_MAX: usize = 200;
/// The most parts of what stands behind the first dot of the name of a medium, and the longest of them.
const EXTENSION_PARTS_MAX: usize = 2;
const EXTENSION_BYTES_MAX: usize = 8;
/// What texts are called that name media of several names.
const OVERVIEWS: [&str; 2] = ["stage3", "iso"];

/// The time of a build, as it stands in names: `20261129T170312Z`, or `20261129` where there is no more of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(String);

impl Stamp {
    /// Reads it.
    pub fn parse(text: &str) -> Option<Self> {
        let is_form = text.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
        let stamp = Self(text.to_owned());
        (is_form && matches!(text.len(), 8 | 16) && stamp.time().is_some()).then_some(stamp)
    }

    fn time(&self) -> Option<u64> {
        let number = |range: std::ops::Range<usize>| self.0.get(range).map_or(Ok(0), str::parse::<i8>);
        let (year, month, day) = (self.0.get(..4)?.parse().ok()?, number(4..6).ok()?, number(6..8).ok()?);
        let (hour, minute, second) = (number(9..11).ok()?, number(11..13).ok()?, number(13..15).ok()?);
        let time = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        u64::try_from(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second()).ok()
    }

    /// In seconds since 1970.
    pub(super) fn seconds(&self) -> u64 {
        self.time().unwrap_or(0)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a medium: `stage3-amd64-openrc-20261129T170312Z.tar.xz`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MediumName {
    /// What it is a build of: `stage3-amd64-openrc`.
    pub name: String,
    /// When it was built.
    pub stamp: Stamp,
    /// The whole name.
    pub file: String,
}

impl MediumName {
    /// Reads the name of a file.
    pub fn parse(file: &str) -> Option<Self> {
        let (stem, extension) = file.split_once('.')?;
        let (name, stamp) = stem.rsplit_once('-')?;
        let is_part = |part: &str| {
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            (1..=EXTENSION_BYTES_MAX).contains(&part.len()) && part.bytes().all(is_plain)
        };
        let is_sound = file.len() <= NAME_BYTES_MAX
            && is_name(name)
            && extension.split('.').count() <= EXTENSION_PARTS_MAX
            && extension.split('.').all(is_part)
            && Beside::split(file).1 == Beside::Itself;
        let stamp = Stamp::parse(stamp)?;
        is_sound.then(|| Self { name: name.to_owned(), stamp, file: file.to_owned() })
    }
}

/// Whether builds, or an architecture, may be called so.
pub(super) fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-');
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(is_plain)
}

/// What a file says of the medium beside which it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Beside {
    /// It is the medium.
    Itself,
    /// The files in it, compressed or not.
    Contents(&'static str),
    /// Digests of it and of its contents.
    Digests,
    /// A detached signature.
    Signature,
    /// One more digest.
    Sha256,
}

impl Beside {
    /// What may lie beside a medium.
    pub(super) const ALL: [Self; 5] = [
        Self::Contents(".CONTENTS.gz"),
        Self::Contents(".CONTENTS"),
        Self::Digests,
        Self::Signature,
        Self::Sha256,
    ];

    /// What stands behind the name of the medium.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Itself => "",
            Self::Contents(suffix) => suffix,
            Self::Digests => ".DIGESTS",
            Self::Signature => ".asc",
            Self::Sha256 => ".sha256",
        }
    }

    fn split(file: &str) -> (&str, Self) {
        let known =
            Self::ALL.into_iter().find_map(|beside| Some((file.strip_suffix(beside.suffix())?, beside)));
        known.unwrap_or((file, Self::Itself))
    }
}

/// What builds follow each other: those of one name for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    /// The directory of automatic builds: `amd64/autobuilds`.
    pub(super) area: String,
    /// What they are called: `stage3-amd64-openrc`.
    pub(super) name: String,
}

impl Series {
    /// Whether this is no series, and a text of this name is about all of them.
    pub(super) fn is_overview(&self) -> bool {
        OVERVIEWS.contains(&self.name.as_str())
    }

    fn text(&self) -> String {
        format!("latest-{}.txt", self.name)
    }
}

/// A medium, wherever it lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Medium {
    pub(super) area: String,
    pub(super) name: MediumName,
}

impl Medium {
    pub(super) fn series(&self) -> Series {
        Series { area: self.area.clone(), name: self.name.name.clone() }
    }

    /// Where what lies beside it is, in a tree.
    pub(super) fn path(&self, beside: Beside) -> Result<TreePath, KindError> {
        let (stamp, file) = (&self.name.stamp, &self.name.file);
        tree_path(&format!("{}/{stamp}/{file}{}", self.area, beside.suffix()))
    }

    /// Where that is once more if it is of the newest build.
    pub(super) fn current_path(&self, beside: Beside) -> Result<TreePath, KindError> {
        let MediumName { name, file, .. } = &self.name;
        tree_path(&format!("{}/current-{name}/{file}{}", self.area, beside.suffix()))
    }
}

/// A text that says which build is the newest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TextPlace {
    /// Whose builds.
    pub(super) series: Series,
    /// Whether it lies in the directory of the newest build, and names files of that alone.
    pub(super) is_current: bool,
}

impl TextPlace {
    /// Where it is, in a tree.
    pub(super) fn path(&self) -> Result<TreePath, KindError> {
        let Series { area, name } = &self.series;
        let text = self.series.text();
        if self.is_current {
            tree_path(&format!("{area}/current-{name}/{text}"))
        } else {
            tree_path(&format!("{area}/{text}"))
        }
    }
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A medium, or what lies beside one.
    Medium {
        medium: Medium,
        beside: Beside,
        /// Whether it lies in the directory of the newest build.
        is_copy: bool,
    },
    /// A text.
    Text(TextPlace),
}

impl Place {
    /// Reads a path, whatever directories the one of the architecture is in. None for what is no part of a tree.
    pub(super) fn parse(path: &TreePath) -> Option<Self> {
        let path = str::from_utf8(path.as_bytes()).ok()?;
        let (above, file) = path.rsplit_once('/')?;
        if let Some(area) = area_of(above) {
            let series = Series { area, name: text_name(file)?.to_owned() };
            return Some(Self::Text(TextPlace { series, is_current: false }));
        }
        let (above, directory) = above.rsplit_once('/')?;
        let area = area_of(above)?;
        let current = directory.strip_prefix("current-");
        if let (Some(current), Some(name)) = (current, text_name(file)) {
            let series = Series { area, name: name.to_owned() };
            return (current == name).then_some(Self::Text(TextPlace { series, is_current: true }));
        }
        let (file, beside) = Beside::split(file);
        let name = MediumName::parse(file)?;
        let is_in_place = match current {
            Some(current) => current == name.name,
            None => directory == name.stamp.0,
        };
        let medium = Medium { area, name };
        is_in_place.then_some(Self::Medium { medium, beside, is_copy: current.is_some() })
    }
}

/// The directory of automatic builds that a path ends with, and the one of the architecture above it, if there is one.
fn area_of(path: &str) -> Option<String> {
    let above = path.strip_suffix(AUTOBUILDS)?;
    let Some(above) = above.strip_suffix('/') else {
        return above.is_empty().then(|| AUTOBUILDS.to_owned());
    };
    let architecture = above.rsplit('/').next().unwrap_or_default();
    is_name(architecture).then(|| format!("{architecture}/{AUTOBUILDS}"))
}

/// What a text is about.
pub(super) fn text_name(file: &str) -> Option<&str> {
    file.strip_prefix("latest-")?.strip_suffix(".txt").filter(|name| is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Option<Place> {
        Place::parse(&TreePath::new(path.as_bytes()).expect("a path"))
    }

    #[track_caller]
    fn check(path: &str, expected: Option<&str>) {
        let found = place(path).map(|place| match place {
            Place::Medium { medium, beside, is_copy } => {
                let path = if is_copy { medium.current_path(beside) } else { medium.path(beside) };
                path.expect("a path").to_string()
            }
            Place::Text(text) => text.path().expect("a path").to_string(),
        });
        assert_eq!(found.as_deref(), expected, "{path}");
    }

    #[test]
    fn files_of_a_mirror_have_their_place_in_a_tree() {
        for path in [
            "amd64/autobuilds/latest-stage3-amd64-openrc.txt",
            "amd64/autobuilds/latest-iso.txt",
            "amd64/autobuilds/current-stage3-x32-openrc/latest-stage3-x32-openrc.txt",
            "autobuilds/20261129T170312Z/stage3-amd64-openrc-20261129T170312Z.tar.xz",
            "amd64/autobuilds/20261129T170312Z/stage3-amd64-openrc-20261129T170312Z.tar.xz.CONTENTS.gz",
            "amd64/autobuilds/20261129T170312Z/stage3-amd64-openrc-20261129T170312Z.tar.xz.DIGESTS",
            "x86/autobuilds/20261129T170312Z/stage3-i686-hardened+nomultilib-20261129T170312Z.tar.xz.asc",
            "amd64/autobuilds/20261129T170312Z/install-amd64-minimal-20261129T170312Z.iso.sha256",
            "amd64/autobuilds/current-admincd-amd64/admincd-amd64-20261129T170312Z.iso.DIGESTS",
            "alpha/autobuilds/20161006/stage3-alpha-20161006.tar.bz2.CONTENTS",
        ] {
            check(path, Some(path));
            let below = path.strip_prefix("autobuilds/").map(|below| format!("releases/autobuilds/{below}"));
            check(&format!("gentoo/releases/{path}"), Some(below.as_deref().unwrap_or(path)));
        }
    }

    #[test]
    fn other_files_have_none() {
        let stage = "stage3-amd64-openrc-20261129T170312Z.tar.xz";
        for path in [
            "latest-stage3-amd64-openrc.txt".to_owned(),
            format!("20261129T170312Z/{stage}"),
            format!("amd64/20261129T170312Z/{stage}"),
            format!("amd64/autobuilds/{stage}"),
            format!("amd64/autobuilds/20261129T170313Z/{stage}"),
            format!("amd64/autobuilds/20261129T170312Z/hardened/{stage}"),
            format!("amd64/autobuilds/20261129T170312Z/{stage}.CONTENTS.gz.asc"),
            format!("amd64/autobuilds/20261129T170312Z/{stage}.DIGESTS.asc"),
            format!("amd64/autobuilds/20261129T170312Z/.{stage}"),
            format!("amd64/autobuilds/current-stage3-amd64-systemd/{stage}"),
            format!("a b/autobuilds/20261129T170312Z/{stage}"),
            "amd64/autobuilds/current-a/latest-b.txt".to_owned(),
            "amd64/autobuilds/latest-.txt".to_owned(),
            "amd64/autobuilds/latest-a b.txt".to_owned(),
            "amd64/autobuilds/.keep.amd64.txt".to_owned(),
            "amd64/autobuilds/20261129T170312Z/a-20261129T170312Z".to_owned(),
            "amd64/autobuilds/20261129T170312Z/a-20261129T170312Z.".to_owned(),
            "amd64/autobuilds/20261129T170312Z/a-20261129T170312Z.tar.xz.gz".to_owned(),
            "amd64/autobuilds/20261129T170312Z/-20261129T170312Z.iso".to_owned(),
            "amd64/autobuilds/20261329T170312Z/a-20261329T170312Z.iso".to_owned(),
            "amd64/autobuilds/20261129T1703/a-20261129T1703.iso".to_owned(),
            "amd64/autobuilds/20261129X170312Z/a-20261129X170312Z.iso".to_owned(),
        ] {
            check(&path, None);
        }
    }

    #[test]
    fn later_builds_are_behind_earlier_ones() {
        let stamps = ["20161006", "20261128T235959Z", "20261129", "20261129T000000Z", "20261129T170312Z"];
        let stamps = stamps.map(|stamp| Stamp::parse(stamp).expect("a stamp"));
        assert!(stamps.is_sorted());
        assert_eq!(stamps[4].seconds(), 1_795_971_792);
        assert_eq!(stamps[2].seconds(), stamps[3].seconds());
    }
}
