//! What cannot or must not be applied is found before anything changes.

use smart_sync_store::manifest::entry::{Attributes, Entry, GitMode, Node};
use smart_sync_store::manifest::path::TreePath;

use super::fixture::{APPLY_TIME, Host, Spec, Tree};
use crate::apply::error::ApplyError;
use crate::apply::plan::{PlanInput, Problem, plan};
use crate::apply::run::ReadyTarget;
use crate::apply::step::Steps;
use crate::apply::{Stamp, scan};

fn path(bytes: &[u8]) -> TreePath {
    TreePath::new(bytes).unwrap()
}

fn check(host: &Host, applied: &Tree, wanted: &Tree, expected: &[Problem]) -> ReadyTarget {
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let before = host.disk();
    let (_, plan) = host.plan(&ready, applied, wanted).unwrap();
    assert_eq!(plan.problems, expected);
    if !expected.is_empty() {
        let refused = ready.begin(plan, wanted.version(), Stamp::new(b"stamp").unwrap()).unwrap_err();
        assert!(matches!(refused, ApplyError::Refused(_)), "{refused}");
        assert!(!host.state.join("journal").exists());
    }
    assert_eq!(host.disk(), before);
    ready
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

#[test]
fn names_are_bytes_and_as_long_as_the_file_system_allows() {
    let host = Host::new();
    let longest = [b'n'; 255];
    let names: &[&[u8]] =
        &[b" ", b"CON", b"a\\b", b"aux.c", b"caf\xe9", b"esc\x1b[2J\n", &longest, b"trailing."];
    check(&host, &Tree::default(), &tree_of(names), &[]);
    host.apply(&Tree::default(), &tree_of(names));
    assert_eq!(host.disk().len(), names.len());
    let long = [b'n'; 256];
    let problem = Problem::NameTooLong(path(&long), 255);
    check(&Host::new(), &Tree::default(), &tree_of(&[&long]), &[problem]);
}

#[test]
fn names_that_differ_in_case_alone_are_two_files_where_the_file_system_says_so() {
    let host = Host::new();
    let tree = tree_of(&[b"xt_DSCP.ko", b"xt_dscp.ko"]);
    let ready = check(&host, &Tree::default(), &tree, &[]);
    drop(ready);
    host.apply(&Tree::default(), &tree);
    assert_eq!(host.disk().len(), 2);
}

#[test]
fn the_longest_path_of_a_tree_can_be_applied_and_deleted() {
    let host = Host::new();
    let deep = vec!["d"; 2000].join("/");
    let longest = vec!["w".repeat(255); 16].join("/").into_bytes();
    assert_eq!(longest.len(), 4095);
    let tree = tree_of(&[deep.as_bytes(), &longest]);
    host.apply(&Tree::default(), &tree);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    assert!(ready.target().tree().stat(deep.as_bytes()).unwrap().is_some());
    assert!(ready.target().tree().stat(&longest).unwrap().is_some());
    assert!(host.scan(&ready, &tree).unwrap().is_clean());
    drop(ready);
    host.apply(&tree, &Tree::default());
    assert!(host.disk().is_empty());
}

#[test]
fn our_own_name_and_link_targets_that_cannot_be_are_refused() {
    let host = Host::new();
    let reserved: &[u8] = b".smart-sync-stage/x";
    check(&host, &Tree::default(), &tree_of(&[reserved]), &[Problem::Reserved(path(reserved))]);
    check(&host, &Tree::default(), &Tree::new(&[("l", Spec::Link(""))]), &[Problem::LinkTarget(path(b"l"))]);
}

#[test]
fn an_excluded_path_in_the_way_is_not_moved() {
    let mut host = Host::new();
    let old = Tree::new(&[("dir/x", Spec::File("x"))]);
    host.apply(&Tree::default(), &old);
    host.excluded = |path, _| path.ends_with(b"keep");
    host.write("dir/keep", "mine");
    host.write("untracked/deep/keep", "mine");
    let wanted = Tree::new(&[("dir", Spec::File("file")), ("untracked", Spec::File("file"))]);
    let problem = |excluded: &[u8], path: &[u8]| Problem::ExcludedInTheWay(excluded.into(), path.into());
    check(
        &host,
        &old,
        &wanted,
        &[problem(b"dir/keep", b"dir"), problem(b"untracked/deep/keep", b"untracked")],
    );
}

#[test]
fn a_manifest_that_breaks_the_order_is_refused() {
    let host = Host::new();
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let scan = host.scan(&ready, &Tree::default()).unwrap();
    let excluded: scan::Excluded<'_> = &|_, _| false;
    let input = PlanInput { scan: &scan, excluded, policy: &host.policy, now: APPLY_TIME };
    let none: &[Entry] = &[];
    let check = |paths: &[&[u8]], message: &str| {
        let error = plan(none, &tree_of(paths).entries, &input).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    };
    check(&[b"b", b"a"], "a is out of order");
    check(&[b"a", b"a"], "a is out of order");
    check(&[b"a", b"a/b"], "a/b lies below what is not a directory");
    check(&[b"a", b"a-b", b"a/b"], "a/b lies below what is not a directory");
}
