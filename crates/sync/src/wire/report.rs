//! What a host reports of itself, and what a server says of the hosts that did.
//!
//! It is JSON, because people and scripts read it as well, and it proves nothing: a host may say anything of itself. So
//! what a report may hold is bounded here, by both sides, and nothing that a terminal would act on comes into one.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use smart_sync_store::id::ManifestId;
use smart_sync_store::manifest::path::Shown;

use crate::name::{Channel, RefName};

/// The longest report.
pub const REPORT_BYTES_MAX: usize = 4 << 10;
/// The most targets of one host.
pub const TARGETS_MAX: usize = 32;
/// The most reports that a server keeps.
pub const REPORTS_MAX: usize = 16 << 10;
/// The longest list of reports, with what a server adds to each.
pub const LIST_BYTES_MAX: u64 = (REPORTS_MAX * (REPORT_BYTES_MAX + 512)) as u64;
/// The longest name of a host.
const HOST_BYTES_MAX: usize = 64;
/// The longest text in a report.
const TEXT_BYTES_MAX: usize = 1 << 10;

/// The name that a host reports by: letters, digits and `._-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HostName(Box<str>);

impl HostName {
    /// The name as text. It means nothing in a path or a URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins_well && text.len() <= HOST_BYTES_MAX && text.bytes().all(is_usual) {
            return Ok(Self(text.into()));
        }
        Err(
            "a host reports by a name of at most 64 letters, digits and `._-` that begins with one of the first two",
        )
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Whether all is well with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Its version is confirmed, or nobody has anything against it.
    Healthy,
    /// Its version waits to be confirmed.
    Waiting,
    /// The newest version that was tried was not healthy, and was taken back.
    RolledBack,
    /// Its version is not healthy.
    NotHealthy,
    /// Its version needs a reboot.
    RebootPending,
    /// It holds nothing yet.
    NothingApplied,
    /// Something that is not known here: the host is newer.
    #[serde(other)]
    Unknown,
}

impl Health {
    /// What people call it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Waiting => "waiting",
            Self::RolledBack => "rolled back",
            Self::NotHealthy => "not healthy",
            Self::RebootPending => "reboot pending",
            Self::NothingApplied => "nothing applied",
            Self::Unknown => "unknown",
        }
    }
}

/// How one target of a host stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The directory.
    pub target: String,
    /// The realm, or the address of a repository.
    pub origin: String,
    /// The channel; empty for a repository.
    pub channel: String,
    /// The ref.
    pub r#ref: String,
    /// The number of the publication; 0 for a repository.
    pub seq: u64,
    /// What it holds, with the name of the hash in front.
    pub manifest: Option<String>,
    /// The commit, where it is one of git.
    pub commit: Option<String>,
    /// When that was applied, in seconds since 1970.
    pub applied: u64,
    /// Whether all is well.
    pub health: Health,
    /// The number of local changes, where it was counted.
    pub drift: Option<u64>,
    /// The exit status of the run that reports.
    pub exit: u8,
}

/// Why something is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is too long.
    #[error("a report has at most {REPORT_BYTES_MAX} bytes")]
    TooLong,
    /// It is no JSON, or lacks something.
    #[error("it is no report: {0}")]
    Malformed(serde_json::Error),
    /// A text in it is too long, or holds what a terminal would act on.
    #[error("`{0}` is longer than {TEXT_BYTES_MAX} bytes, or holds control characters")]
    Text(&'static str),
    /// A name in it is not one.
    #[error("`{0}` is not what it is in a publication")]
    Name(&'static str),
}

impl Report {
    /// Reads a report. Members that are not known are ignored: a newer host may say more.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(ReportError::TooLong);
        }
        let report: Self = serde_json::from_slice(bytes).map_err(ReportError::Malformed)?;
        report.check()?;
        Ok(report)
    }

    /// The bytes that are sent.
    pub fn encode(&self) -> Result<Vec<u8>, ReportError> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(ReportError::Malformed)?;
        if bytes.len() > REPORT_BYTES_MAX { Err(ReportError::TooLong) } else { Ok(bytes) }
    }

    /// The channel and the ref, where it is one of a realm.
    pub fn channel_and_ref(&self) -> Option<(Channel, RefName)> {
        Some((self.channel.parse().ok()?, self.r#ref.parse().ok()?))
    }

    fn check(&self) -> Result<(), ReportError> {
        let texts = [
            ("target", Some(&self.target)),
            ("origin", Some(&self.origin)),
            ("channel", Some(&self.channel)),
            ("ref", Some(&self.r#ref)),
            ("manifest", self.manifest.as_ref()),
            ("commit", self.commit.as_ref()),
        ];
        for (name, text) in texts {
            let is_plain =
                |text: &String| text.len() <= TEXT_BYTES_MAX && Shown(text.as_bytes()).to_string() == *text;
            if !text.is_none_or(is_plain) {
                return Err(ReportError::Text(name));
            }
        }
        if self.target.is_empty() {
            return Err(ReportError::Name("target"));
        }
        if !self.channel.is_empty() && self.manifest.is_some() && self.channel_and_ref().is_none() {
            return Err(ReportError::Name(if self.channel.parse::<Channel>().is_err() {
                "channel"
            } else {
                "ref"
            }));
        }
        let is_id = |text: &String| {
            text.strip_prefix("blake3:").is_some_and(|digits| digits.parse::<ManifestId>().is_ok())
        };
        if !self.manifest.as_ref().is_none_or(is_id) {
            return Err(ReportError::Name("manifest"));
        }
        Ok(())
    }
}

/// All reports that a server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportList {
    /// The server's time, in seconds since 1970: what ages are counted from.
    pub now: u64,
    /// In the order of hosts and targets.
    pub reports: Vec<Reported>,
}

/// The last report of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// Whose it is.
    pub host: HostName,
    /// When it came, by the server's time.
    pub received: u64,
    /// What was published last to its ref, where the server has the ref and the caller may know of it.
    pub newest: Option<Newest>,
    /// What it says.
    #[serde(flatten)]
    pub report: Report,
}

/// The newest publication of a ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// Its number.
    pub seq: u64,
    /// Its tree; nothing where the ref was withdrawn.
    pub manifest: Option<String>,
}

impl Reported {
    /// Whether something else was published since. A ref that was withdrawn has nothing that a host could follow.
    pub fn is_behind(&self) -> bool {
        let newest = self.newest.as_ref().and_then(|newest| newest.manifest.as_ref());
        newest.is_some_and(|newest| self.report.manifest.as_ref() != Some(newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            target: "/srv/site".to_owned(),
            origin: "lab.example.org".to_owned(),
            channel: "repos/site".to_owned(),
            r#ref: "branch:main".to_owned(),
            seq: 7,
            manifest: Some(format!("blake3:{}", "ba".repeat(32))),
            commit: None,
            applied: 1_795_246_679,
            health: Health::Healthy,
            drift: Some(0),
            exit: 0,
        }
    }

    #[track_caller]
    fn check(report: &Report, expected: &str) {
        let bytes = serde_json::to_vec(report).unwrap();
        assert_eq!(Report::parse(&bytes).unwrap_err().to_string(), expected);
        assert!(report.encode().is_err());
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let bytes = report().encode().unwrap();
        assert_eq!(Report::parse(&bytes).unwrap(), report());
        let (channel, reference) = report().channel_and_ref().unwrap();
        assert_eq!((channel.as_str(), reference.to_string().as_str()), ("repos/site", "branch:main"));
        let newer = String::from_utf8(bytes).unwrap().replacen('{', "{\"new\":[1],", 1);
        assert_eq!(Report::parse(newer.as_bytes()).unwrap(), report());
        // Of a repository, and of a target that holds nothing yet.
        let other = Report { channel: String::new(), r#ref: "branch:a b".to_owned(), ..report() };
        assert!(other.encode().is_ok());
        assert!(Report { manifest: None, r#ref: String::new(), ..report() }.encode().is_ok());
    }

    #[test]
    fn what_is_too_long_or_no_name_is_refused() {
        let text = |name: &str| format!("`{name}` is longer than 1024 bytes, or holds control characters");
        let name = |name: &str| format!("`{name}` is not what it is in a publication");
        check(&Report { target: "a\u{1b}[2J".to_owned(), ..report() }, &text("target"));
        check(&Report { origin: "a\u{202e}b".to_owned(), ..report() }, &text("origin"));
        check(&Report { commit: Some("a\nb".to_owned()), ..report() }, &text("commit"));
        check(&Report { target: "a".repeat(1025), ..report() }, &text("target"));
        check(&Report { target: String::new(), ..report() }, &name("target"));
        check(&Report { channel: "../a".to_owned(), ..report() }, &name("channel"));
        check(&Report { r#ref: "main".to_owned(), ..report() }, &name("ref"));
        check(&Report { r#ref: "branch:../x".to_owned(), ..report() }, &name("ref"));
        check(&Report { manifest: Some("ba64".to_owned()), ..report() }, &name("manifest"));
        assert!(matches!(Report::parse(&[b' '; REPORT_BYTES_MAX + 1]), Err(ReportError::TooLong)));
        let deep = "[".repeat(REPORT_BYTES_MAX);
        for wrong in ["", "{}", "[]", "{\"target\":\"/t\"}", deep.as_str()] {
            assert!(matches!(Report::parse(wrong.as_bytes()), Err(ReportError::Malformed(_))), "{wrong}");
        }
    }

    #[test]
    fn a_host_has_a_name_that_means_nothing_in_a_path() {
        for taken in ["web1", "web1.example.org", "a", "0_-"] {
            assert_eq!(taken.parse::<HostName>().unwrap().as_str(), taken);
        }
        let long = "a".repeat(65);
        for refused in ["", ".", "..", "../a", "-a", "a/b", "a b", "a\n", "w\u{e9}b", &long] {
            assert!(refused.parse::<HostName>().is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_host_is_behind_when_its_ref_is_another_tree() {
        let reported = |newest: Option<Newest>| Reported {
            host: "web1".parse().unwrap(),
            received: 1,
            newest,
            report: report(),
        };
        let other = Some(format!("blake3:{}", "00".repeat(32)));
        assert!(!reported(None).is_behind());
        assert!(!reported(Some(Newest { seq: 8, manifest: report().manifest })).is_behind());
        assert!(!reported(Some(Newest { seq: 8, manifest: None })).is_behind());
        assert!(reported(Some(Newest { seq: 8, manifest: other })).is_behind());
        let list = ReportList { now: 2, reports: vec![reported(None)] };
        let bytes = serde_json::to_vec(&list).unwrap();
        assert_eq!(serde_json::from_slice::<ReportList>(&bytes).unwrap(), list);
    }
}
