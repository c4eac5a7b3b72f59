//! Properly signed trees whose paths are dangerous, and those that are only unusual.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use smart_sync_store::content::name_content;
use smart_sync_tests::folding_disk::{FoldingDisk, FoldingKind, in_namespace_of_root};
use smart_sync_tests::hostile::{Host, RawEntry, Tree, TreeBuilder};

use crate::scene::Publisher;

fn old() -> Tree {
    TreeBuilder::of(&[("a", "old\n")]).build()
}

/// A tree of empty files with these paths, in this order.
fn forged<P: AsRef<[u8]>>(paths: &[P]) -> Tree {
    let content = name_content(b"");
    let entries = paths.iter().map(|path| RawEntry::file(path.as_ref(), &content));
    TreeBuilder { entries: entries.collect(), ..TreeBuilder::default() }.forge()
}

/// The tree is refused as a list of changes and as pages, for the same reason, which is returned.
#[track_caller]
fn refuses(publisher: &mut Publisher, what: &str, tree: &Tree) -> String {
    let said = publisher.attack(what, 7, tree);
    let listed = publisher.host.ask(&["ls"]).expect_code(7);
    assert_eq!(listed.stdout, "", "{what} was shown");
    let listed = publisher.host.said("its page", &listed);
    assert!(listed.contains("    hint: "), "it says what to do: {listed}");
    let reason = said.lines().last().expect("a reason");
    assert!(listed.contains(reason), "{what}: {listed}");
    format!("{what}: {}\n", reason.trim().trim_start_matches("because: "))
}

#[test]
fn paths_that_lead_out_of_a_tree_are_refused() {
    let mut publisher = Publisher::of(&old());
    let cases: [(&str, &[u8]); 14] = [
        ("up", b"../up"),
        ("up in the middle", b"a/../../up"),
        ("here", b"."),
        ("here in the middle", b"a/./b"),
        ("empty", b""),
        ("absolute", b"/etc/passwd"),
        ("an empty name", b"a//b"),
        ("a slash at the end", b"a/"),
        ("NUL", b"a\0b"),
        (".git", b".git/config"),
        (".GIT below", b"a/.GiT/hooks/pre-commit"),
        ("over 4096 bytes", &[b'a'; 4097]),
        ("ten thousand levels", &b"a/".repeat(10_000)),
        ("an empty name first", b"//"),
    ];
    let mut said = String::new();
    for (what, path) in cases {
        said.push_str(&refuses(&mut publisher, what, &forged(&[path])));
    }
    insta::assert_snapshot!(said, @r#"
    up: the path "../up" is refused: a component of the path is `.` or `..`
    up in the middle: the path "a/../../up" is refused: a component of the path is `.` or `..`
    here: the path "." is refused: a component of the path is `.` or `..`
    here in the middle: the path "a/./b" is refused: a component of the path is `.` or `..`
    empty: the path "" is refused: the path is empty
    absolute: the path "/etc/passwd" is refused: the path is absolute
    an empty name: the path "a//b" is refused: a component of the path is empty
    a slash at the end: the path "a/" is refused: a component of the path is empty
    NUL: the path "a\u{0}b" is refused: the path holds a NUL byte
    .git: the path ".git/config" is refused: a component of the path is `.git`, which would be taken for a repository
    .GIT below: the path "a/.GiT/hooks/pre-commit" is refused: a component of the path is `.git`, which would be taken for a repository
    over 4096 bytes: path is 4097, over the limit of 4096
    ten thousand levels: path is 20000, over the limit of 4096
    an empty name first: the path "//" is refused: the path is absolute
"#);
    publisher.recovers(&TreeBuilder::of(&[("a", "new\n")]).build());
}

#[test]
fn paths_out_of_order_are_refused() {
    let mut publisher = Publisher::of(&old());
    let mut said = String::new();
    for (what, paths) in [
        ("unsorted", &["b", "a"][..]),
        ("twice", &["a", "a"]),
        ("a file and a directory of one name", &["a", "a/b"]),
        ("a file and a directory with others between", &["a", "a-b", "a/b"]),
    ] {
        said.push_str(&refuses(&mut publisher, what, &forged(paths)));
    }
    let content = name_content(b"/etc");
    let entries = vec![RawEntry::symlink("a", &content), RawEntry::file("a/passwd", &name_content(b""))];
    let tree = TreeBuilder { entries, ..TreeBuilder::default() }.forge();
    said.push_str(&refuses(&mut publisher, "a link and something below it", &tree));
    let mut unknown = RawEntry::directory("a");
    unknown.kind = 11;
    let tree = TreeBuilder { entries: vec![unknown], ..TreeBuilder::default() }.forge();
    said.push_str(&refuses(&mut publisher, "an unknown kind", &tree));
    insta::assert_snapshot!(said, @r"
    unsorted: a is not in its place
    twice: a is not in its place
    a file and a directory of one name: a/b lies below a, which is not a directory
    a file and a directory with others between: a/b lies below a, which is not a directory
    a link and something below it: a/passwd lies below a, which is not a directory
    an unknown kind: entry a: unknown kind 11
");
    publisher.recovers(&TreeBuilder::of(&[("a", "new\n")]).build());
}

/// No rule of trees forbids such a name, and no file system of Linux has it.
#[test]
fn a_name_that_the_target_cannot_hold_changes_nothing() {
    let mut publisher = Publisher::of(&old());
    let tree = TreeBuilder::of(&[("a", b"new\n".to_vec()), (&"n".repeat(256), Vec::new())]).build();
    let said = publisher.attack("a name of 256 bytes", 1, &tree);
    insta::assert_snapshot!(said.replace(&"n".repeat(256), "NAME"), @r"
    a name of 256 bytes: exit 1
        this tree cannot be applied here, and nothing was changed: NAME: a name is longer than the 255 bytes that the file system allows
");
    let host = Host::new(&publisher.server);
    host.keeps_target("the same on a new host", 1);
    assert!(!host.target().exists(), "the target was made for nothing");
    publisher.recovers(&TreeBuilder::of(&[("a", "new\n")]).build());
}

/// Real trees have such names, and nothing is wrong with them where each is a name of its own.
const UNSAFE_ELSEWHERE: [&str; 9] = [
    ".git::$INDEX_ALLOCATION",
    ".g\u{200c}it",
    "aux.c",
    "cafe\u{301}",
    "caf\u{e9}",
    "dot.",
    "git~1",
    "xt_DSCP.ko",
    "xt_dscp.ko",
];

#[test]
fn names_that_are_unsafe_on_other_file_systems_are_taken_on_this_one() {
    let mut publisher = Publisher::of(&old());
    let files = UNSAFE_ELSEWHERE.map(|name| (name, name));
    publisher.recovers(&TreeBuilder::of(&files).build());
    let target = publisher.host.target();
    std::fs::create_dir_all(target.join(".git/hooks")).expect("making a directory of the host's own");
    for name in UNSAFE_ELSEWHERE {
        let found = std::fs::read_to_string(target.join(name)).expect("the file is there");
        assert_eq!(found, name);
    }
    publisher.recovers(&TreeBuilder::of(&[(".g\u{200c}it/hooks/pre-commit", "new\n")]).build());
    assert!(!target.join(".git/hooks/pre-commit").exists());
}

/// What a file system takes for something else is refused there, and nothing is touched.
#[test]
fn names_that_are_unsafe_on_the_file_system_of_the_target_are_refused() {
    if !in_namespace_of_root() {
        return;
    }
    for kind in FoldingKind::ALL {
        let mut publisher = Publisher::of(&old());
        let image = publisher.host.environment().path("image");
        let target = publisher.host.target();
        let Some(_disk) = FoldingDisk::mount(kind, &image, &target) else { continue };
        publisher.recovers(&TreeBuilder::of(&[("a", "old\n"), ("b", "two\n")]).build());
        std::fs::create_dir_all(target.join(".git/hooks")).expect("making a directory of the host's own");
        for (what, paths) in kind.unsafe_trees() {
            let files: Vec<_> = paths.iter().map(|path| (*path, "x")).collect();
            let said = publisher.attack(&format!("{what} on {kind:?}"), 1, &TreeBuilder::of(&files).build());
            assert!(said.contains("the file system of the target"), "{said}");
        }
        let hooks = std::fs::read_dir(target.join(".git/hooks")).expect("it is there");
        assert_eq!(hooks.count(), 0, "{kind:?}");
        publisher.recovers(&TreeBuilder::of(&[("a", "new\n")]).build());
    }
}

#[test]
fn names_are_bytes_and_terminals_never_see_them_raw() {
    let mut publisher = Publisher::of(&old());
    let names: [&[u8]; 7] = [
        b"back\\slash",
        b"caf\xe9",
        b"con",
        b"git~1",
        b"line\nbreak",
        b"red\x1b[31m\x07",
        "rtl\u{202e}gpj".as_bytes(),
    ];
    let files: Vec<(&[u8], Vec<u8>)> = names.iter().map(|name| (*name, name.to_vec())).collect();
    let tree = TreeBuilder::of(&files).build();
    let world = publisher.publish(&tree);
    publisher.server.set(move |request| world.answer(request));
    let host = &publisher.host;
    let shown = |arguments: &[&str]| {
        let is_local = arguments.contains(&"verify");
        let finished = if is_local { host.run(arguments) } else { host.ask(arguments) };
        let raw = |text: &str| {
            text.chars()
                .any(|character| character != '\n' && (character.is_control() || character == '\u{202e}'))
        };
        assert!(!raw(&finished.stdout) && !raw(&finished.stderr), "{arguments:?}: {finished:?}");
        finished
    };
    let target = host.target();
    let at_target = ["--target", target.to_str().expect("paths of the tests are text")];
    insta::assert_snapshot!(shown(&["ls"]).success().stdout, @r"
    back\slash
    caf\xe9
    con
    git~1
    line\nbreak
    red\u{1b}[31m\u{7}
    rtl\u{202e}gpj
");
    insta::assert_snapshot!(shown(&[&at_target[..], &["--dry-run"]].concat()).success().stdout, @r"
    [smart-sync] delete   a
    [smart-sync] create   back\slash (a file, 10 bytes)
    [smart-sync] create   caf\xe9 (a file, 4 bytes)
    [smart-sync] create   con (a file, 3 bytes)
    [smart-sync] create   git~1 (a file, 5 bytes)
    [smart-sync] create   line\nbreak (a file, 10 bytes)
    [smart-sync] create   red\u{1b}[31m\u{7} (a file, 9 bytes)
    [smart-sync] create   rtl\u{202e}gpj (a file, 9 bytes)
    [smart-sync] 0 unchanged, 7 contents to fetch (50 bytes), 0 already here
    [smart-sync] the update comes chunk by chunk: 50 bytes in 1 range
    [smart-sync] nothing was changed
");
    shown(&at_target).success();
    for name in names {
        let found = std::fs::read(target.join(OsStr::from_bytes(name)));
        assert_eq!(found.expect("the file is there"), name);
    }
    for name in names {
        std::fs::write(target.join(OsStr::from_bytes(name)), "changed here").expect("writing");
    }
    let verify = [&["verify", "--full"], &at_target[..]].concat();
    insta::assert_snapshot!(shown(&verify).expect_code(11).stdout, @r"
    [smart-sync] content changed: back\slash
    [smart-sync] content changed: caf\xe9
    [smart-sync] content changed: con
    [smart-sync] content changed: git~1
    [smart-sync] content changed: line\nbreak
    [smart-sync] content changed: red\u{1b}[31m\u{7}
    [smart-sync] content changed: rtl\u{202e}gpj
    [smart-sync] 7 paths differ from what was applied; the next sync restores them
");
    insta::assert_snapshot!(host.said("restoring", &shown(&at_target).success()), @r"
    restoring: exit 0
        [smart-sync] warning: local change: back\slash
        [smart-sync] warning: local change: caf\xe9
        [smart-sync] warning: local change: con
        [smart-sync] warning: local change: git~1
        [smart-sync] warning: local change: line\nbreak
        [smart-sync] warning: local change: red\u{1b}[31m\u{7}
        [smart-sync] warning: local change: rtl\u{202e}gpj
        [smart-sync] fetching: 50 B of 50 B
");
}
