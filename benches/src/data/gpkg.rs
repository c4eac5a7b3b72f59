//! GPKG files (GLEP 78): of the contents of Debian packages, as Portage would pack them with `BINPKG_COMPRESS=xz`, and
//! many of generated contents, as a build host has them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::fetch::Cache;
use super::random::Random;
use crate::bench::{Bench, prepare};

/// The time that packing gives to what has none of its own.
const MTIME: &str = "--mtime=@1767225600";
/// What an installed package's metadata directory holds, besides the name.
const METADATA: &[(&str, &str)] =
    &[("CATEGORY", "app-bench\n"), ("EAPI", "8\n"), ("SLOT", "0\n"), ("CHOST", "x86_64-pc-linux-gnu\n")];

/// How large the images of generated packages are.
const GENERATED_BYTES: usize = 2 << 20;

/// A directory of generated packages, `app-bench/p001/p001-1.0-1.gpkg.tar` and so on, of two mebibytes each.
pub(crate) fn generated_packages(bench: &Bench, count: u32) -> Result<PathBuf> {
    super::kept(bench, &format!("packages-{count}"), |path| {
        for number in 0..count {
            let name = format!("p{number:03}");
            let directory = path.join("app-bench").join(&name);
            fs::create_dir_all(&directory)?;
            generate(&directory, &name, number)?;
        }
        Ok(())
    })
}

/// One more package in such a directory.
pub(crate) fn one_more_package(directory: &Path, number: u32) -> Result<()> {
    let name = format!("q{number:03}");
    let directory = directory.join("app-bench").join(&name);
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    generate(&directory, &name, number | 1 << 20)
}

fn generate(directory: &Path, name: &str, seed: u32) -> Result<()> {
    let work = directory.join("work");
    let image = work.join("image/usr/lib");
    fs::create_dir_all(&image)?;
    let mut bytes = vec![0; GENERATED_BYTES];
    Random::new(u64::from(seed)).fill(&mut bytes);
    fs::write(image.join(name), bytes)?;
    let values = [("PF", format!("{name}-1.0\n")), ("BUILD_ID", "1\n".to_owned())];
    pack(&work, directory, &format!("{name}-1.0-1"), &values, &ZSTD)
}

/// The GPKG of a `.deb`, made once.
pub(super) fn of_deb(cache: &Cache, deb: &Path) -> Result<PathBuf> {
    let stem = deb.file_stem().context("a package has a name")?.to_string_lossy().into_owned();
    let package = package_name(&stem);
    let directory = cache.kept(&format!("gpkg/{stem}"), |directory| make(deb, directory, &package))?;
    Ok(directory.join(format!("{package}.gpkg.tar")))
}

/// `libssl3_3.0.19-1~deb12u2_amd64` as `libssl3-3.0.19-1`: a name, a version and a build.
fn package_name(stem: &str) -> String {
    let mut parts = stem.split('_');
    let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let version: String =
        version.chars().take_while(|letter| letter.is_ascii_digit() || *letter == '.').collect();
    format!("{name}-{version}-1")
}

fn make(deb: &Path, directory: &Path, package: &str) -> Result<()> {
    let work = directory.join("work");
    fs::create_dir_all(&work)?;
    prepare(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(work.join("image")))?;
    pack(&work, directory, package, &[("PF", format!("{package}\n"))], &XZ)
}

/// A program that compresses a member.
struct Compression {
    suffix: &'static str,
    command: &'static [&'static str],
}

const XZ: Compression = Compression { suffix: "xz", command: &["xz", "-6", "-T1"] };
const ZSTD: Compression = Compression { suffix: "zst", command: &["zstd", "--quiet", "--rm", "-3"] };

/// Packs `work/image` as `directory/PACKAGE.gpkg.tar`, and removes `work`.
fn pack(
    work: &Path,
    directory: &Path,
    package: &str,
    values: &[(&str, String)],
    compression: &Compression,
) -> Result<()> {
    let members = work.join(package);
    fs::create_dir(&members)?;
    fs::create_dir(work.join("metadata"))?;
    for (name, text) in METADATA {
        fs::write(work.join("metadata").join(name), text)?;
    }
    for (name, text) in values {
        fs::write(work.join("metadata").join(name), text)?;
    }
    fs::write(members.join("gpkg-1"), "")?;
    // As Portage has it, the directory itself is no member of the one archive, and is of the other.
    let values = METADATA.iter().map(|(name, _)| *name).chain(values.iter().map(|(name, _)| *name));
    let values: BTreeSet<String> = values.map(|name| format!("metadata/{name}")).collect();
    let parts = [("metadata", Some(MTIME), values), ("image", None, BTreeSet::from(["image".to_owned()]))];
    for (part, time, contents) in parts {
        let archive = members.join(format!("{part}.tar"));
        prepare(portable_tar(work, time).arg("-cf").arg(&archive).args(contents))?;
        let (program, arguments) = compression.command.split_first().context("it is a command")?;
        prepare(Command::new(program).args(arguments).arg(&archive))?;
    }
    let packed = ["metadata.tar", "image.tar"].map(|name| format!("{name}.{}", compression.suffix));
    let mut manifest = String::new();
    for member in ["gpkg-1", &packed[0], &packed[1]] {
        let path = members.join(member);
        let (sha512, blake2b) = (hash("sha512sum", &path)?, hash("b2sum", &path)?);
        let size = fs::metadata(&path)?.len();
        writeln!(manifest, "DATA {member} {size} SHA512 {sha512} BLAKE2B {blake2b}")
            .expect("writing to a string succeeds");
    }
    fs::write(members.join("Manifest"), manifest)?;
    let mut command = portable_tar(work, Some(MTIME));
    command.arg("-cf").arg(directory.join(format!("{package}.gpkg.tar")));
    for member in ["gpkg-1", &packed[0], &packed[1], "Manifest"] {
        command.arg(format!("{package}/{member}"));
    }
    prepare(&mut command)?;
    fs::remove_dir_all(work)?;
    Ok(())
}

fn portable_tar(directory: &Path, time: Option<&str>) -> Command {
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"]);
    command.args(time).current_dir(directory);
    command
}

fn hash(program: &str, path: &Path) -> Result<String> {
    let text = prepare(Command::new(program).arg("--binary").arg(path))?;
    Ok(text.split_whitespace().next().context("a hash is printed first")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_has_a_plain_version() {
        assert_eq!(package_name("libssl3_3.0.19-1~deb12u2_amd64"), "libssl3-3.0.19-1");
        assert_eq!(package_name("perl-base_5.36.0-7+deb12u2_amd64"), "perl-base-5.36.0-1");
    }
}
