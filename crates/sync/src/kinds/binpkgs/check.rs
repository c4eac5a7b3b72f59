//! A package that is published, compared with what the index says of it.
//!
//! Whoever fetches a package by an index relies on all that the index says, so everything is compared: the digests, what
//! the package says of itself, and its signature where there are keys. What is wrong is said as it is found, all of it.

use std::fmt;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use smart_sync_store::manifest::{Shown, TreePath};

use super::super::{SignaturePolicy, Unsigned};
use super::image::list;
use super::index::{Block, INHERITED_KEYS};
use super::package::{Container, Package};
use super::signature::Signature;
use super::stanza::{StanzaError, is_said, stanza};
use super::{PackageError, gpkg, xpak};
use crate::openpgp::Signer;
use crate::time::UnixTime;

/// The number of bytes that are read at once.
const READ_LEN: usize = 64 << 10;
/// The most letters of a value that are shown.
const SHOWN_MAX: usize = 80;

/// What was found.
#[derive(Debug, Default)]
pub struct Checked {
    /// What is wrong; nothing where the package is what the index says.
    pub faults: Vec<Fault>,
    /// Who has signed it, where there are keys.
    pub signer: Option<Signer>,
}

/// What is wrong with a package.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is no sound package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// No index can say anything of it.
    #[error(transparent)]
    Stanza(#[from] StanzaError),
    /// The index says something else.
    #[error("{key} is {}, and the index says {}", Value(.found.as_deref()), Value(.stated.as_deref()))]
    Differs {
        /// Of what.
        key: String,
        /// What it is.
        found: Option<String>,
        /// What the index says.
        stated: Option<String>,
    },
    /// The path in the index is none of a package.
    #[error("{} is not the path of a package", Shown(.0.as_bytes()))]
    Path(String),
    /// There are keys, and nobody has signed it.
    #[error("it is not signed")]
    Unsigned,
}

/// A value as it is shown.
struct Value<'a>(Option<&'a str>);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(text) = self.0 else { return f.write_str("nothing") };
        let start: String = text.chars().take(SHOWN_MAX).collect();
        let more = if start.len() < text.len() { "…" } else { "" };
        write!(f, "{}{more}", Shown(start.as_bytes()))
    }
}

/// Reads a package from its beginning to its end, and compares it with what the index says. An error is one of reading,
/// and says nothing about the package.
pub fn check<F: Read + Seek>(
    file: &mut F,
    stated: &Block,
    policy: &SignaturePolicy<'_>,
    now: UnixTime,
) -> io::Result<Checked> {
    let mut checked = Checked::default();
    let text = stated.get("PATH").unwrap_or_default();
    let (Ok(path), Some(container)) = (TreePath::new(text.as_bytes()), Container::of_name(text)) else {
        return Ok(Checked { faults: vec![Fault::Path(text.to_owned())], signer: None });
    };
    file.rewind()?;
    let input = BufReader::with_capacity(READ_LEN, &mut *file);
    let read = match container {
        Container::Gpkg => gpkg::read(input),
        Container::Xpak => xpak::read(input),
    };
    let Some(package) = checked.sound(read)? else { return Ok(checked) };
    checked.compare(&package, &path, stated);
    file.seek(SeekFrom::Start(package.image.range.start))?;
    let packed_len = package.image.range.end - package.image.range.start;
    let input = BufReader::with_capacity(READ_LEN, &mut *file);
    checked.sound(list(input, packed_len, package.image.codec, package.container, |_| ()))?;
    checked.judge(&package, file, policy, now)?;
    Ok(checked)
}

impl Checked {
    /// What was read, where it is sound.
    fn sound<T>(&mut self, read: Result<T, PackageError>) -> io::Result<Option<T>> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(PackageError::Read(error)) => Err(error),
            Err(error) => {
                self.faults.push(error.into());
                Ok(None)
            }
        }
    }

    fn compare(&mut self, package: &Package, path: &TreePath, stated: &Block) {
        // When a copy was made of the file is no property of the package.
        let modified = stated.get("MTIME").and_then(|text| text.parse().ok()).unwrap_or_default();
        let found = match stanza(package, path, modified) {
            Ok(found) => found,
            Err(error) => return self.faults.push(error.into()),
        };
        let mut differs = |key: &str, found: Option<&str>, stated: Option<&str>| {
            let [found, stated] = [found, stated].map(|value| value.map(str::to_owned));
            self.faults.push(Fault::Differs { key: key.to_owned(), found, stated });
        };
        for (key, value) in found.iter().filter(|(key, value)| stated.get(key) != Some(value)) {
            differs(key, Some(value), stated.get(key));
        }
        // What the header says is said of packages too that say nothing themselves.
        let is_too_much =
            |key: &str| is_said(key) && !INHERITED_KEYS.contains(&key) && found.get(key).is_none();
        for (key, value) in stated.iter().filter(|(key, _)| is_too_much(key)) {
            differs(key, None, Some(value));
        }
    }

    fn judge<F: Read + Seek>(
        &mut self,
        package: &Package,
        file: &mut F,
        policy: &SignaturePolicy<'_>,
        now: UnixTime,
    ) -> io::Result<()> {
        let Signature::Signed(parts) = &package.signature else {
            if policy.key_ring.is_some() && policy.unsigned == Unsigned::Refused {
                self.faults.push(Fault::Unsigned);
            }
            return Ok(());
        };
        let Range { start, end } = package.image.range;
        let image = move || {
            let input = file;
            input.seek(SeekFrom::Start(start))?;
            Ok(input.take(end - start))
        };
        let digested = self.sound(parts.digest(image))?;
        if let Some((digested, ring)) = digested.zip(policy.key_ring) {
            self.signer = self.sound(digested.judge(ring, now))?;
        }
        Ok(())
    }
}
