//! Lists of packages and of what is said of them, for machines that are installed from them: `common.EXT` for all, and
//! `VERSION/PROFILE.EXT` for those of a profile.
//!
//! What the lists say becomes files of Portage on hosts, so each line is read before it is published. Scripts among them
//! are data here: nobody runs them.

use super::lists::List;
use super::{ArtifactKind, AsItIs, Judged, KindError, Refusal, Whole};

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
            let Some(list) = list_at(path) else {
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

/// The list at a path: `common.EXT` at the top, or `VERSION/PROFILE.EXT`.
fn list_at(path: &[u8]) -> Option<List> {
    let path = str::from_utf8(path).ok()?;
    let name = match path.split_once('/') {
        None => path.strip_prefix("common.").map(|_| path)?,
        Some((_, name)) if !name.contains('/') => name,
        Some(_) => return None,
    };
    let (profile, ending) = name.rsplit_once('.')?;
    match ending {
        _ if profile.is_empty() => None,
        "uses" => Some(List::Uses),
        "keys" | "license" => Some(List::Words),
        "mask" | "unmask" => Some(List::Atoms),
        "pkgs" => Some(List::Installed),
        "conf" => Some(List::Settings),
        "patches" | "services" | "updates" => Some(List::Script),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::judged;

    #[test]
    fn lists_are_known_by_their_names() {
        for (path, expected) in [
            ("common.uses", Some(List::Uses)),
            ("17.1/server.keys", Some(List::Words)),
            ("17.1/a.b.pkgs", Some(List::Installed)),
            ("23.0/x.updates", Some(List::Script)),
            ("server.uses", None),
            ("17.1/.uses", None),
            ("17.1/deeper/server.uses", None),
            ("17.1/server", None),
            ("17.1/server.txt", None),
        ] {
            assert_eq!(list_at(path.as_bytes()), expected, "{path}");
        }
    }

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
