//! The other programs, each on one pair.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use smart_sync_tests::CountingProxy;
use smart_sync_tests::proxy::Protocol;

use super::{Measured, place};
use crate::bench::{Bench, check_same, prepare};
use crate::data::{self, Pair, copy_tree};
use crate::measure::measure;
use crate::peers::{bita, casync, git, nginx, ostree, rsync, zsync};

pub(super) fn rsync(bench: &Bench, pair: &Pair) -> Result<Measured> {
    let target = place(bench)?.join("target");
    let daemon = rsync::serve(bench, &pair.new)?;
    copy_tree(&pair.renamed, &target)?;
    let proxy = CountingProxy::start(&daemon.address(), Protocol::Other)?;
    let usage = measure(bench, &rsync::sync_compressed(bench, &proxy.address().to_string(), &target))?;
    check_same("rsync", &pair.new, &target)?;
    Ok(Measured { usage, wire: proxy.totals() })
}

pub(super) fn casync(bench: &Bench, pair: &Pair) -> Result<Measured> {
    let place = place(bench)?;
    let public = public(&place)?;
    let target = place.join("target");
    match &pair.artifact {
        Some((_, new)) => prepare(&mut casync::make_file(bench, &public, new))?,
        None => prepare(&mut casync::make(bench, &public, &pair.new))?,
    };
    let server = nginx::serve(bench, &public)?;
    let proxy = CountingProxy::start(&server.address(), Protocol::Http)?;
    let usage = if let Some((old, new)) = &pair.artifact {
        let usage = measure(bench, &casync::extract_file(bench, &proxy.url(), old, &target))?;
        check_same_file("casync", new, &target)?;
        usage
    } else {
        // With the target itself as the seed it may end with a stale file handle.
        let usage = measure(bench, &casync::extract_beside(bench, &proxy.url(), &pair.old, &target))?;
        check_same("casync", &pair.new, &target)?;
        usage
    };
    Ok(Measured { usage, wire: proxy.totals() })
}

pub(super) fn zsync(bench: &Bench, pair: &Pair) -> Result<Measured> {
    let place = place(bench)?;
    let public = public(&place)?;
    let (old, new) = as_files(pair, &place)?;
    let compressed = pair.artifact.is_some() && is_compressed(&new)?;
    zsync::publish(bench, &public, &new, "file", compressed)?;
    let server = nginx::serve(bench, &public)?;
    let proxy = CountingProxy::start(&server.address(), Protocol::Http)?;
    let target = place.join("target");
    let usage = measure(bench, &zsync::fetch(bench, &format!("{}/file.zsync", proxy.url()), &old, &target))?;
    check_same_file("zsync", &new, &target)?;
    Ok(Measured { usage, wire: proxy.totals() })
}

pub(super) fn ostree(bench: &Bench, pair: &Pair) -> Result<Measured> {
    let place = place(bench)?;
    let public = public(&place)?;
    let (repository, local) = (place.join("repository"), place.join("local"));
    let (delta, target) = (place.join("delta"), place.join("target"));
    prepare(&mut ostree::init(bench, &repository, "archive"))?;
    prepare(&mut ostree::commit(bench, &repository, &pair.old))?;
    let old = ostree::newest(bench, &repository)?;
    prepare(&mut ostree::init(bench, &local, "bare-user"))?;
    prepare(&mut ostree::pull_local(bench, &local, &repository, &old))?;
    prepare(&mut ostree::commit(bench, &repository, &pair.new))?;
    let new = ostree::newest(bench, &repository)?;
    prepare(&mut ostree::write_delta(bench, &repository, &public.join("delta")))?;
    let server = nginx::serve(bench, &public)?;
    let proxy = CountingProxy::start(&server.address(), Protocol::Http)?;
    let mut fetch = bench.environment.command("curl");
    fetch.args(["--silent", "--fail", "--output"]).arg(&delta).arg(format!("{}/delta", proxy.url()));
    let fetched = measure(bench, &fetch)?;
    let applied = measure(bench, &ostree::apply_delta(bench, &local, &delta))?;
    let checkout = measure(bench, &ostree::checkout(bench, &local, &new, &target))?;
    check_same("ostree", &pair.new, &target)?;
    Ok(Measured { usage: fetched.then(applied).then(checkout), wire: proxy.totals() })
}

/// None where the program makes no archive of the new version that it could read.
pub(super) fn bita(bench: &Bench, program: &Path, pair: &Pair) -> Result<Option<Measured>> {
    let place = place(bench)?;
    let public = public(&place)?;
    let (old, new) = as_files(pair, &place)?;
    if !bita::compress(bench, program, &new, &public.join("file.cba"))? {
        crate::say("  bita makes no archive of it that it can read: left out");
        return Ok(None);
    }
    let server = nginx::serve(bench, &public)?;
    let proxy = CountingProxy::start(&server.address(), Protocol::Http)?;
    let target = place.join("target");
    let url = format!("{}/file.cba", proxy.url());
    let usage = measure(bench, &bita::clone(bench, program, &url, &old, &target))?;
    check_same_file("bita", &new, &target)?;
    Ok(Some(Measured { usage, wire: proxy.totals() }))
}

pub(super) fn git(bench: &Bench, pair: &Pair) -> Result<Measured> {
    let place = place(bench)?;
    let public = public(&place)?;
    let target = place.join("target");
    git::commit(bench, &public, &pair.old)?;
    let daemon = git::serve(bench, &public)?;
    let proxy = CountingProxy::start(&daemon.address(), Protocol::Other)?;
    prepare(&mut git::clone_shallow(bench, &proxy.address().to_string(), &target))?;
    git::keep_bytes(&target.join(".git"))?;
    prepare(&mut git::reset(bench, &target, "HEAD"))?;
    git::commit(bench, &public, &pair.new)?;
    proxy.take_totals();
    let fetched = measure(bench, &git::fetch_shallow(bench, &target))?;
    let wire = proxy.totals();
    let usage = fetched.then(measure(bench, &git::reset(bench, &target, "FETCH_HEAD"))?);
    check_same("git", &pair.new, &target)?;
    Ok(Measured { usage, wire })
}

fn public(place: &Path) -> Result<PathBuf> {
    let path = place.join("served");
    fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(path)
}

/// Both versions as one file each: the artifacts, or tar archives of the trees.
fn as_files(pair: &Pair, place: &Path) -> Result<(PathBuf, PathBuf)> {
    if let Some((old, new)) = &pair.artifact {
        return Ok((old.clone(), new.clone()));
    }
    let (old, new) = (place.join("old.tar"), place.join("new.tar"));
    data::tar(&pair.old, ".", &old)?;
    data::tar(&pair.new, ".", &new)?;
    Ok((old, new))
}

/// Whether a file looks as if its bytes were compressed, at its beginning.
fn is_compressed(path: &Path) -> Result<bool> {
    let mut head = [0; 8];
    let length = std::io::Read::read(&mut fs::File::open(path)?, &mut head)?;
    let magics: [&[u8]; 5] = [b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"!<arch>"];
    let named = path.to_string_lossy().ends_with(".gpkg.tar");
    Ok(named || magics.iter().any(|magic| head[..length].starts_with(magic)))
}

fn check_same_file(what: &str, expected: &Path, found: &Path) -> Result<()> {
    let digest = |path: &Path| -> Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        let mut file = fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
        std::io::copy(&mut file, &mut hasher).with_context(|| format!("reading {}", path.display()))?;
        Ok(hasher.finalize())
    };
    if digest(expected)? != digest(found)? {
        bail!("{what}: the result differs");
    }
    Ok(())
}
