//! Links, in the tree and put there meanwhile, are never followed.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Case, Make};
use crate::apply::error::ApplyError;
use crate::apply::step::Steps;
use crate::apply::tests::fixture::{Spec, Stands, Tree};
use crate::apply::versions::Kind;

pub(super) const CASES: &[Case] = &[
    ("109: a link, and then a write through it", a_link_and_then_a_write_through_it),
    ("111, 112, 113: links that lead anywhere, or to themselves", links_that_lead_anywhere),
    ("109, 126: a directory that became a link is not written or deleted through", a_directory_became_a_link),
    ("109, 126: a file that became a link is not written through", a_file_became_a_link),
    ("124: the target is a link", the_target_is_a_link),
    ("125: a directory is swapped for a link in the middle of a run", swapped_in_the_middle),
];

const OLD: &[(&str, Spec)] =
    &[("dir/file", Spec::File("old")), ("dir/precious", Spec::File("ours")), ("other", Spec::File("other"))];
const NEW: &[(&str, Spec)] =
    &[("dir/file", Spec::File("new")), ("dir/more", Spec::File("more")), ("other", Spec::File("other"))];

fn a_link_and_then_a_write_through_it(make: Make<'_>) {
    let host = make();
    let outside: &'static str = String::leak(host.outside.display().to_string());
    let trees: [&[(&str, Spec)]; 3] = [
        &[("a", Spec::Link(outside)), ("b", Spec::Link(outside))],
        &[("a/precious", Spec::File("written through")), ("b", Spec::File("in its place"))],
        &[("a", Spec::Link(outside)), ("b/precious", Spec::File("written through"))],
    ];
    let mut before = Tree::default();
    for specs in trees {
        let tree = Tree::new(specs);
        host.apply(&before, &tree);
        assert_eq!(host.looks(), host.looks_like(specs));
        host.check_outside();
        before = tree;
    }
    host.apply(&before, &Tree::default());
    host.check_outside();
}

fn links_that_lead_anywhere(make: Make<'_>) {
    let host = make();
    let specs: &[(&str, Spec)] = &[
        ("absolute", Spec::Link("/etc/passwd")),
        ("loop", Spec::Link("loop")),
        ("up", Spec::Link("../../outside/precious")),
        ("z", Spec::Link("not there")),
    ];
    let (tree, next): (_, &[(&str, Spec)]) = (Tree::new(specs), &[("z", Spec::File("file"))]);
    host.apply(&Tree::default(), &tree);
    assert_eq!(host.looks(), host.looks_like(specs));
    host.apply(&tree, &Tree::new(next));
    assert_eq!(host.looks(), host.looks_like(next));
    host.check_outside();
}

/// A host whose own link stands where the tree has a directory.
fn a_directory_became_a_link(make: Make<'_>) {
    let host = make();
    let (old, new) = (Tree::new(OLD), Tree::new(NEW));
    host.apply(&Tree::default(), &old);
    fs::remove_dir_all(host.seen().join("dir")).unwrap();
    host.link(&host.outside, "dir");
    assert_eq!(below_target(host.apply(&old, &new)), ["dir"]);
    assert_eq!(host.looks(), host.looks_like(NEW));
    host.check_outside();
    let link = Stands::Link(host.outside.to_string_lossy().into_owned());
    assert_eq!(host.backups().into_values().collect::<Vec<_>>(), [link]);
}

fn a_file_became_a_link(make: Make<'_>) {
    let host = make();
    let (old, new) = (Tree::new(OLD), Tree::new(NEW));
    host.apply(&Tree::default(), &old);
    for path in ["dir/file", "dir/precious"] {
        fs::remove_file(host.seen().join(path)).unwrap();
        host.link(&host.outside.join("precious"), path);
    }
    assert_eq!(below_target(host.apply(&old, &new)), ["dir/file", "dir/precious"]);
    assert_eq!(host.looks(), host.looks_like(NEW));
    host.check_outside();
}

/// Paths of a backup as they are below the target: those of an overlay begin at the root of the host.
fn below_target(mut saved: Vec<String>) -> Vec<String> {
    saved.sort();
    saved.iter().map(|path| path.rsplit("target/").next().unwrap().to_owned()).collect()
}

fn the_target_is_a_link(make: Make<'_>) {
    let mut host = make();
    let link = host.outside.with_file_name("link");
    symlink(&host.root, &link).unwrap();
    let before = fs::read_dir(&host.root).unwrap().count();
    host.root = link;
    let refused = host.open(&Steps::default()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, ApplyError::Io { .. } | ApplyError::NotForVersions { .. }), "{refused}");
    let target = fs::read_link(&host.root).unwrap();
    assert_eq!(fs::read_dir(target).unwrap().count(), before);
}

/// Somebody who may write in the target moves a directory away and puts a link to elsewhere in its place.
fn swapped_in_the_middle(make: Make<'_>) {
    for swapped_at in
        ["rename", "unlink", "syncfs", "make directory", "chmod", "copy", "exchange", "snapshot"]
    {
        let host = make();
        let (old, new) = (Tree::new(OLD), Tree::new(NEW));
        host.apply(&Tree::default(), &old);
        let (seen, outside, done) = (host.seen(), host.outside.clone(), AtomicBool::new(false));
        let journal = host.state.join("journal");
        let steps = Steps::heard_by(move |effect| {
            if effect == swapped_at && journal.exists() && !done.swap(true, Ordering::SeqCst) {
                fs::rename(seen.join("dir"), seen.join("dir-moved")).unwrap();
                symlink(&outside, seen.join("dir")).unwrap();
            }
            Ok(())
        });
        // It may fail or succeed; what is outside is not touched, and the next runs put the tree right.
        let outcome = host.run(&old, &new, &steps);
        host.check_outside();
        if host.kind == Kind::Overlay && fs::symlink_metadata(host.root.join("dir")).unwrap().is_symlink() {
            // What is the host's is for the host to put right.
            fs::remove_file(host.root.join("dir")).unwrap();
            fs::rename(host.root.join("dir-moved"), host.root.join("dir")).unwrap();
        }
        host.apply(host.holds(&old, &new), &new);
        host.check_outside();
        let mut disk = host.looks();
        disk.retain(|path, _| !path.starts_with("dir-moved"));
        assert_eq!(disk, host.looks_like(NEW), "swapped at {swapped_at}, {outcome:?}");
    }
}
