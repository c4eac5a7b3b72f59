//! Lists of packages and of what is said of them, for machines that are installed from them: `common.EXT` for all, and
//! `VERSION/PROFILE.EXT` for those of a profile.
//!
//! What the lists say becomes files of Portage on hosts, so each line is read before it is published. Scripts among them
//! are data here: nobody runs them.

mod lists;

use super::{ArtifactKind, AsItIs, Judged, KindError, Refusal, Whole};
use lists::List;

/// The largest list.
const BYTES_MAX: u64 = 4 << 20;
/// The most names that are said one by one.
const NAMES_SHOWN: usize = 10;

/// The kind.
#[derive(Debug)]
pub(super) struct Packages;

impl ArtifactKind for Packages {
    fn name(&self) -> &'static str {
        "packages"
    }

    fn as_it_is(&self) -> Option<&dyn AsItIs> {
        Some(self)
    }
}

impl AsItIs for Packages {
    fn judge(&self, tree: Whole<'_>) -> Result<Judged, KindError> {
        let (mut refused, mut others, mut lists) = (Vec::new(), Vec::new(), 0);
        for (entry, _) in tree.listing.files() {
            let path = entry.path.as_bytes();
            let Some(list) = List::of_path(path) else {
                others.push(entry.path.to_string());
                continue;
            };
            lists += 1;
            let mistake = match tree.listing.read_small(path, BYTES_MAX)?.map(String::from_utf8) {
                None => Some(format!("it has more than {} MiB", BYTES_MAX >> 20)),
                Some(Err(_)) => Some("it is not UTF-8".to_owned()),
                Some(Ok(text)) => list.mistake(&text),
            };
            refused.extend(mistake.map(|reason| Refusal::new(&entry.path, &reason)));
        }
        if !refused.is_empty() {
            return Err(KindError::Refused(refused));
        }
        let count = smart_sync_store::count::counted(lists, "list", "lists");
        let mut notes = vec![format!("the tree has {count} of packages")];
        notes.extend(super::said_of_others(&others, NAMES_SHOWN));
        Ok(Judged { notes, ..Judged::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::judged;

    #[test]
    fn all_that_cannot_be_read_is_said_with_its_line() {
        let found = judged(
            &Packages,
            &[
                ("common.uses", "*/* -X\napp-editors/vim -gtk\n"),
                ("17.1/server.pkgs", "app-misc/screen\n@world\n"),
                ("17.1/server.services", "rm -rf /\n"),
                ("README", "ours\n"),
            ],
        )
        .unwrap();
        assert_eq!(
            found.notes,
            ["the tree has 3 lists of packages", "not known here, and published as it is: README"]
        );
        let refused = judged(
            &Packages,
            &[
                ("common.mask", "# ours\n>=sys-apps/foo\n"),
                ("17.1/server.conf", "USE=\"a\nb\"\nmake install\n"),
            ],
        )
        .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "17.1/server.conf: line 3: it is not NAME=VALUE; common.mask: line 2: \">=sys-apps/foo\" is no atom"
        );
    }
}
