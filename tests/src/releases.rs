//! A mirror's directory of release media, and whoever signs them.

use std::path::PathBuf;

use crate::environment::TestEnvironment;
use crate::gpg::Gpg;
use crate::program;

/// Where media of the architecture are, below the directory.
pub const AREA: &str = "amd64/autobuilds";
/// What the medium is called.
pub const NAME: &str = "stage3-amd64-openrc";
/// A build, and the time of the text that names it.
pub const FIRST: (&str, u64) = ("20260110T170312Z", 1_768_089_600);
/// A later one.
pub const SECOND: (&str, u64) = ("20260117T170312Z", 1_768_694_400);

/// A directory `releases`, and a key that has signed what is in it.
#[derive(Debug)]
pub struct Releases<'environment> {
    environment: &'environment TestEnvironment,
    /// Where the key is.
    pub gpg: Gpg,
    key: String,
    /// The public key.
    pub ring: PathBuf,
}

impl<'environment> Releases<'environment> {
    /// An empty directory; none where there is no GnuPG.
    pub fn new(environment: &'environment TestEnvironment) -> Option<Self> {
        let mut gpg = Gpg::new()?;
        let key = gpg.make_key("releases <r@example.org>", "ed25519", "cert,sign", "never");
        let ring = gpg.export_to(&key, "releases.asc");
        gpg.set_time("20260102T000000");
        Some(Self { environment, gpg, key, ring })
    }

    /// A path below the directory.
    pub fn path(&self, path: &str) -> PathBuf {
        self.environment.path(&format!("releases/{path}"))
    }

    /// Writes a file below the directory.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        self.environment.write(&format!("releases/{path}"), bytes.as_ref());
    }

    /// Runs a program on a file of a build, such as `sha512sum`: its name is printed without directories.
    fn sum(&self, of: &str, stamp: &str, file: &str) -> String {
        let mut command = self.environment.command(of);
        command.arg(file).current_dir(self.path(&format!("{AREA}/{stamp}")));
        program::run(&mut command).success().stdout
    }

    /// Writes a build as a mirror has it, with a medium of these bytes.
    pub fn build(&self, stamp: &str, bytes: &[u8]) {
        let file = format!("{NAME}-{stamp}.tar.xz");
        let place = format!("{AREA}/{stamp}/{file}");
        self.write(&place, bytes);
        self.write(&format!("{place}.CONTENTS.gz"), "what is in it");
        let files = [file.clone(), format!("{file}.CONTENTS.gz")];
        let digests = files.iter().map(|file| {
            let (blake2b, sha512) = (self.sum("b2sum", stamp, file), self.sum("sha512sum", stamp, file));
            format!("# BLAKE2B HASH\n{blake2b}# SHA512 HASH\n{sha512}")
        });
        let digests = digests.collect::<Vec<_>>().concat();
        self.write(&format!("{place}.DIGESTS"), self.gpg.clear_sign(&self.key, &digests));
        let sha256 = format!("# SHA256 HASH\n{}", self.sum("sha256sum", stamp, &file));
        self.write(&format!("{place}.sha256"), self.gpg.clear_sign(&self.key, &sha256));
        self.write(&format!("{place}.asc"), self.gpg.sign(&self.key, bytes));
    }

    /// Writes the text that names a build as the newest.
    pub fn name(&self, (stamp, time): (&str, u64), size: usize) {
        // Web servers tell versions of a file by second and size, and a test writes several in a second.
        let mark = "!".repeat(usize::try_from(time / 604_800 % 9).unwrap_or_default());
        let text = format!("# Latest as of today{mark}\n# ts={time}\n{stamp}/{NAME}-{stamp}.tar.xz {size}\n");
        self.write(&format!("{AREA}/latest-{NAME}.txt"), self.gpg.clear_sign(&self.key, &text));
    }
}
