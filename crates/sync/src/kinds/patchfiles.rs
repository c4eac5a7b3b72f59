//! Files that are laid over a system: directories of it, with `portage` for `etc/portage`.
//!
//! An overlay on a host takes files and links and nothing else, so that a tree with something else would be refused there
//! as a whole: it is refused here, by whoever can repair it.

use smart_sync_store::manifest::{Attributes, Node};

use super::{ArtifactKind, AsItIs, Judged, KindError, Refusal, Whole};
use crate::source::{SourceEntry, SourceNode};

/// What such a tree has at its top.
const DIRECTORIES: [&str; 7] = ["portage", "etc", "usr", "var", "boot", "root", "home"];
/// What the names begin with by which things are made beside their place on a host.
const OURS: &[u8] = b".smart-sync-";
/// The most names that are said one by one.
const NAMES_SHOWN: usize = 10;

/// The kind.
#[derive(Debug)]
pub(super) struct PatchFiles;

impl ArtifactKind for PatchFiles {
    fn name(&self) -> &'static str {
        "patchfiles"
    }

    fn as_it_is(&self) -> Option<&dyn AsItIs> {
        Some(self)
    }
}

impl AsItIs for PatchFiles {
    fn judge(&self, tree: Whole<'_>) -> Result<Judged, KindError> {
        let entries = tree.listing.entries();
        let refused: Vec<Refusal> =
            entries.iter().filter_map(|entry| Some(Refusal::new(&entry.path, mistake(entry)?))).collect();
        if !refused.is_empty() {
            return Err(KindError::Refused(refused));
        }
        let tops = entries.iter().filter_map(|entry| entry.path.components().next());
        let mut others: Vec<String> = tops
            .filter(|top| !DIRECTORIES.iter().any(|known| known.as_bytes() == *top))
            .map(|top| smart_sync_store::manifest::Shown(top).to_string())
            .collect();
        others.dedup();
        let mut notes: Vec<String> = super::said_of_others(&others, NAMES_SHOWN).into_iter().collect();
        notes.extend(entries.iter().filter_map(warning).take(NAMES_SHOWN));
        Ok(Judged { notes, ..Judged::default() })
    }
}

/// Why an overlay could not hold an entry.
fn mistake(entry: &SourceEntry) -> Option<&'static str> {
    if entry.path.components().any(|name| name.starts_with(OURS)) {
        return Some("names that begin with .smart-sync- are those of files that are being placed");
    }
    match &entry.node {
        SourceNode::Content { .. } | SourceNode::Plain(Node::Directory) => None,
        SourceNode::Plain(Node::Submodule(_)) => Some("it is a submodule, and its files are not here"),
        SourceNode::Plain(Node::Hardlink(_)) => Some("it is a hard link, which an overlay does not hold"),
        SourceNode::Plain(_) => Some("it is a device, a pipe or a socket, which an overlay does not hold"),
    }
}

/// What the publisher should know of the rights of an entry.
fn warning(entry: &SourceEntry) -> Option<String> {
    let Attributes::System(Some(metadata)) = &entry.attributes else { return None };
    if entry.is_symlink() {
        return None;
    }
    let what = match metadata.mode {
        mode if mode & 0o6000 != 0 && entry.file_size().is_some() => {
            "runs with the rights of its owner or group"
        }
        mode if mode & 0o1002 == 0o0002 => "can be written by everybody",
        _ => return None,
    };
    Some(format!("{} {what} (mode {:04o})", entry.path, metadata.mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use smart_sync_store::manifest::Fidelity;

    use super::*;
    use crate::kinds::testing::{directory, judged, judged_in};

    #[test]
    fn what_no_overlay_holds_is_refused_and_what_is_unusual_is_said() {
        let found = judged(&PatchFiles, &[("etc/motd", "hello\n"), ("portage/make.conf", ""), ("opt/x", "")]);
        assert_eq!(found.unwrap().notes, ["not known here, and published as it is: opt"]);
        let refused = judged(&PatchFiles, &[("etc/.smart-sync-1", "")]).unwrap_err().to_string();
        assert!(refused.starts_with("etc/.smart-sync-1: names that begin with"), "{refused}");
        let tree = directory(&[("usr/bin/tool", ""), ("etc/open", ""), ("etc/motd", "")]);
        let mode = |path: &str, mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(tree.path().join(path), mode).unwrap();
        };
        mode("usr/bin/tool", 0o4755);
        mode("etc/open", 0o666);
        assert_eq!(
            judged_in(&PatchFiles, tree.path(), Fidelity::System).unwrap().notes,
            [
                "etc/open can be written by everybody (mode 0666)",
                "usr/bin/tool runs with the rights of its owner or group (mode 4755)"
            ]
        );
        std::fs::hard_link(tree.path().join("etc/motd"), tree.path().join("etc/other")).unwrap();
        let refused = judged_in(&PatchFiles, tree.path(), Fidelity::System).unwrap_err().to_string();
        assert!(refused.contains("etc/other: it is a hard link"), "{refused}");
    }
}
