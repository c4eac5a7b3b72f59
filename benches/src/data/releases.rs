//! Successive releases of Python projects, unpacked from what their authors uploaded.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::fetch::Cache;
use super::pair::{Group, Pair, set_times, unpack};
use super::{many_changed, small};
use crate::bench::Bench;

/// Steps between releases; small ones first.
const STEPS: &[(&str, &str, &str)] = &[
    ("django", "5.1.6", "5.1.7"),
    ("django", "5.1.7", "5.2"),
    ("sqlalchemy", "2.0.37", "2.0.38"),
    ("ansible-core", "2.18.2", "2.18.3"),
    ("sphinx", "8.1.2", "8.1.3"),
];

/// Twenty releases of one project.
const REPOSITORY: (&str, &[&str]) = (
    "django",
    &[
        "5.0", "5.0.1", "5.0.2", "5.0.3", "5.0.4", "5.0.5", "5.0.6", "5.0.7", "5.0.8", "5.0.9", "5.0.10",
        "5.0.11", "5.1", "5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.5", "5.1.6", "5.1.7",
    ],
);

/// Ten releases of another, as archives.
const TARBALLS: (&str, &[&str]) = (
    "sqlalchemy",
    &["2.0.29", "2.0.30", "2.0.31", "2.0.32", "2.0.33", "2.0.34", "2.0.35", "2.0.36", "2.0.37", "2.0.38"],
);

/// A tree of sources of about 36 MB.
const FIRST: (&str, &str) = ("django", "5.2");

/// Trees of sources, a step apart.
pub(crate) fn source_trees(bench: &Bench) -> Result<Group> {
    let name = "trees of sources".to_owned();
    if bench.scale.generated {
        let pair = many_changed(bench, bench.scale.few_files, 5)?;
        return Ok(Group { name, pairs: vec![pair.in_git()] });
    }
    let pairs = STEPS.iter().map(|(project, old, new)| {
        let directory = bench.cache.kept(&format!("trees/{project}-{old}-{new}"), |directory| {
            unpack(&bench.cache.sdist(project, old)?, &directory.join("old"))?;
            unpack(&bench.cache.sdist(project, new)?, &directory.join("new"))?;
            set_times(&directory.join("old"), &directory.join("new"))
        })?;
        let name = format!("{project} {old} → {new}");
        Ok(Pair::trees(name, directory.join("old"), directory.join("new")).in_git())
    });
    Ok(Group { name, pairs: pairs.collect::<Result<_>>()? })
}

/// A tree of sources that nothing of is there.
pub(crate) fn first_install(bench: &Bench) -> Result<PathBuf> {
    if bench.scale.generated {
        return super::few_files(bench);
    }
    let (project, version) = FIRST;
    unpacked(&bench.cache, project, version)
}

/// Versions of a repository, oldest first.
pub(crate) fn repository_versions(bench: &Bench) -> Result<Vec<PathBuf>> {
    if bench.scale.generated {
        return generated_versions(bench);
    }
    let (project, versions) = REPOSITORY;
    versions.iter().map(|version| unpacked(&bench.cache, project, version)).collect()
}

/// Versions of an archive, oldest first, each in a directory of its own.
pub(crate) fn tarball_versions(bench: &Bench) -> Result<Vec<PathBuf>> {
    if bench.scale.generated {
        return super::archives::generated_tarballs(bench);
    }
    let (project, versions) = TARBALLS;
    let directory = |version: &&str| {
        let archive = bench.cache.sdist(project, version)?;
        Ok(archive.parent().context("a file lies in a directory")?.to_owned())
    };
    versions.iter().map(directory).collect()
}

fn unpacked(cache: &Cache, project: &str, version: &str) -> Result<PathBuf> {
    cache.kept(&format!("unpacked/{project}-{version}"), |directory| {
        unpack(&cache.sdist(project, version)?, directory)
    })
}

/// Small trees that differ in a few lines.
fn generated_versions(bench: &Bench) -> Result<Vec<PathBuf>> {
    let count = bench.scale.few_files;
    let old = super::few_files(bench)?;
    let new = super::kept(bench, "generated-versions", |path| {
        fs::create_dir_all(path)?;
        small::copy_edited(&old, &path.join("2"), count, 3)
    })?;
    Ok(vec![old, new.join("2")])
}
