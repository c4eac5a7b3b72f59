//! Successive versions of compressed artifacts: source archives, and packages of programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::fetch::deb_versions;
use super::pair::{Group, Pair};
use super::{gpkg, kept, many_changed};
use crate::bench::{Bench, prepare};

const NPM: &[Step] = &[
    ("typescript", "5.4.5", "5.5.2"),
    ("react-dom", "18.2.0", "18.3.1"),
    ("express", "4.18.2", "4.19.2"),
    ("webpack", "5.91.0", "5.92.0"),
    ("eslint", "9.4.0", "9.5.0"),
];
const CRATES: &[Step] = &[
    ("serde", "1.0.218", "1.0.219"),
    ("syn", "2.0.99", "2.0.100"),
    ("tokio", "1.43.0", "1.44.0"),
    ("libsqlite3-sys", "0.30.1", "0.31.0"),
];
const SDISTS: &[Step] = &[
    ("django", "5.1.6", "5.1.7"),
    ("django", "5.1.7", "5.2"),
    ("sqlalchemy", "2.0.37", "2.0.38"),
    ("ansible-core", "2.18.2", "2.18.3"),
    ("sphinx", "8.1.2", "8.1.3"),
    ("pip", "25.0", "25.0.1"),
    ("setuptools", "75.8.0", "75.8.1"),
];
const WHEELS: &[Step] = &[
    ("numpy", "2.2.1", "2.2.2"),
    ("pandas", "2.2.2", "2.2.3"),
    ("ruff", "0.9.6", "0.9.7"),
    ("cryptography", "44.0.1", "44.0.2"),
];
/// Of these the archive has had two versions at once. Where it has only one, a package of the same make takes the
/// place: one large program or library each.
const DEBS: &[(&str, Option<&str>)] = &[
    ("libssl3", None),
    ("perl-base", None),
    ("systemd", None),
    ("php8.2-cli", Some("libavcodec59")),
    ("bind9-libs", Some("samba-libs")),
    ("postgresql-15", None),
    ("libpython3.11-stdlib", None),
];
/// Debian packages whose contents are also made into GPKG files.
const GPKGS: &[&str] = &["libssl3", "perl-base", "systemd"];

/// A package, its version and the next one.
type Step = (&'static str, &'static str, &'static str);

/// Source archives: npm packages, crates, Python source distributions.
pub(crate) fn compressed_sources(bench: &Bench) -> Result<Vec<Group>> {
    if bench.scale.generated {
        return Ok(vec![Group { name: ".tar.gz".to_owned(), pairs: vec![generated(bench)?] }]);
    }
    let cache = &bench.cache;
    Ok(vec![
        group(bench, "npm .tgz", NPM, &|name, version| cache.npm(name, version))?,
        group(bench, ".crate", CRATES, &|name, version| cache.package_of_cargo(name, version))?,
        group(bench, "sdist .tar.gz", SDISTS, &|name, version| cache.sdist(name, version))?,
    ])
}

/// Packages of programs: Debian packages, GPKG files made of the same contents, wheels.
pub(crate) fn binary_packages(bench: &Bench) -> Result<Vec<Group>> {
    if bench.scale.generated {
        return Ok(Vec::new());
    }
    let mut debs = Group { name: ".deb".to_owned(), pairs: Vec::new() };
    let mut gpkgs = Group { name: ".gpkg.tar".to_owned(), pairs: Vec::new() };
    for (wanted, instead) in DEBS {
        let Some((package, old, new)) = deb_step(wanted, *instead)? else {
            crate::say(&format!("  the archive has no two versions of {wanted}: left out"));
            continue;
        };
        let (old_deb, new_deb) = (bench.cache.deb(package, &old)?, bench.cache.deb(package, &new)?);
        let name = format!("{package} {old} → {new}");
        debs.pairs.push(artifacts(bench, "deb", &name, &old_deb, &new_deb)?);
        if GPKGS.contains(&package) {
            let (old_gpkg, new_gpkg) =
                (gpkg::of_deb(&bench.cache, &old_deb)?, gpkg::of_deb(&bench.cache, &new_deb)?);
            gpkgs.pairs.push(artifacts(bench, "gpkg", &name, &old_gpkg, &new_gpkg)?);
        }
    }
    let wheels = group(bench, "wheel", WHEELS, &|name, version| bench.cache.wheel(name, version))?;
    Ok(vec![debs, gpkgs, wheels])
}

/// The two newest versions of a package, or of its substitute.
fn deb_step(
    wanted: &'static str,
    instead: Option<&'static str>,
) -> Result<Option<(&'static str, String, String)>> {
    for package in [Some(wanted), instead].into_iter().flatten() {
        let mut versions = deb_versions(package)?;
        if let (Some(new), Some(old)) = (versions.pop(), versions.pop()) {
            return Ok(Some((package, old, new)));
        }
    }
    Ok(None)
}

fn group(
    bench: &Bench,
    name: &str,
    steps: &[Step],
    fetch: &dyn Fn(&str, &str) -> Result<PathBuf>,
) -> Result<Group> {
    let pairs = steps.iter().map(|(package, old, new)| {
        let title = format!("{package} {old} → {new}");
        artifacts(bench, name, &title, &fetch(package, old)?, &fetch(package, new)?)
    });
    Ok(Group { name: name.to_owned(), pairs: pairs.collect::<Result<_>>()? })
}

/// A pair of artifacts in a directory of this run, where it is small beside what is measured.
pub(super) fn artifacts(bench: &Bench, kind: &str, title: &str, old: &Path, new: &Path) -> Result<Pair> {
    let directory = bench.scratch(&format!("artifacts/{}", simple_name(&format!("{kind} {title}"))))?;
    Pair::artifacts(title.to_owned(), old, new, &directory)
}

/// A title as the name of a directory.
fn simple_name(title: &str) -> String {
    title.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect()
}

/// A `.tar.gz` of a small tree, and one of its next version.
fn generated(bench: &Bench) -> Result<Pair> {
    let archives = generated_tarballs(bench)?;
    let [old, new] = archives.as_slice() else {
        anyhow::bail!("there are not two archives");
    };
    artifacts(bench, "tar", "generated 1 → 2", &old.join("tree-1.tar.gz"), &new.join("tree-2.tar.gz"))
}

/// The two archives of the generated pair, each in a directory of its own.
pub(super) fn generated_tarballs(bench: &Bench) -> Result<Vec<PathBuf>> {
    let pair = many_changed(bench, bench.scale.few_files, 5)?;
    let directory = kept(bench, "generated-archives", |path| {
        for (version, tree) in [("1", &pair.old), ("2", &pair.new)] {
            let directory = path.join(version);
            fs::create_dir_all(&directory)?;
            tar(tree, ".", &directory.join(format!("tree-{version}.tar")))?;
            prepare(Command::new("gzip").arg("-9n").arg(directory.join(format!("tree-{version}.tar"))))?;
        }
        Ok(())
    })?;
    Ok(vec![directory.join("1"), directory.join("2")])
}

/// Writes a tar archive of a directory of `tree`, the same whoever makes it.
pub(crate) fn tar(tree: &Path, directory: &str, to: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"]);
    command.arg("-cf").arg(to).arg("-C").arg(tree).arg(directory);
    prepare(&mut command).with_context(|| format!("archiving {}", tree.display())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_becomes_one_plain_name() {
        assert_eq!(simple_name("sdist .tar.gz django 5.1 → 5.2"), "sdist--tar-gz-django-5-1---5-2");
    }
}
