//! The text that says which build is the newest: `latest-stage3-amd64-openrc.txt`.
//!
//! A line `PATH SIZE` for each medium, and before them `# ts=SECONDS`, the time of the text.

use std::collections::BTreeSet;

use super::name::{MediumName, Stamp};

/// The most media that a text names.
const MEDIA_MAX: usize = 1000;
/// Begins the line that says the time.
const TIME: &str = "# ts=";

/// What such a text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// When it was written, in seconds since 1970.
    pub time: u64,
    /// The media, at least one.
    pub media: Vec<Named>,
}

/// A medium that a text names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Whether the name of its directory stands before it, which it does not where the text is in that directory.
    pub has_directory: bool,
    /// The medium.
    pub name: MediumName,
    /// Its number of bytes.
    pub size: u64,
}

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LatestError {
    /// A line that says nothing that can be relied on.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number, from 1 on.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It does not say its time.
    #[error("it has no line `# ts=` with a time")]
    Timeless,
    /// It names nothing.
    #[error("it names no file")]
    Empty,
    /// It names more than it may.
    #[error("it names more than {MEDIA_MAX} files")]
    TooLong,
}

impl Latest {
    /// Reads a text without its signature.
    pub fn parse(text: &str) -> Result<Self, LatestError> {
        let (mut time, mut media, mut seen) = (None, Vec::new(), BTreeSet::new());
        for (at, line) in text.split('\n').enumerate() {
            let wrong = |reason| LatestError::Line { line: at + 1, reason };
            if let Some(seconds) = line.strip_prefix(TIME) {
                let seconds = number(seconds).ok_or_else(|| wrong("the time is no number"))?;
                if time.replace(seconds).is_some() {
                    return Err(wrong("it is the second one with a time"));
                }
            } else if !line.is_empty() && !line.starts_with('#') {
                let named =
                    Named::parse(line).ok_or_else(|| wrong("it is no path of a medium and its size"))?;
                if media.len() == MEDIA_MAX {
                    return Err(LatestError::TooLong);
                }
                if !seen.insert(named.name.clone()) {
                    return Err(wrong("its file was named before"));
                }
                media.push(named);
            }
        }
        let time = time.ok_or(LatestError::Timeless)?;
        if media.is_empty() { Err(LatestError::Empty) } else { Ok(Self { time, media }) }
    }
}

impl Named {
    fn parse(line: &str) -> Option<Self> {
        let (path, size) = line.split_once(' ')?;
        let (directory, file) =
            path.split_once('/').map_or((None, path), |(above, file)| (Some(above), file));
        let name = MediumName::parse(file)?;
        let is_in_place = directory.is_none_or(|above| Stamp::parse(above).as_ref() == Some(&name.stamp));
        let size = number(size)?;
        is_in_place.then_some(Self { has_directory: directory.is_some(), name, size })
    }
}

/// A number as such texts have them: digits and nothing else.
fn number(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAGE: &str = "stage3-amd64-openrc-20261129T170312Z.tar.xz";

    #[test]
    fn a_text_says_its_time_and_names_media() {
        let text = format!(
            "# Latest as of Sun, 29 Nov 2026 20:00:00 +0000\n# ts=1795982400\n20261129T170312Z/{STAGE} 496363884\n"
        );
        let found = Latest::parse(&text).expect("a text");
        let name = MediumName::parse(STAGE).expect("a name");
        let named = Named { has_directory: true, name: name.clone(), size: 496_363_884 };
        assert_eq!(found, Latest { time: 1_795_982_400, media: vec![named] });
        let found = Latest::parse(&format!("{STAGE} 7\n# ts=1")).expect("a text");
        let named = Named { has_directory: false, name, size: 7 };
        assert_eq!(found, Latest { time: 1, media: vec![named] });
    }

    #[test]
    fn what_cannot_be_relied_on_is_refused() {
        let path = format!("20261129T170312Z/{STAGE}");
        for wrong in [
            String::new(),
            "# ts=1\n".to_owned(),
            format!("{path} 7\n"),
            format!("# ts=1\n# ts=1\n{path} 7\n"),
            format!("# ts=+1\n{path} 7\n"),
            format!("# ts=\n{path} 7\n"),
            format!("# ts=99999999999999999999\n{path} 7\n"),
            format!("# ts=1\n{path}\n"),
            format!("# ts=1\n{path} -7\n"),
            format!("# ts=1\n{path} 7 8\n"),
            format!("# ts=1\n{path}  7\n"),
            format!("# ts=1\n{path} 7\n{path} 8\n"),
            format!("# ts=1\n../{STAGE} 7\n"),
            format!("# ts=1\n/{path} 7\n"),
            format!("# ts=1\nhardened/{path} 7\n"),
            format!("# ts=1\n20261129T170313Z/{STAGE} 7\n"),
            "# ts=1\n20261129T170312Z/../../../etc/passwd 7\n".to_owned(),
            format!("# ts=1\n{path}.DIGESTS 7\n"),
            format!("# ts=1\n{path}\r 7\n"),
        ] {
            assert!(Latest::parse(&wrong).is_err(), "{wrong:?}");
        }
        let line = |at: usize| format!("a{at}-20261129.iso 7\n");
        let many: String = (0..=MEDIA_MAX).map(line).collect();
        assert_eq!(Latest::parse(&format!("# ts=1\n{many}")), Err(LatestError::TooLong));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(text in "\\PC*", lines in "(# ts=[0-9]{1,22}\n|[a-z0-9/TZ.-]{0,30} ?[0-9]{0,4}\n){0,6}") {
            let _ = Latest::parse(&text);
            let _ = Latest::parse(&lines);
        }
    }
}
