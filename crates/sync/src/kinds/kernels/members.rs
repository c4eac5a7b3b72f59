//! Which files of a directory are the parts of a kernel, by the names that they have had. Pure: names in, roles out.

use std::collections::BTreeMap;
use std::fmt;

use smart_sync_store::manifest::TreePath;

use super::version::is_version;
use crate::kinds::binpkgs::codec::Codec;

/// Where modules are, below the root that a kernel is installed into.
pub(super) const MODULES: &str = "lib/modules/";
/// Directories that files of a kernel may lie in, below where it was installed to.
const PLACES: [&str; 2] = ["", "boot/"];

/// A part of a kernel that is one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// What is booted.
    Image,
    /// How it was configured.
    Config,
    /// Its symbols.
    Map,
    /// The first file system.
    Initramfs,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "vmlinuz",
            Self::Config => "config",
            Self::Map => "System.map",
            Self::Initramfs => "initramfs",
        })
    }
}

impl Role {
    /// Its names without a version; those before a version, with the dash between; and what may stand behind that.
    const fn names(self) -> (&'static [&'static str], &'static [&'static str], &'static str) {
        match self {
            Self::Image => (&["vmlinuz", "bzImage"], &["vmlinuz-", "kernel-"], ""),
            Self::Config => (&["config", "Kernel.Config"], &["config-"], ""),
            Self::Map => (&["System.map", "System.Map"], &["System.map-"], ""),
            Self::Initramfs => (
                &["initramfs", "initramfs.img", "initrd", "initrd.img"],
                &["initramfs-", "initrd.img-", "initrd-"],
                ".img",
            ),
        }
    }

    /// What its name in a tree begins with.
    pub(super) const fn stored(self) -> &'static str {
        match self {
            Self::Image => "vmlinuz",
            Self::Config => "config-",
            Self::Map => "System.map-",
            Self::Initramfs => "initramfs",
        }
    }

    /// The part that a file of this name is, and the release that the name says.
    pub(super) fn of_name(name: &str) -> Option<(Self, Option<&str>)> {
        [Self::Image, Self::Config, Self::Map, Self::Initramfs].into_iter().find_map(|role| {
            let (names, starts, end) = role.names();
            if names.contains(&name) {
                return Some((role, None));
            }
            let said = starts.iter().find_map(|start| name.strip_prefix(start))?;
            let said = said.strip_suffix(end).filter(|_| !end.is_empty()).unwrap_or(said);
            (is_version(said) && !is_copy(said)).then_some((role, Some(said)))
        })
    }
}

/// Whether such a name is that of a copy which was put out of the way.
fn is_copy(said: &str) -> bool {
    [".old", ".bak", ".orig"].iter().any(|end| said.ends_with(end))
}

/// What the modules of a kernel are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Modules {
    /// The files of a directory, by their paths below it.
    Files(BTreeMap<TreePath, TreePath>),
    /// A compressed archive.
    Archive(TreePath, Codec),
}

/// The parts of a kernel that a directory holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    /// Those that are one file.
    pub(super) files: BTreeMap<Role, TreePath>,
    /// Its modules.
    pub(super) modules: Option<Modules>,
    /// What its names say that it is, and which of them.
    pub(super) said: BTreeMap<String, TreePath>,
    /// What is no part of it.
    pub(super) others: Vec<TreePath>,
}

/// Two files that are the same part of a kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Twice {
    pub(super) path: TreePath,
    pub(super) other: TreePath,
    pub(super) what: String,
}

impl Members {
    /// Finds them among the files of a directory: pairs of the path below it, and the path that it is known by.
    pub(super) fn find<'a>(files: impl Iterator<Item = (&'a [u8], &'a TreePath)>) -> Result<Self, Twice> {
        let mut found = Self::default();
        for (below, path) in files {
            match str::from_utf8(below).ok().and_then(part) {
                Some(Part::File(role, said)) => {
                    found.says(said, path);
                    if let Some(other) = found.files.insert(role, path.clone()) {
                        return Err(Twice { path: path.clone(), other, what: role.to_string() });
                    }
                }
                Some(Part::Module(release, inside)) => found.module(release, inside, path)?,
                Some(Part::Archive(codec, said)) => {
                    found.says(said, path);
                    if let Some(other) = found.first_of_modules() {
                        return Err(Twice { path: path.clone(), other, what: "modules".to_owned() });
                    }
                    found.modules = Some(Modules::Archive(path.clone(), codec));
                }
                None => found.others.push(path.clone()),
            }
        }
        Ok(found)
    }

    fn says(&mut self, said: Option<&str>, path: &TreePath) {
        if let Some(said) = said {
            self.said.entry(said.to_owned()).or_insert_with(|| path.clone());
        }
    }

    fn module(&mut self, release: &str, inside: TreePath, path: &TreePath) -> Result<(), Twice> {
        self.says(Some(release), path);
        match self.modules.get_or_insert_with(|| Modules::Files(BTreeMap::new())) {
            Modules::Files(files) => {
                files.insert(inside, path.clone());
                Ok(())
            }
            Modules::Archive(other, _) => {
                let what = "modules".to_owned();
                Err(Twice { path: path.clone(), other: other.clone(), what })
            }
        }
    }

    fn first_of_modules(&self) -> Option<TreePath> {
        match self.modules.as_ref()? {
            Modules::Files(files) => files.values().next().cloned(),
            Modules::Archive(path, _) => Some(path.clone()),
        }
    }
}

enum Part<'a> {
    File(Role, Option<&'a str>),
    Module(&'a str, TreePath),
    Archive(Codec, Option<&'a str>),
}

fn part(path: &str) -> Option<Part<'_>> {
    if let Some((release, inside)) = below_modules(path) {
        return Some(Part::Module(release, TreePath::new(inside.as_bytes()).ok()?));
    }
    let name = PLACES.iter().find_map(|place| path.strip_prefix(place).filter(|name| !name.contains('/')))?;
    if let Some((role, said)) = Role::of_name(name) {
        return Some(Part::File(role, said));
    }
    let (said, suffix) = name.strip_prefix("modules")?.rsplit_once(".tar")?;
    let said = match said {
        "" => None,
        said => Some(said.strip_prefix('-').filter(|said| is_version(said))?),
    };
    Some(Part::Archive(Codec::of_suffix(suffix)?, said))
}

/// Whether a path in the directory of a kernel is that of a part of it.
pub(super) fn is_part(path: &str) -> bool {
    part(path).is_some()
}

/// The release that the name of a part says it is of.
pub(super) fn release_of(path: &str) -> Option<&str> {
    match part(path)? {
        Part::File(_, said) | Part::Archive(_, said) => said,
        Part::Module(release, _) => Some(release),
    }
}

/// The release whose module a path is, and the path below the directory of its modules.
pub(super) fn below_modules(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix("usr/").unwrap_or(path);
    path.strip_prefix(MODULES)?.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn find(paths: &[&str]) -> Result<Members, Twice> {
        let paths: Vec<TreePath> = paths.iter().map(|path| TreePath::new(path.as_bytes()).unwrap()).collect();
        Members::find(paths.iter().map(|path| (path.as_bytes(), path)))
    }

    #[track_caller]
    fn check(paths: &[&str], expected: &str) {
        let found = find(paths).unwrap();
        let mut shown: Vec<String> =
            found.files.iter().map(|(role, path)| format!("{role}={path}")).collect();
        shown.push(match &found.modules {
            None => "no modules".to_owned(),
            Some(Modules::Files(files)) => format!("{} modules", files.len()),
            Some(Modules::Archive(path, codec)) => format!("{path} by {codec}"),
        });
        shown.push(found.said.keys().cloned().collect::<Vec<_>>().join(","));
        shown.extend(found.others.iter().map(|path| format!("({path})")));
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn all_names_that_there_were_are_known() {
        check(
            &["vmlinuz", "System.Map", "Kernel.Config", "modules.tar.gz", "initramfs"],
            "vmlinuz=vmlinuz config=Kernel.Config System.map=System.Map initramfs=initramfs \
             modules.tar.gz by gzip ",
        );
        check(
            &["vmlinuz", "System.map-6.9.1-gentoo", "config-6.9.1-gentoo", "modules-6.9.1-gentoo.tar.xz"],
            "vmlinuz=vmlinuz config=config-6.9.1-gentoo System.map=System.map-6.9.1-gentoo \
             modules-6.9.1-gentoo.tar.xz by xz 6.9.1-gentoo",
        );
        check(
            &[
                "boot/vmlinuz-6.1.0-47-amd64",
                "boot/config-6.1.0-47-amd64",
                "boot/initrd.img-6.1.0-47-amd64",
                "lib/modules/6.1.0-47-amd64/kernel/a.ko",
                "usr/lib/modules/6.1.0-47-amd64/modules.dep",
                "usr/share/doc/copyright",
            ],
            "vmlinuz=boot/vmlinuz-6.1.0-47-amd64 config=boot/config-6.1.0-47-amd64 \
             initramfs=boot/initrd.img-6.1.0-47-amd64 2 modules 6.1.0-47-amd64 (usr/share/doc/copyright)",
        );
        check(
            &["vmlinuz-6.9.1.old", "vmlinuz-", "modules.tar.gz.sig", "a/vmlinuz"],
            "no modules  \
              (vmlinuz-6.9.1.old) (vmlinuz-) (modules.tar.gz.sig) (a/vmlinuz)",
        );
        check(
            &["initramfs-6.9.1-gentoo.img"],
            "initramfs=initramfs-6.9.1-gentoo.img no modules 6.9.1-gentoo",
        );
    }

    #[test]
    fn two_versions_in_one_directory_are_told_apart_by_nobody() {
        let twice = find(&["vmlinuz-6.9.1", "vmlinuz-6.9.2"]).unwrap_err();
        assert_eq!((twice.other.to_string(), &*twice.what), ("vmlinuz-6.9.1".to_owned(), "vmlinuz"));
        find(&["config", "Kernel.Config"]).unwrap_err();
        find(&["lib/modules/6.9.1/a.ko", "modules.tar.gz"]).unwrap_err();
        find(&["modules.tar.gz", "modules.tar.xz"]).unwrap_err();
        let both = find(&["lib/modules/6.9.1/a.ko", "lib/modules/6.9.2/a.ko"]).unwrap();
        assert_eq!(both.said.len(), 2);
    }
}
