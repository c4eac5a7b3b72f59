//! GPKG files (GLEP 78) of the contents of Debian packages, as Portage would pack them with `BINPKG_COMPRESS=xz`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::fetch::Cache;
use crate::bench::prepare;

/// The time that packing gives to what has none of its own.
const MTIME: &str = "--mtime=@1767225600";
/// What an installed package's metadata directory holds, besides the name.
const METADATA: &[(&str, &str)] =
    &[("CATEGORY", "app-bench\n"), ("EAPI", "8\n"), ("SLOT", "0\n"), ("CHOST", "x86_64-pc-linux-gnu\n")];

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
    let members = work.join(package);
    fs::create_dir_all(&members)?;
    prepare(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(work.join("image")))?;
    fs::create_dir(work.join("metadata"))?;
    for (name, text) in METADATA {
        fs::write(work.join("metadata").join(name), text)?;
    }
    fs::write(work.join("metadata/PF"), format!("{package}\n"))?;
    fs::write(members.join("gpkg-1"), "")?;
    for (part, time) in [("metadata", Some(MTIME)), ("image", None)] {
        let archive = members.join(format!("{part}.tar"));
        prepare(portable_tar(&work, time).arg("-cf").arg(&archive).arg(part))?;
        prepare(Command::new("xz").args(["-6", "-T1"]).arg(&archive))?;
    }
    let mut manifest = String::new();
    for member in ["gpkg-1", "metadata.tar.xz", "image.tar.xz"] {
        let path = members.join(member);
        let (sha512, blake2b) = (hash("sha512sum", &path)?, hash("b2sum", &path)?);
        let size = fs::metadata(&path)?.len();
        writeln!(manifest, "DATA {member} {size} SHA512 {sha512} BLAKE2B {blake2b}")
            .expect("writing to a string succeeds");
    }
    fs::write(members.join("Manifest"), manifest)?;
    let mut command = portable_tar(&work, Some(MTIME));
    command.arg("-cf").arg(directory.join(format!("{package}.gpkg.tar")));
    for member in ["gpkg-1", "metadata.tar.xz", "image.tar.xz", "Manifest"] {
        command.arg(format!("{package}/{member}"));
    }
    prepare(&mut command)?;
    fs::remove_dir_all(&work)?;
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
