//! Names and paths.

use smart_sync_store::manifest::entry::{Attributes, Entry, GitMode, Node};
use smart_sync_store::manifest::path::TreePath;

use super::{Case, Make};
use crate::apply::error::ApplyError;
use crate::apply::plan::{PlanInput, Problem, plan};
use crate::apply::scan::Excluded;
use crate::apply::step::Steps;
use crate::apply::tests::fixture::{APPLY_TIME, Host, Spec, Tree, refused};
use crate::apply::versions::Kind;

pub(super) const CASES: &[Case] = &[
    ("94, 96 to 99, 107, 108: unusual names are names", unusual_names),
    ("100: a name of 256 bytes", a_name_of_256_bytes),
    ("101, 102: the longest path, and 2000 levels", the_longest_path),
    ("103, 105, 106, 110: entries twice, out of order, or below what is no directory", the_order_of_entries),
    ("104: names that differ in case or composition", names_that_look_alike),
    ("our own name, as a name of the tree", our_own_name),
    ("what is excluded, and in the way", what_is_excluded_is_not_moved),
];

fn path(bytes: &[u8]) -> TreePath {
    TreePath::new(bytes).unwrap()
}

fn tree_of(paths: &[&[u8]]) -> Tree {
    let mut tree = Tree::default();
    for bytes in paths {
        let content = tree.content(b"text");
        let attributes = Attributes::Git(GitMode::FILE);
        tree.entries.push(Entry { path: path(bytes), node: Node::File(content), attributes });
    }
    tree
}

fn unusual_names(make: Make<'_>) {
    let host = make();
    let longest = [b'n'; 255];
    let names: &[&[u8]] = &[
        b" ",
        b".git::$INDEX_ALLOCATION",
        b".g\xe2\x80\x8cit",
        b"CON",
        b"a\\b",
        b"aux.c",
        b"caf\xe9",
        b"esc\x1b[2J\n",
        b"git~1",
        &longest,
        b"trailing.",
    ];
    let tree = tree_of(names);
    host.apply(&Tree::default(), &tree);
    assert_eq!(host.disk().len(), names.len());
    let (ready, _) = host.open(&Steps::default()).unwrap();
    assert!(host.scan(&ready, &tree).unwrap().is_clean());
    drop(ready);
    host.apply(&tree, &Tree::default());
    assert!(host.disk().is_empty());
}

fn a_name_of_256_bytes(make: Make<'_>) {
    let long = [b'n'; 256];
    let problem = Problem::NameTooLong(path(&long), 255);
    refused(&make(), &Tree::default(), &tree_of(&[&long]), &[problem]);
}

fn the_longest_path(make: Make<'_>) {
    let host = make();
    let deep = vec!["d"; 2000].join("/");
    // The whole path, from the root of the host on, has to be one as well where that is what is noted, and for what stands
    // in for the program `zfs`, which copies.
    let levels = if matches!(host.kind, Kind::Overlay | Kind::Zfs) { 15 } else { 16 };
    let longest = vec!["w".repeat(255); levels].join("/").into_bytes();
    let tree = tree_of(&[deep.as_bytes(), &longest]);
    host.apply(&Tree::default(), &tree);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    assert!(ready.target().tree().stat(deep.as_bytes()).unwrap().is_some());
    assert!(ready.target().tree().stat(&longest).unwrap().is_some());
    assert!(host.scan(&ready, &tree).unwrap().is_clean());
    drop(ready);
    host.apply(&tree, &Tree::default());
    assert!(host.disk().is_empty());
    if host.kind == Kind::Overlay {
        let too_long = vec!["w".repeat(255); 16].join("/").into_bytes();
        let problem = Problem::NotForOverlay(too_long.as_slice().into(), "the whole path is too long");
        let found = host.problems(&Tree::default(), &tree_of(&[&too_long]));
        assert!(found.contains(&problem), "{found:?}");
    }
}

fn the_order_of_entries(make: Make<'_>) {
    let host = make();
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let scan = host.scan(&ready, &Tree::default()).unwrap();
    let excluded: Excluded<'_> = &|_, _| false;
    let input = PlanInput { scan: &scan, excluded, policy: &host.policy, now: APPLY_TIME };
    let none: &[Entry] = &[];
    let check = |entries: &[Entry], message: &str| {
        let error = plan(none, entries, &input).unwrap_err();
        assert!(matches!(error, ApplyError::Manifest(_)) && error.to_string().contains(message), "{error}");
    };
    check(&tree_of(&[b"b", b"a"]).entries, "a is out of order");
    check(&tree_of(&[b"a", b"a"]).entries, "a is out of order");
    check(&tree_of(&[b"a", b"a/b"]).entries, "a/b lies below what is not a directory");
    check(&tree_of(&[b"a", b"a-b", b"a/b"]).entries, "a/b lies below what is not a directory");
    // A link, and a directory of its name.
    let mut tree = Tree::new(&[("a", Spec::Link("/etc"))]);
    tree.entries.extend(tree_of(&[b"a/passwd"]).entries);
    check(&tree.entries, "a/passwd lies below what is not a directory");
    assert!(host.disk().is_empty());
}

fn names_that_look_alike(make: Make<'_>) {
    let host = make();
    let names: [&[u8]; 4] = [b"cafe\xcc\x81", b"caf\xc3\xa9", b"xt_DSCP.ko", b"xt_dscp.ko"];
    host.apply(&Tree::default(), &tree_of(&names));
    assert_eq!(host.disk().len(), names.len());
}

fn our_own_name(make: Make<'_>) {
    let reserved: &[u8] = b".smart-sync-stage/x";
    refused(&make(), &Tree::default(), &tree_of(&[reserved]), &[Problem::Reserved(path(reserved))]);
}

fn what_is_excluded_is_not_moved(make: Make<'_>) {
    let mut host: Host = make();
    let old = Tree::new(&[("dir/x", Spec::File("x"))]);
    host.apply(&Tree::default(), &old);
    host.excluded = |path, _| path.ends_with(b"keep");
    host.write("dir/keep", "mine");
    host.write("untracked/deep/keep", "mine");
    let wanted = Tree::new(&[("dir", Spec::File("file")), ("untracked", Spec::File("file"))]);
    let before = host.disk();
    let found = host.problems(&old, &wanted);
    assert_eq!(host.disk(), before);
    if host.kind == Kind::Overlay {
        // Everything else there is the host's anyway.
        let kept = Problem::NotForOverlay((*b"untracked").into(), "a directory of the host stands there");
        assert!(found.contains(&kept), "{found:?}");
        let found = host.problems(&old, &Tree::new(&[("dir", Spec::File("file"))]));
        let reason = "a directory stands there that holds what is the host's";
        assert_eq!(found, [Problem::NotForOverlay((*b"dir").into(), reason)]);
        return;
    }
    let problem = |excluded: &[u8], path: &[u8]| Problem::ExcludedInTheWay(excluded.into(), path.into());
    assert_eq!(found, [problem(b"dir/keep", b"dir"), problem(b"untracked/deep/keep", b"untracked")]);
}
