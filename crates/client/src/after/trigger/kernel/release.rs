//! Which kernels a tree holds. Pure: names in, names out.

use smart_sync_sync::kinds::kernels::version::{compare, is_version};

/// A kernel of a tree: its files, by their paths in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Release {
    /// Its version, as `uname -r` says it and its modules are named.
    pub version: String,
    /// The image.
    pub image: String,
    /// What is put beside it, and the names that it is known by there.
    pub beside: Vec<(String, String)>,
    /// Its modules: an archive, or a directory with a slash behind it.
    pub modules: Option<String>,
}

impl Release {
    /// The name of the image where it is booted from.
    pub(super) fn image_name(&self) -> String {
        image_name(&self.version)
    }

    /// The name of the first file system, if it has one.
    pub(super) fn initramfs_name(&self) -> Option<String> {
        let name = initramfs_name(&self.version);
        self.beside.iter().any(|(_, beside)| *beside == name).then_some(name)
    }
}

/// The name of an image where it is booted from.
pub(super) fn image_name(version: &str) -> String {
    format!("vmlinuz-{version}")
}

fn initramfs_name(version: &str) -> String {
    format!("initramfs-{version}.img")
}

/// All names that a version has where it is booted from.
pub(super) fn names(version: &str) -> [String; 4] {
    let (map, config) = (format!("System.map-{version}"), format!("config-{version}"));
    [image_name(version), initramfs_name(version), map, config]
}

/// The kernels among the paths of a tree, the oldest version first. A path with a slash behind it is a directory.
pub(super) fn find(paths: &[String]) -> Vec<Release> {
    let mut found: Vec<Release> = paths.iter().filter_map(|path| release(path, paths)).collect();
    found.sort_by(|one, other| compare(&one.version, &other.version));
    found.dedup_by(|one, other| one.version == other.version);
    found
}

fn release(image: &str, paths: &[String]) -> Option<Release> {
    let (directory, name) = image.rsplit_once('/').map_or(("", image), |(directory, name)| (directory, name));
    let below =
        |name: &str| if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
    let first = |names: &[String]| {
        let found = names.iter().find_map(|name| paths.iter().find(|path| **path == below(name)));
        found.cloned()
    };
    // What is said by the name of another file of it, where there is one such file.
    let said = |prefix: &str| {
        let start = below(prefix);
        let mut said =
            paths.iter().filter_map(|path| path.strip_prefix(&start)).filter(|rest| is_version(rest));
        said.next().filter(|_| said.next().is_none())
    };
    let version = match name.strip_prefix("vmlinuz") {
        Some("") => said("config-").or_else(|| said("System.map-")).or_else(|| directory.rsplit('/').next()),
        Some(rest) => rest.strip_prefix('-'),
        None => None,
    };
    let version = version.filter(|version| is_version(version))?.to_owned();
    let [_, initramfs, map, config] = names(&version);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let beside = [
        (names(&[&initramfs, &format!("initramfs-{version}"), "initramfs.img", "initramfs"]), initramfs),
        (names(&[&map, "System.map", "System.Map"]), map),
        (names(&[&config, "config", "Kernel.Config"]), config),
    ];
    let beside =
        beside.into_iter().filter_map(|(names, known_as)| Some((first(&names)?, known_as))).collect();
    let directory_of_modules = format!("lib/modules/{version}/");
    let modules =
        first(&names(&[&format!("modules-{version}.tar.gz"), "modules.tar.gz", &directory_of_modules]))
            .or_else(|| paths.iter().find(|path| **path == directory_of_modules).cloned());
    Some(Release { version, image: image.to_owned(), beside, modules })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_in_the_layouts_that_there_are() {
        #[track_caller]
        fn check(paths: &[&str], expected: &str) {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            let shown: Vec<String> = find(&paths)
                .into_iter()
                .map(|found| {
                    let beside: Vec<String> =
                        found.beside.iter().map(|(path, name)| format!("{path}>{name}")).collect();
                    let modules = found.modules.unwrap_or_default();
                    format!("{} {} [{}] {modules}", found.version, found.image, beside.join(" "))
                })
                .collect();
            assert_eq!(shown.join("\n"), expected);
        }
        let old = ["6.9.1-gentoo/vmlinuz", "6.9.1-gentoo/System.Map", "6.9.1-gentoo/Kernel.Config"];
        let beside =
            "6.9.1-gentoo/System.Map>System.map-6.9.1-gentoo 6.9.1-gentoo/Kernel.Config>config-6.9.1-gentoo";
        check(&old, &format!("6.9.1-gentoo 6.9.1-gentoo/vmlinuz [{beside}] "));
        // The name of the directory is not the version where another file says it.
        let local = ["a/vmlinuz", "a/config-6.9.1-x86_64", "a/modules.tar.gz", "a/initramfs"];
        let beside = "a/initramfs>initramfs-6.9.1-x86_64.img a/config-6.9.1-x86_64>config-6.9.1-x86_64";
        check(&local, &format!("6.9.1-x86_64 a/vmlinuz [{beside}] a/modules.tar.gz"));
        let flat = ["vmlinuz-6.10.0", "vmlinuz-6.9.0", "lib/modules/6.10.0/", "modules-6.9.0.tar.gz"];
        let flat_found =
            "6.9.0 vmlinuz-6.9.0 [] modules-6.9.0.tar.gz\n6.10.0 vmlinuz-6.10.0 [] lib/modules/6.10.0/";
        check(&flat, flat_found);
        check(&["vmlinuz", "x/vmlinuz-", "x/vmlinuz-../../etc", "readme"], "");
    }
}
