//! Published packages, each by the client that its users have, kept between runs.
//!
//! A package is named by its version wherever the registry keeps old ones. Debian's archive keeps few: what there is
//! is asked first, and a report names the versions that it was measured on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::kept_in;
use crate::bench::prepare;

/// Where downloads lie, and what took long to compute from them.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
        let directory =
            fs::canonicalize(directory).with_context(|| format!("finding {}", directory.display()))?;
        Ok(Self { directory })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A directory that is made once.
    pub(crate) fn kept(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        kept_in(&self.directory, name, make)
    }

    /// A Python source distribution, as its project uploaded it.
    pub(crate) fn sdist(&self, name: &str, version: &str) -> Result<PathBuf> {
        self.python(name, version, "--no-binary", &[])
    }

    /// A Python wheel for the Linux and the Python of Debian 12, whatever this machine has.
    pub(crate) fn wheel(&self, name: &str, version: &str) -> Result<PathBuf> {
        let platform = [
            "--platform=manylinux_2_28_x86_64",
            "--platform=manylinux_2_17_x86_64",
            "--platform=manylinux2014_x86_64",
            "--python-version=3.11",
            "--implementation=cp",
        ];
        self.python(name, version, "--only-binary", &platform)
    }

    fn python(&self, name: &str, version: &str, form: &str, platform: &[&str]) -> Result<PathBuf> {
        let kind = if form == "--no-binary" { "sdist" } else { "wheel" };
        let directory = self.kept(&format!("{kind}/{name}-{version}"), |directory| {
            let mut command = Command::new("pip");
            command.args(["download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
            // What a source distribution is built with, which pip asks it about, may well come as wheels.
            command.args([form, if platform.is_empty() { name } else { ":all:" }]);
            command.args(platform).arg("--dest").arg(directory).arg(format!("{name}=={version}"));
            prepare(&mut command).map(drop)
        })?;
        only_file(&directory)
    }

    /// A package of npm.
    pub(crate) fn npm(&self, name: &str, version: &str) -> Result<PathBuf> {
        let directory = self.kept(&format!("npm/{name}-{version}"), |directory| {
            fs::create_dir(directory)?;
            let mut command = Command::new("npm");
            command.args(["pack", "--silent", "--pack-destination"]).arg(directory);
            prepare(command.arg(format!("{name}@{version}")).current_dir(directory)).map(drop)
        })?;
        only_file(&directory)
    }

    /// A crate. Cargo fetches what a package depends on: one is made that depends on it.
    pub(crate) fn package_of_cargo(&self, name: &str, version: &str) -> Result<PathBuf> {
        let directory = self.kept(&format!("crate/{name}-{version}"), |directory| {
            fs::create_dir_all(directory.join("package/src"))?;
            fs::write(directory.join("package/src/lib.rs"), "")?;
            let manifest = format!(
                "[package]\nname = \"wants\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n\
                 [dependencies]\n{name} = {{ version = \"={version}\", default-features = false }}\n"
            );
            fs::write(directory.join("package/Cargo.toml"), manifest)?;
            prepare(Command::new("cargo").args(["fetch", "--quiet"]).current_dir(directory.join("package")))?;
            let file = format!("{name}-{version}.crate");
            fs::copy(cargo_cached(&file)?, directory.join(&file))?;
            fs::remove_dir_all(directory.join("package"))?;
            Ok(())
        })?;
        only_file(&directory)
    }

    /// A Debian package.
    pub(crate) fn deb(&self, name: &str, version: &str) -> Result<PathBuf> {
        let file_version = version.replace(':', "-");
        let directory = self.kept(&format!("deb/{name}-{file_version}"), |directory| {
            fs::create_dir(directory)?;
            let mut command = Command::new("apt-get");
            command.args(["-qq", "-o", "APT::Sandbox::User=root", "download"]);
            prepare(command.arg(format!("{name}={version}")).current_dir(directory)).map(drop)
        })?;
        only_file(&directory)
    }
}

/// The versions of a package that Debian's archive has, oldest first.
pub(crate) fn deb_versions(name: &str) -> Result<Vec<String>> {
    let mut versions = parse_madison(&prepare(Command::new("apt-cache").args(["madison", name]))?);
    // The archive prints them newest first within each of its parts; dpkg says which of two is newer.
    let mut failure = None;
    versions.sort_by(|one, other| {
        compare_versions(one, other).unwrap_or_else(|error| {
            failure = Some(error);
            std::cmp::Ordering::Equal
        })
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(versions),
    }
}

fn compare_versions(one: &str, other: &str) -> Result<std::cmp::Ordering> {
    if one == other {
        return Ok(std::cmp::Ordering::Equal);
    }
    let status = Command::new("dpkg")
        .args(["--compare-versions", one, "lt", other])
        .status()
        .context("asking dpkg which version is newer")?;
    Ok(if status.success() { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater })
}

/// The versions in what `apt-cache madison` prints: `name | version | where`, for binary packages.
fn parse_madison(text: &str) -> Vec<String> {
    let mut versions: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('|').map(str::trim);
        let (Some(_), Some(version), Some(origin)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if origin.ends_with("Packages") && !versions.iter().any(|known| known == version) {
            versions.push(version.to_owned());
        }
    }
    versions
}

/// The file below cargo's cache, which has a directory for each registry.
fn cargo_cached(file: &str) -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
        .context("neither CARGO_HOME nor HOME says where cargo keeps its files")?;
    let cache = home.join("registry/cache");
    for registry in fs::read_dir(&cache).with_context(|| format!("reading {}", cache.display()))? {
        let path = registry?.path().join(file);
        if path.exists() {
            return Ok(path);
        }
    }
    bail!("cargo fetched no {file}")
}

fn only_file(directory: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry?.path()),
        _ => bail!("{} does not hold exactly one file", directory.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_binary_packages_are_read_once_each() {
        let text = " systemd | 252.39-1 | http://mirror bookworm/main amd64 Packages\n \
                    systemd | 252.38-1 | http://mirror security/main amd64 Packages\n \
                    systemd | 252.39-1 | http://mirror bookworm/main amd64 Packages\n \
                    systemd | 252.1-1 | http://mirror bookworm/main Sources\n";
        assert_eq!(parse_madison(text), ["252.39-1", "252.38-1"]);
    }
}
