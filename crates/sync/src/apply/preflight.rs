//! What the file system of a target cannot hold, found before anything changes.
//!
//! The file system is asked, not guessed at: names that are not plain are made in a directory of their own and
//! looked for, and where two spellings of a name turn out to be one, all names of each directory are tried
//! together.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use rustix::fs::{Access, AtFlags, StatVfsMountFlags};
use rustix::io::Errno;
use smart_sync_store::manifest::entry::{Entry, Node};
use smart_sync_store::manifest::path::TreePath;

use super::error::ApplyError;
use super::plan::{Action, ApplyPlan, Change, Displaced, NAME_BYTES_MAX, Problem};
use super::stage::STAGE;
use super::stat::FileKind;
use super::tree_dir::TreeDir;
use super::tree_walk::join;

const PROBE: &[u8] = b".smart-sync-stage/probe";
/// A name in lower case and composed, and the spellings that some file systems take for the same.
const SPELLING: &[u8] = "caf\u{e9}".as_bytes();
const OTHER_SPELLINGS: [&[u8]; 2] = ["CAF\u{c9}".as_bytes(), "cafe\u{301}".as_bytes()];

/// Adds to a plan's problems what the target's file system refuses. A plan without actions needs nothing of it.
pub fn preflight<E: Borrow<Entry>>(
    tree: &TreeDir,
    plan: &mut ApplyPlan,
    wanted: impl IntoIterator<Item = E>,
) -> Result<(), ApplyError> {
    if plan.is_empty() {
        return Ok(());
    }
    let before = plan.problems.len();
    reserved(tree, plan);
    room(tree, plan)?;
    permissions(tree, plan)?;
    if plan.problems.len() > before {
        return Ok(()); // The rest would fail at making its first file.
    }
    names(tree, plan, wanted)
}

/// Adds to a plan's problems what the file system of a directory has no room for and which names it refuses.
pub(super) fn names_and_room<E: Borrow<Entry>>(
    directory: &TreeDir,
    plan: &mut ApplyPlan,
    wanted: impl IntoIterator<Item = E>,
) -> Result<(), ApplyError> {
    room(directory, plan)?;
    if plan.problems.is_empty() { names(directory, plan, wanted) } else { Ok(()) }
}

fn names<E: Borrow<Entry>>(
    tree: &TreeDir,
    plan: &mut ApplyPlan,
    wanted: impl IntoIterator<Item = E>,
) -> Result<(), ApplyError> {
    tree.make_directory(STAGE, 0o700)?;
    tree.remove_all(PROBE)?;
    tree.make_directory(PROBE, 0o700)?;
    let mut problems = probe(tree, plan, wanted)?;
    plan.problems.append(&mut problems);
    tree.remove_all(PROBE)?;
    // It stays where something is staged.
    tree.remove_directory(STAGE)?;
    Ok(())
}

/// Refuses paths that are the file system's own.
fn reserved(tree: &TreeDir, plan: &mut ApplyPlan) {
    let made = plan.actions.iter().filter(|action| is_made(&action.change) && tree.is_reserved(&action.path));
    let problems: Vec<_> = made
        .filter_map(|action| TreePath::new(action.path.clone()).ok())
        .map(Problem::ReservedBySystem)
        .collect();
    plan.problems.extend(problems);
}

pub(super) fn room(tree: &TreeDir, plan: &mut ApplyPlan) -> Result<(), ApplyError> {
    let root = tree.open_directory(b"")?;
    let found = rustix::fs::fstatvfs(&root).map_err(|errno| tree.error("asking for space on", b"", errno))?;
    if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        plan.problems.push(Problem::ReadOnly);
    }
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if plan.bytes > free {
        plan.problems.push(Problem::Space { needed: plan.bytes, free });
    }
    // Some file systems have no fixed number of inodes, and say zero.
    if found.f_files > 0 && plan.inodes > found.f_favail {
        plan.problems.push(Problem::Inodes { needed: plan.inodes, free: found.f_favail });
    }
    let actions = plan.actions.iter().filter(|action| is_made(&action.change));
    let too_long = actions.filter_map(|action| {
        // What is too long everywhere is a problem of the plan already.
        let is_long = |name: &[u8]| name.len() as u64 > found.f_namemax && name.len() <= NAME_BYTES_MAX;
        action
            .path
            .split(|byte| *byte == b'/')
            .any(is_long)
            .then(|| TreePath::new(action.path.clone()).ok())?
    });
    let too_long: Vec<_> = too_long.map(|path| Problem::NameTooLong(path, found.f_namemax)).collect();
    plan.problems.extend(too_long);
    Ok(())
}

/// Looks at each directory in which something is to be done, and at each file that is to go.
fn permissions(tree: &TreeDir, plan: &mut ApplyPlan) -> Result<(), ApplyError> {
    let mut directories = BTreeSet::new();
    directories.insert(&b""[..]);
    let mut problems = Vec::new();
    for action in &plan.actions {
        if !matches!(action.change, Change::SetMetadata(..)) {
            let parent = action.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            directories.insert(&action.path[..parent]);
        }
        problems.extend(is_immutable_there(tree, action)?);
    }
    for path in directories {
        problems.extend(directory_problem(tree, path)?);
    }
    for problem in problems {
        // The whole file system may be read-only, and every directory of it says so.
        if !plan.problems.contains(&problem) {
            plan.problems.push(problem);
        }
    }
    Ok(())
}

/// Whether what an action displaces is protected against everybody.
pub(super) fn is_immutable_there(tree: &TreeDir, action: &Action) -> Result<Option<Problem>, ApplyError> {
    let is_immutable = action.displaced != Displaced::Nothing
        && tree.stat(&action.path)?.is_some_and(|stat| stat.is_immutable);
    Ok(is_immutable.then(|| Problem::Immutable(action.path.clone())))
}

/// Why nothing can be made in a directory, if nothing can. One that is not there yet, or will be once something has made
/// way, is ours.
pub(super) fn directory_problem(tree: &TreeDir, path: &[u8]) -> Result<Option<Problem>, ApplyError> {
    let Some(stat) = tree.stat(path)?.filter(|stat| stat.kind == FileKind::Directory) else {
        return Ok(None);
    };
    if stat.is_immutable {
        return Ok(Some(Problem::Immutable(path.into())));
    }
    let access = Access::WRITE_OK | Access::EXEC_OK;
    let allowed = tree
        .open_directory(path)
        .map(|directory| rustix::fs::accessat(&directory, c".", access, AtFlags::EACCESS));
    match allowed {
        Ok(Err(Errno::ACCESS | Errno::PERM)) => Ok(Some(Problem::NotWritable(path.into()))),
        Ok(Err(Errno::ROFS)) => Ok(Some(Problem::ReadOnly)),
        Ok(Err(errno)) => Err(tree.error("asking for permission on", path, errno)),
        Ok(Ok(())) => Ok(None),
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::PermissionDenied) => {
            Ok(Some(Problem::NotWritable(path.into())))
        }
        Err(error) => Err(error),
    }
}

fn probe<E: Borrow<Entry>>(
    tree: &TreeDir,
    plan: &ApplyPlan,
    wanted: impl IntoIterator<Item = E>,
) -> Result<Vec<Problem>, ApplyError> {
    let mut problems = Vec::new();
    let makes_links =
        plan.actions.iter().any(|action| matches!(action.change, Change::Put(Node::Symlink(_), _)));
    if makes_links {
        match tree.make_symlink(b"target", &join(PROBE, b"link")) {
            Ok(()) => _ = tree.remove_file(&join(PROBE, b"link"))?,
            Err(error) if is_refusal(&error) => problems.push(Problem::NoSymlinks),
            Err(error) => return Err(error),
        }
    }
    let unusual = unusual_names(plan);
    let aliases = aliases_of_git(tree, &unusual)?;
    problems.extend(aliases.iter().map(|name| Problem::NameRefused((*name).into())));
    let others = &unusual - &aliases;
    problems.append(&mut refused_names(tree, &others)?);
    if folds_names(tree)? {
        problems.append(&mut collisions(tree, wanted)?);
    }
    Ok(problems)
}

/// Names that the file system takes for `.git`, and what is below that runs as whoever types `git` there: short names
/// of DOS, names of streams, characters that are passed over.
fn aliases_of_git<'p>(
    tree: &TreeDir,
    unusual: &BTreeSet<&'p [u8]>,
) -> Result<BTreeSet<&'p [u8]>, ApplyError> {
    let mut aliases = unusual.clone();
    if aliases.is_empty() {
        return Ok(aliases);
    }
    let git = join(PROBE, b".git");
    tree.make_directory(&git, 0o700)?;
    let mut failed = None;
    aliases.retain(|name| match tree.stat(&join(PROBE, name)) {
        Ok(found) => found.is_some(),
        Err(error) if is_refusal(&error) => false,
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    tree.remove_directory(&git)?;
    failed.map_or(Ok(aliases), Err)
}

/// Names that some file system might refuse or change: all but those of plain letters, digits and signs.
fn unusual_names(plan: &ApplyPlan) -> BTreeSet<&[u8]> {
    let made = plan.actions.iter().filter(|action| is_made(&action.change));
    made.flat_map(|action| action.path.split(|byte| *byte == b'/')).filter(|name| !is_plain(name)).collect()
}

fn is_plain(name: &[u8]) -> bool {
    // Short names of DOS have a tilde.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.+@,= ".contains(byte);
    name.iter().all(is_plain) && !name.ends_with(b".") && !name.ends_with(b" ") && !is_dos_device(name)
}

/// Whether DOS has a device of this name; what follows a dot does not count there, and neither do spaces before it.
fn is_dos_device(name: &[u8]) -> bool {
    let stem = name.split(|byte| *byte == b'.').next().unwrap_or_default().trim_ascii_end();
    let is = |device: &[u8]| stem.eq_ignore_ascii_case(device);
    let is_numbered =
        |port: &[u8]| stem.len() == 4 && stem[3].is_ascii_digit() && stem[..3].eq_ignore_ascii_case(port);
    is(b"CON") || is(b"PRN") || is(b"AUX") || is(b"NUL") || is_numbered(b"COM") || is_numbered(b"LPT")
}

/// Those of the names under which a file cannot be made, or is not listed then.
fn refused_names(tree: &TreeDir, names: &BTreeSet<&[u8]>) -> Result<Vec<Problem>, ApplyError> {
    let mut problems = Vec::new();
    let mut made = BTreeSet::new();
    for name in names {
        match tree.create_file(&join(PROBE, name)) {
            Ok(_) => _ = made.insert(*name),
            // It is another name's file, which the search for collisions tells of.
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::AlreadyExists) => {}
            Err(error) if is_refusal(&error) => problems.push(Problem::NameRefused((*name).into())),
            Err(error) => return Err(error),
        }
    }
    let listing = tree.list(PROBE)?;
    let listed: HashSet<&[u8]> = listing.names().map(|(found, _)| found.to_bytes()).collect();
    let lost = made.iter().filter(|name| !listed.contains(**name));
    problems.extend(lost.map(|name| Problem::NameRefused((*name).into())));
    made.iter().try_for_each(|name| tree.remove_file(&join(PROBE, name)).map(|_| ()))?;
    Ok(problems)
}

fn folds_names(tree: &TreeDir) -> Result<bool, ApplyError> {
    tree.create_file(&join(PROBE, SPELLING))?;
    let mut folds = false;
    for other in OTHER_SPELLINGS {
        folds |= tree.stat(&join(PROBE, other))?.is_some();
    }
    tree.remove_file(&join(PROBE, SPELLING))?;
    Ok(folds)
}

/// Makes all names of each directory of the tree beside each other.
fn collisions<E: Borrow<Entry>>(
    tree: &TreeDir,
    wanted: impl IntoIterator<Item = E>,
) -> Result<Vec<Problem>, ApplyError> {
    let mut directories: BTreeMap<Vec<u8>, HashSet<Vec<u8>>> = BTreeMap::new();
    for entry in wanted {
        let path = entry.borrow().path.as_bytes();
        let mut start = 0;
        for end in
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()])
        {
            let directory = path[..start.max(1) - 1].to_vec();
            directories.entry(directory).or_default().insert(path[start..end].to_vec());
            start = end + 1;
        }
    }
    let mut problems = Vec::new();
    for (directory, names) in directories {
        let trial = join(PROBE, b"names");
        tree.make_directory(&trial, 0o700)?;
        for name in names {
            match tree.create_file(&join(&trial, &name)) {
                Ok(_) => {}
                Err(error) if error.io_kind() == Some(std::io::ErrorKind::AlreadyExists) => {
                    problems.extend(TreePath::new(join(&directory, &name)).map(Problem::Collision));
                }
                Err(error) if is_refusal(&error) => problems.push(Problem::NameRefused(name.into())),
                Err(error) => return Err(error),
            }
        }
        tree.remove_all(&trial)?;
    }
    Ok(problems)
}

const fn is_made(change: &Change) -> bool {
    matches!(change, Change::Put(..) | Change::Link(_) | Change::MakeDirectory(_))
}

/// Whether a file system said that it does not do such a thing, rather than that it failed to.
fn is_refusal(error: &ApplyError) -> bool {
    let ApplyError::Io { source, .. } = error else { return false };
    let refusals =
        [Errno::INVAL, Errno::ILSEQ, Errno::NAMETOOLONG, Errno::OPNOTSUPP, Errno::PERM, Errno::NOSYS];
    Errno::from_io_error(source).is_some_and(|errno| refusals.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_every_file_system_holds_are_not_tried() {
        for name in "usr lib a Makefile libz.so.1 x_y-z+1@2,3=4 console com LPT10".split(' ') {
            assert!(is_plain(name.as_bytes()), "{name}");
        }
        let unusual = [
            "aux",
            "Con.txt",
            "NUL .log",
            "com1",
            "dot.",
            "space ",
            "a:b",
            "\\x2d",
            "caf\u{e9}",
            "\u{1b}",
            "git~1",
        ];
        for name in unusual {
            assert!(!is_plain(name.as_bytes()), "{name}");
        }
    }
}
