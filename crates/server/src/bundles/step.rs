//! What a bundle is a bundle of, and the names under which bundles are stored.
//!
//! The name of a stored bundle says everything that the server has to know of it, so that listing the object store is
//! all that a restart needs.

use std::fmt;
use std::str::FromStr;

use smart_sync_store::backend::StoredFile;
use smart_sync_store::domain::Domain;
use smart_sync_store::id::{ManifestId, ParseIdError, from_hex, to_hex};

/// From one manifest to another, in a domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Step {
    /// Where both manifests are.
    pub(crate) domain: Domain,
    /// What a client has; nothing for a first install.
    pub(crate) from: Option<ManifestId>,
    /// What it wants.
    pub(crate) to: ManifestId,
}

/// How a manifest that a step begins from is written: in URLs, in names and in the log.
pub(crate) struct FromText<'a>(pub(crate) &'a Option<ManifestId>);

impl fmt::Display for FromText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(from) => from.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// Reads what [`FromText`] writes.
pub(crate) fn parse_from(text: &str) -> Result<Option<ManifestId>, ParseIdError> {
    if text == "none" { Ok(None) } else { text.parse().map(Some) }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} to {}", self.domain, FromText(&self.from), self.to)
    }
}

/// How much work a bundle is worth. The better one is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Quality {
    /// Made while somebody waits.
    Quick,
    /// As small as can be had for reasonable work.
    Best,
}

impl Quality {
    /// The word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Best => "best",
        }
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Quality {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "quick" => Ok(Self::Quick),
            "best" => Ok(Self::Best),
            _ => Err(()),
        }
    }
}

/// One computation of a bundle. Two of the same step may differ in every byte, so each has a number of its own, drawn
/// before the first byte is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Variant {
    /// How it was made.
    pub(crate) quality: Quality,
    /// Its number.
    pub(crate) number: [u8; 8],
}

impl Variant {
    /// A variant that there has never been.
    pub(crate) fn new(quality: Quality) -> anyhow::Result<Self> {
        let mut number = [0; 8];
        getrandom::fill(&mut number)?;
        Ok(Self { quality, number })
    }

    /// Its strong entity tag, with the quotes.
    pub(crate) fn etag(&self) -> String {
        format!("\"{self}\"")
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.quality, to_hex(&self.number))
    }
}

/// A bundle in the object store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BundleFile {
    /// What it is a bundle of.
    pub(crate) step: Step,
    /// Which one.
    pub(crate) variant: Variant,
    /// Its number of bytes. A file of another length is not one that was stored as a whole.
    pub(crate) length: u64,
}

impl fmt::Display for BundleFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { domain, from, to } = &self.step;
        let (variant, length) = (self.variant, self.length);
        write!(f, "{}/{domain}/{}-{to}-{variant}-{length}{}", Self::ROOT, FromText(from), Self::EXTENSION)
    }
}

impl StoredFile for BundleFile {
    const ROOT: &'static str = "bundles";
    const EXTENSION: &'static str = ".bundle";

    fn parse(name: &str) -> Option<Self> {
        let (domain, rest) = name.strip_prefix(Self::ROOT)?.strip_prefix('/')?.rsplit_once('/')?;
        let mut parts = rest.strip_suffix(Self::EXTENSION)?.split('-');
        let mut part = || parts.next();
        let (from, to) = (parse_from(part()?).ok()?, part()?.parse().ok()?);
        let variant = Variant { quality: part()?.parse().ok()?, number: from_hex(part()?)? };
        let file = Self {
            step: Step { domain: domain.parse().ok()?, from, to },
            variant,
            length: part()?.parse().ok()?,
        };
        (file.to_string() == name).then_some(file)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn manifest(number: u8) -> ManifestId {
        ManifestId::from_bytes([number; 32])
    }

    /// A public step; from number 0 it is a first install.
    pub(crate) fn step(from: u8, to: u8) -> Step {
        Step { domain: Domain::public(), from: (from > 0).then(|| manifest(from)), to: manifest(to) }
    }

    #[test]
    fn names_come_back_and_others_are_passed_over() {
        let private: Domain = "private/repos/secret/a-b".parse().unwrap();
        for (from, quality) in [(None, Quality::Quick), (Some(manifest(2)), Quality::Best)] {
            let step = Step { domain: private.clone(), from, to: manifest(1) };
            let file = BundleFile { step, variant: Variant { quality, number: [0xab; 8] }, length: 17 };
            assert_eq!(BundleFile::parse(&file.to_string()), Some(file));
        }
        let (from, to, number) = ("02".repeat(32), "01".repeat(32), "ab".repeat(8));
        let good = format!("bundles/public/{from}-{to}-best-{number}-17.bundle");
        assert!(BundleFile::parse(&good).is_some());
        for bad in [
            good.replace("bundles/", "packs/"),
            good.replace("public/", ""),
            good.replace("best", "worst"),
            good.replace("-17", "-017"),
            good.replace("-17", "-+17"),
            good.replace("-17", "-17-1"),
            good.replace("-17", ""),
            good.replace("0101", "010"),
            good.replace(&from, "nothing"),
            good.replace(&number, &number.to_uppercase()),
            format!("{good}#1"),
        ] {
            assert_eq!(BundleFile::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn variants_differ_and_name_themselves() {
        let (one, other) = (Variant::new(Quality::Quick).unwrap(), Variant::new(Quality::Quick).unwrap());
        assert_ne!(one, other);
        let etag = Variant { quality: Quality::Best, number: [0x0a; 8] }.etag();
        assert_eq!(etag, "\"best-0a0a0a0a0a0a0a0a\"");
        assert!(Quality::Best > Quality::Quick);
    }
}
