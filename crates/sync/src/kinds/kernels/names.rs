//! Names by which the files of a kernel are asked for besides those that they have in the tree.
//!
//! `modules.tar.gz` is made of the modules. The others are the names that these files had at other times, or with the
//! version behind them.

use smart_sync_store::manifest::TreePath;

use super::members::Role;
use super::shelf::State;
use super::version::{Version, is_version};
use crate::kinds::{Located, Names, OtherNames};

/// The archive of all modules of a kernel.
const ARCHIVE: &str = "modules.tar.gz";
/// What is in it.
const ARCHIVED: &str = "lib/modules";

/// How the files of kernels get other names.
pub(super) struct KernelNames;

impl OtherNames for KernelNames {
    fn locate(&self, path: &[u8]) -> Option<Located> {
        let path = str::from_utf8(path).ok()?;
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        if !is_home(directory) {
            return None;
        }
        let directory = match directory {
            "" => TreePath::root(),
            directory => TreePath::new(directory.as_bytes()).ok()?,
        };
        if is_archive(name) {
            return Some(Located::Archive { directory, below: ARCHIVED });
        }
        let (role, _) = Role::of_name(name)?;
        Some(Located::Only { directory, start: role.stored() })
    }

    fn is_learnt(&self, _path: &[u8]) -> bool {
        false
    }

    fn learnt_from(&self) -> (&'static str, u64) {
        (super::shelf::INDEX, 0)
    }

    fn read(&self, _bytes: &[u8]) -> Option<Box<dyn Names>> {
        None
    }
}

/// Whether a kernel can lie there: the tree of one version, or a directory of a version in that of all.
fn is_home(directory: &str) -> bool {
    directory.is_empty()
        || directory.split_once('/').is_some_and(|(state, version)| {
            state.parse::<State>().is_ok() && version.parse::<Version>().is_ok()
        })
}

fn is_archive(name: &str) -> bool {
    let said = name.strip_prefix("modules-").and_then(|rest| rest.strip_suffix(".tar.gz"));
    name == ARCHIVE || said.is_some_and(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_that_there_were_lead_to_one_file() {
        #[track_caller]
        fn check(path: &str, expected: Option<&str>) {
            let found = KernelNames.locate(path.as_bytes()).map(|located| match located {
                Located::Only { directory, start } => format!("{directory} {start}"),
                Located::Archive { directory, below } => format!("{directory} archive of {below}"),
                other => format!("{other:?}"),
            });
            assert_eq!(found.as_deref(), expected, "{path}");
        }
        check("current/6.9.1-gentoo/System.Map", Some("current/6.9.1-gentoo System.map-"));
        check("current/6.9.1-gentoo/System.map", Some("current/6.9.1-gentoo System.map-"));
        check("deprecated/6.9.1-gentoo/Kernel.Config", Some("deprecated/6.9.1-gentoo config-"));
        check("compat/6.9.1/vmlinuz-6.9.1", Some("compat/6.9.1 vmlinuz"));
        check("initramfs.img", Some(". initramfs"));
        check("current/6.9.1/modules.tar.gz", Some("current/6.9.1 archive of lib/modules"));
        check("modules-6.9.1.tar.gz", Some(". archive of lib/modules"));
        check("current/modules.tar.gz", None);
        check("current/6.9.1/boot/vmlinuz", None);
        check("other/6.9.1/modules.tar.gz", None);
        check("current/../modules.tar.gz", None);
        check("current/6.9.1/readme", None);
    }
}
