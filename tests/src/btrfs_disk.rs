//! A file system of btrfs in an image, which is there as long as its test.

use std::fs;
use std::path::{Path, PathBuf};

use crate::folding_disk::run;
use crate::skip::skipped;

/// The size of an image: a small one is half taken by what the file system keeps for itself.
const IMAGE_BYTES: u64 = 512 << 20;

/// A mounted file system; it is unmounted when dropped.
#[derive(Debug)]
pub struct BtrfsDisk {
    image: PathBuf,
    directory: PathBuf,
}

impl BtrfsDisk {
    /// Makes one in an image and mounts it on a directory, which is made; nothing where this machine has no such file
    /// system. To be called inside [`in_namespace_of_root`](crate::folding_disk::in_namespace_of_root).
    pub fn mount(image: &Path, directory: &Path) -> Option<Self> {
        let file = fs::File::create(image).expect("a file can be made");
        file.set_len(IMAGE_BYTES).expect("a file of holes takes no room");
        fs::create_dir_all(directory).expect("a directory can be made");
        let disk = Self { image: image.to_owned(), directory: directory.to_owned() };
        if run("mkfs.btrfs -q -f", &[image]) && run("mount -o loop", &[image, directory]) {
            return Some(disk);
        }
        skipped("btrfs cannot be mounted: no support in the kernel, no loop device, or no btrfs-progs");
        // Nothing is mounted that could be unmounted.
        std::mem::forget(disk);
        None
    }

    /// Keeps a copy of it as it is.
    pub fn save(&mut self, to: &Path) {
        self.unmount();
        fs::copy(&self.image, to).expect("an image can be copied");
        self.mount_again();
    }

    /// Makes it what it was when that copy was made.
    pub fn restore(&mut self, from: &Path) {
        self.unmount();
        fs::copy(from, &self.image).expect("an image can be copied");
        self.mount_again();
    }

    fn unmount(&self) {
        assert!(run("umount", &[&self.directory]), "somebody is still in the file system");
    }

    fn mount_again(&self) {
        assert!(run("mount -o loop", &[&self.image, &self.directory]), "what is left cannot be mounted");
    }

    /// Cuts the power: what the image holds at this moment is all that is left, and is mounted again.
    pub fn cut(&mut self) {
        let cut = self.image.with_extension("cut");
        fs::copy(&self.image, &cut).expect("an image can be copied");
        self.unmount();
        fs::rename(&cut, &self.image).expect("a file can be renamed");
        self.mount_again();
    }
}

impl Drop for BtrfsDisk {
    fn drop(&mut self) {
        run("umount", &[&self.directory]);
    }
}
