//! Which packages of an index are not needed.

use std::fmt::Write as _;

use super::super::index::Index;
use super::super::redundant::{Need, Needs, PlanError, Policy, plan};

/// `CPV BUILD_ID BUILD_TIME KEY=VALUE …`, an underscore standing for a space in a value.
fn index(lines: &[&str]) -> Index {
    let mut text = format!("CHOST: x86_64\nPACKAGES: {}\nTIMESTAMP: 1\nVERSION: 0\n\n", lines.len());
    for line in lines {
        let mut words = line.split(' ');
        let (cpv, id, built) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        write!(
            text,
            "CPV: {cpv}\nBUILD_ID: {id}\nBUILD_TIME: {built}\nSIZE: 10\nPATH: {cpv}-{id}.gpkg.tar\n"
        )
        .unwrap();
        for word in words {
            let (key, value) = word.split_once('=').unwrap();
            writeln!(text, "{key}: {}", value.replace('+', " ")).unwrap();
        }
        text += "\n";
    }
    Index::parse(&text).unwrap()
}

fn needs(named: &[&str]) -> Needs {
    let need = |text: &&str| match text.strip_prefix("installed ") {
        Some(cpv) => Need::From(cpv.parse().unwrap()),
        None => Need::Atom(text.parse().unwrap()),
    };
    Needs { named: named.iter().map(need).collect(), to_build: false, versions: None }
}

#[track_caller]
fn check(lines: &[&str], policy: &Policy, expected: &[&str]) {
    let planned = plan(&index(lines), policy).unwrap();
    let shown = planned.redundant.iter().map(|package| {
        format!("{} {}: {}", package.cpv, package.build_id.unwrap_or_default(), package.reason)
    });
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

fn of_lists(needs: Needs) -> Policy {
    Policy { needs: Some(needs), one_set_of_flags: false }
}

#[test]
fn of_builds_with_the_same_flags_the_last_one_is_needed() {
    let lines = [
        "c/a-1 1 10 IUSE=x+y USE=x+amd64",
        "c/a-1 2 30 IUSE=x+y USE=y+amd64",
        // The flags of the profile are none of the package's.
        "c/a-1 3 20 IUSE=x+y USE=x+elibc_musl",
        // The later build has the lower number: another host has built it.
        "c/b-1 1 30",
        "c/b-1 7 20",
        "c/b-2 1 10",
        "c/c-1 1 10",
        "c/c-1 2 20 CHOST=i686",
        "c/c-1 3 30 REPO=other",
    ];
    check(
        &lines,
        &Policy::default(),
        &[
            "c/a-1 1: build 3 is newer and has the same flags",
            "c/b-1 7: build 1 is newer and has the same flags",
        ],
    );
    check(
        &lines,
        &Policy { one_set_of_flags: true, ..Policy::default() },
        &[
            "c/a-1 1: build 2 is newer; with other flags here: x -y",
            "c/a-1 3: build 2 is newer; with other flags here: x -y",
            "c/b-1 7: build 1 is newer and has the same flags",
        ],
    );
}

#[test]
fn what_lists_name_and_all_that_it_needs_is_needed() {
    let lines = [
        "c/a-1 1 10 RDEPEND=c/b+||+(+c/d+c/e+)+!c/h",
        "c/b-1 1 10 PDEPEND=>=c/f-2",
        "c/d-1 1 10 IDEPEND=c/a",
        "c/e-1 1 10 BDEPEND=c/g DEPEND=c/g",
        "c/f-1 1 10",
        "c/f-2 1 10",
        "c/g-1 1 10",
        "c/h-1 1 10",
    ];
    let unreached =
        |names: &[&str]| names.iter().map(|name| format!("{name}: no list needs it")).collect::<Vec<_>>();
    let all = unreached(&["c/f-1 1", "c/g-1 1", "c/h-1 1"]);
    check(&lines, &of_lists(needs(&["c/a"])), &all.iter().map(|line| &**line).collect::<Vec<_>>());
    let all = unreached(&["c/f-1 1", "c/h-1 1"]);
    let to_build = of_lists(Needs { to_build: true, ..needs(&["c/a"]) });
    check(&lines, &to_build, &all.iter().map(|line| &**line).collect::<Vec<_>>());
    let planned = plan(&index(&lines), &of_lists(needs(&["c/a", "c/z", "installed c/b-2"]))).unwrap();
    assert_eq!(planned.unknown, 2);
}

#[test]
fn an_atom_names_versions_slots_flags_and_repositories() {
    let lines = [
        "c/a-1 1 10 SLOT=1/5 IUSE=ssl USE=ssl",
        "c/a-2 1 10 SLOT=2/7 IUSE=ssl REPO=own",
        "c/a-3 1 10 SLOT=2/8",
    ];
    for (atom, gone) in [
        ("c/a", &[][..]),
        (">=c/a-2", &["1"]),
        ("=c/a-2*", &["1", "3"]),
        ("c/a:1", &["2", "3"]),
        ("c/a:2/7", &["1", "3"]),
        // It was built with that one, and will be built again for the next.
        ("c/a:2/7=", &["1"]),
        ("c/a:=", &[]),
        ("c/a[ssl]", &["2", "3"]),
        ("c/a[-ssl]", &["1"]),
        ("c/a[ssl(+)]", &["2"]),
        ("c/a[-ssl(+)]", &["1", "3"]),
        // Of which repository the others are is not said.
        ("c/a::own", &[]),
        ("c/a::other", &["2"]),
    ] {
        let expected: Vec<String> =
            gone.iter().map(|version| format!("c/a-{version} 1: no list needs it")).collect();
        let expected: Vec<&str> = expected.iter().map(|line| &**line).collect();
        check(&lines, &of_lists(needs(&[atom])), &expected);
    }
}

#[test]
fn only_the_newest_versions_of_a_slot_are_needed_where_that_is_asked_for() {
    let lines = ["c/a-1.9 1 10", "c/a-1.10 1 10", "c/a-1.11 1 10", "c/a-0.5 1 10 SLOT=old", "c/b-1 1 10"];
    let newest = |versions, named: &[&str]| of_lists(Needs { versions: Some(versions), ..needs(named) });
    check(
        &lines,
        &newest(1, &["c/a"]),
        &["c/a-1.9 1: no list needs it", "c/a-1.10 1: no list needs it", "c/b-1 1: no list needs it"],
    );
    check(&lines, &newest(2, &["c/a", "c/b"]), &["c/a-1.9 1: no list needs it"]);
    // What a host has stays until it has gone on.
    check(
        &lines,
        &newest(1, &["installed c/a-1.9", "c/b"]),
        &["c/a-1.10 1: no list needs it", "c/a-0.5 1: no list needs it"],
    );
    check(
        &lines,
        &of_lists(needs(&["installed c/a-1.10", "c/b"])),
        &["c/a-1.9 1: no list needs it", "c/a-0.5 1: no list needs it"],
    );
}

#[test]
fn nothing_is_planned_where_too_much_would_go() {
    let lines = ["c/a-1 1 10", "c/b-1 1 10 RDEPEND=(+c/a"];
    let none = plan(&index(&lines), &of_lists(needs(&["c/z"])));
    assert!(matches!(none, Err(PlanError::NothingNeeded)), "{none:?}");
    let none = plan(&index(&lines), &of_lists(needs(&[])));
    assert!(matches!(none, Err(PlanError::NothingNeeded)), "{none:?}");
    let unread = plan(&index(&lines), &of_lists(needs(&["c/b"]))).unwrap_err();
    assert_eq!(
        unread.to_string(),
        "RDEPEND of c/b-1 in the index cannot be read: word 3: a group is not closed"
    );
    assert_eq!(plan(&index(&[]), &of_lists(needs(&["c/a"]))).unwrap().redundant, []);
}
