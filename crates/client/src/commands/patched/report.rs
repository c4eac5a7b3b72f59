//! What was found, for people, for programs, and as a tree that can be published.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use similar::TextDiff;
use smart_sync_store::manifest::TreePath;
use smart_sync_store::manifest::path::Shown;
use smart_sync_sync::name::Channel;

use super::compare::{Difference, Texts};
use super::layers::PatchFile;
use crate::failure::Failure;

/// What is said of a file that is installed as it is.
const SAME: &str = "same";
/// The lines of context around a change.
const CONTEXT: usize = 3;

/// Everything that was compared.
#[derive(Debug, Default)]
pub(super) struct Report {
    compared: Vec<(TreePath, PathBuf, Difference)>,
}

/// One line of it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "patched")]
pub(super) struct Line {
    state: &'static str,
    path: String,
    patch: String,
}

impl Line {
    pub(super) fn differs(&self) -> bool {
        self.state != SAME
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10} /{}", self.state, self.path)
    }
}

impl Report {
    pub(super) fn add(&mut self, path: &TreePath, file: &PatchFile, difference: Difference) {
        self.compared.push((path.clone(), file.path.clone(), difference));
    }

    pub(super) fn compared(&self) -> u64 {
        self.compared.len() as u64
    }

    pub(super) fn differs(&self) -> bool {
        self.compared.iter().any(|(.., difference)| *difference != Difference::None)
    }

    /// How many are installed as they are, differ, and are missing.
    pub(super) fn summary(&self) -> String {
        let many = |is_so: fn(&Difference) -> bool| {
            self.compared.iter().filter(|(.., difference)| is_so(difference)).count()
        };
        let same = many(|difference| *difference == Difference::None);
        let missing = many(|difference| *difference == Difference::Missing);
        let differ = self.compared.len() - same - missing;
        format!("{same} installed as they are, {differ} differ, {missing} missing")
    }

    /// A line for each path.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        self.compared.iter().map(|(path, patch, difference)| Line {
            state: word(difference),
            path: path.to_string(),
            patch: Shown(patch.as_os_str().as_encoded_bytes()).to_string(),
        })
    }

    /// How texts differ, of those that are wanted: from what is installed to the patch file.
    pub(super) fn texts(&self, is_wanted: impl Fn(&Difference) -> bool) -> String {
        let mut out = String::new();
        for (path, _, difference) in &self.compared {
            if let Difference::Content(Some(texts)) = difference
                && is_wanted(difference)
            {
                let compared = TextDiff::from_lines(&texts.installed, &texts.patch);
                let (old, new) = (format!("installed/{path}"), format!("patch/{path}"));
                let unified = compared.unified_diff().context_radius(CONTEXT).header(&old, &new).to_string();
                out.push_str(&unified);
            }
        }
        out
    }

    /// Writes it as a directory: the same findings make the same bytes, so that only what is new is published.
    pub(super) fn write(&self, directory: &Path, channel: &Channel) -> Result<PathBuf, Failure> {
        let directory = directory.join(channel.to_url_segment());
        fs::create_dir_all(&directory)
            .map_err(|error| Failure::from(error).context(format!("making {}", directory.display())))?;
        let (mut text, mut json) = (String::new(), String::new());
        for line in self.lines() {
            let object = serde_json::to_string(&line).map_err(|error| {
                Failure::from(std::io::Error::from(error)).context("writing a report as JSON")
            })?;
            // Writing to strings does not fail.
            let _ = writeln!(text, "{line}");
            let _ = writeln!(json, "{object}");
        }
        // Whoever reads the channel is not always whoever may read the files.
        let public = |difference: &Difference| {
            matches!(difference, Difference::Content(Some(Texts { is_public: true, .. })))
        };
        let files =
            [("patched.txt", text), ("patched.jsonl", json), ("differences.diff", self.texts(public))];
        for (name, text) in files {
            let path = directory.join(name);
            fs::write(&path, text)
                .map_err(|error| Failure::from(error).context(format!("writing {}", path.display())))?;
        }
        Ok(directory)
    }
}

fn word(difference: &Difference) -> &'static str {
    match difference {
        Difference::None => SAME,
        Difference::Missing => "missing",
        Difference::Other(_) => "other-kind",
        Difference::Mode => "mode",
        Difference::Link => "link",
        Difference::Content(_) => "differs",
    }
}
