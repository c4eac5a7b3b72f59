//! Updates counted in bytes: every kind of thing that is published, from one version to the next.

use anyhow::Result;

use crate::bench::Bench;
use crate::data::{self, Group};
use crate::report::Section;
use crate::update::{Aim, compare};

pub(super) fn trees(bench: &Bench) -> Result<Section> {
    let aim = Aim::of_limit(115).and_of_best_peer(100);
    let small = Group {
        name: "small trees".to_owned(),
        pairs: vec![data::many_changed(bench, bench.scale.few_files, 5)?.in_git(), data::dotfiles(bench)?],
    };
    let method = "Unpacked Python source distributions of successive releases, small and large steps, for git as \
                  commits made of them; a generated tree of a thousand files with a line of five changed; and a \
                  user's settings.";
    let groups = vec![(data::source_trees(bench)?, aim), (small, aim)];
    compare(bench, "Updates: trees of sources", method, groups)
}

pub(super) fn kernel(bench: &Bench) -> Result<Section> {
    let tree = Group { name: "kernel".to_owned(), pairs: vec![data::kernel_tree(bench)?] };
    let method = "Debian's kernel image for amd64, the two newest ABI versions that its archive has, unpacked, with \
                  the version in the paths as shipped. The kernel's image counts in the limit as it lies there, \
                  compressed.";
    let aim = Aim::of_limit(120).and_of_best_peer(60);
    compare(bench, "Updates: a kernel and its modules", method, vec![(tree, aim)])
}

pub(super) fn packed_kernel(bench: &Bench) -> Result<Section> {
    let method = "The same two kernels packed: the `.deb`, and `modules.tar.gz` (gzip -6) and `modules.tar.xz` (xz -6) \
                  made of it.";
    compare(bench, "Updates: a packed kernel", method, vec![(data::kernel_artifacts(bench)?, PACKED)])
}

pub(super) fn archives(bench: &Bench) -> Result<Section> {
    let groups = data::compressed_sources(bench)?.into_iter().map(|group| (group, PACKED)).collect();
    let method = "Source archives as their authors published them, the next version, with the file names that they \
                  have.";
    compare(bench, "Updates: compressed source archives", method, groups)
}

pub(super) fn binaries(bench: &Bench) -> Result<Section> {
    let mut groups: Vec<_> = data::binary_packages(bench)?.into_iter().map(|group| (group, PACKED)).collect();
    if groups.is_empty() {
        groups = data::compressed_sources(bench)?.into_iter().map(|group| (group, PACKED)).collect();
    }
    let method = "Packages of programs: those of Debian 12, the two newest versions that its archive has (libavcodec59 \
                  stands in for php8.2-cli, and samba-libs for bind9-libs, while it has only one of these), GPKG files \
                  made of the same contents, and wheels.";
    compare(bench, "Updates: binary packages", method, groups)
}

pub(super) fn root(bench: &Bench) -> Result<Section> {
    let group = Group { name: "root".to_owned(), pairs: vec![data::root_file_system(bench)?] };
    let method = "Debian's smallest root file system as debootstrap makes it, and the same with packages upgraded and \
                  added by dpkg, without devices, logs and package lists.";
    compare(bench, "Updates: a root file system", method, vec![(group, Aim::of_limit(130))])
}

pub(super) fn large_file(bench: &Bench) -> Result<Section> {
    let group = Group { name: "file".to_owned(), pairs: vec![data::big_file(bench)?] };
    let method = "One file, half of which compresses, with twenty scattered edits of 4 KiB and a mebibyte inserted at a \
                  third.";
    compare(bench, "Updates: one large file", method, vec![(group, Aim::of_limit(130))])
}

pub(super) fn many_files(bench: &Bench) -> Result<Section> {
    let pair = data::many_changed(bench, bench.scale.many_files, bench.scale.many_changed)?.in_git();
    let group = Group { name: "files".to_owned(), pairs: vec![pair] };
    let method = "A tree of many files of 1 to 4 KiB, of which some have one line changed.";
    compare(bench, "Updates: a few of many files", method, vec![(group, Aim::of_limit(130))])
}

/// What packed artifacts have to reach.
const PACKED: Aim = Aim::of_limit(150)
    .and_of_best_peer(25)
    .where_it_applies(", where the original can be rebuilt from its contents");
