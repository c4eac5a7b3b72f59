//! A root file system: Debian's smallest, and the same after packages were upgraded and others added.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::fetch::deb_versions;
use super::kernel::copy;
use super::many_changed;
use super::pair::{Pair, set_times};
use crate::bench::{Bench, prepare};

/// Packages of the smallest system, of which the archive may have an older version too: as many of the first as are
/// wanted are upgraded.
const UPGRADED: &[&str] = &["libsystemd0", "perl-base", "libgnutls30", "libudev1", "libc-bin", "bash"];
const UPGRADED_COUNT: usize = 3;
/// Packages that need nothing which is not there.
const ADDED: &[&str] = &["less", "libexpat1"];

/// The two systems. Devices and what only root may read are left out: what remains is a tree that anybody may publish.
pub(crate) fn root_file_system(bench: &Bench) -> Result<Pair> {
    if bench.scale.generated {
        return Ok(Pair { name: "generated".to_owned(), ..many_changed(bench, bench.scale.few_files, 5)? });
    }
    let directory = bench.cache.kept("trees/root", |directory| {
        let (old, new) = (directory.join("old"), directory.join("new"));
        fs::create_dir_all(directory)?;
        bootstrap(&old)?;
        let mut newer = Vec::new();
        let mut upgraded = Vec::new();
        for package in UPGRADED {
            let versions = deb_versions(package)?;
            let [.., older, newest] = versions.as_slice() else { continue };
            if upgraded.len() == UPGRADED_COUNT {
                break;
            }
            upgraded.push(*package);
            install(&old, &bench.cache.deb(package, older)?)?;
            newer.push(bench.cache.deb(package, newest)?);
        }
        copy(&old, &new)?;
        for package in ADDED {
            let version = deb_versions(package)?.pop();
            let version = version.with_context(|| format!("the archive has no {package}"))?;
            newer.push(bench.cache.deb(package, &version)?);
        }
        for deb in &newer {
            install(&new, deb)?;
        }
        make_plain(&old)?;
        make_plain(&new)?;
        let name = format!("minbase, {} upgraded, {} added", upgraded.join(" "), ADDED.join(" "));
        fs::write(directory.join("name"), name)?;
        set_times(&old, &new)
    })?;
    let name = fs::read_to_string(directory.join("name")).context("reading what was upgraded")?;
    Ok(Pair::trees(name, directory.join("old"), directory.join("new")))
}

fn bootstrap(to: &Path) -> Result<()> {
    // The archive is the one that this machine uses.
    let sites = prepare(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(SITE) $(RELEASE) $(REPO_URI)",
    ]))?;
    let site = sites
        .lines()
        .filter(|line| line.split(' ').nth(1) == Some("bookworm"))
        .find_map(|line| line.split(' ').nth(2))
        .context("apt-get knows no archive of bookworm")?;
    prepare(Command::new("debootstrap").args(["--variant=minbase", "bookworm"]).arg(to).arg(site)).map(drop)
}

fn install(root: &Path, deb: &Path) -> Result<()> {
    let mut command = Command::new("dpkg");
    command.arg(format!("--root={}", root.display()));
    command.args(["--force-downgrade", "--force-depends", "--install"]).arg(deb);
    prepare(command.env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
}

/// Removes what differs by machine and hour, and what is neither a file nor a link.
fn make_plain(root: &Path) -> Result<()> {
    for directory in ["dev", "proc", "sys", "run", "tmp", "var/log", "var/cache/apt", "var/lib/apt/lists"] {
        let path = root.join(directory);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    prepare(Command::new("find").arg(root).args([
        "(", "-type", "b", "-o", "-type", "c", "-o", "-type", "p", "-o", "-type", "s", ")", "-delete",
    ]))?;
    prepare(Command::new("chmod").args(["-R", "u+rwX,go+rX,ug-s"]).arg(root)).map(drop)
}
