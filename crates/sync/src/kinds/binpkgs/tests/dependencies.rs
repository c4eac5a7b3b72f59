//! Dependencies and atoms: what Portage makes of the same texts.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::atom::Atom;
use super::super::cpv::Cpv;
use super::super::dependencies::{Dependencies, Word};

fn settled(flags: &str, text: &str) -> Result<String, String> {
    let dependencies: Dependencies<Atom> = text.parse().map_err(|error| format!("{error}"))?;
    let flags: HashSet<&str> = flags.split_whitespace().collect();
    Ok(dependencies.settled(&flags))
}

/// What `paren_enclose(use_reduce(text, uselist, token_class=Atom))` of Portage 3.0.83 answers.
#[test]
fn dependencies_are_settled_as_portage_does() {
    let check = |flags: &str, text: &str, expected: &str| {
        assert_eq!(settled(flags, text).as_deref(), Ok(expected), "{text} with {flags}");
    };
    check("", "", "");
    check("", "x/a  x/b", "x/a x/b");
    check("", "( x/a ( x/b ) )", "x/a x/b");
    check("a", "a? ( x/a ) !a? ( x/b ) b? ( x/c ) !b? ( x/d )", "x/a x/d");
    check("a b", "a? ( x/a b? ( x/b !c? ( x/c ) ) )", "x/a x/b x/c");
    check("", "|| ( x/a x/b )", "|| ( x/a x/b )");
    check("", "|| ( x/a )", "x/a");
    check("", "|| ( ( x/a x/b ) )", "x/a x/b");
    check("", "|| ( ( x/a x/b ) x/c )", "|| ( ( x/a x/b ) x/c )");
    check("", "|| ( x/a || ( x/b x/c ) )", "|| ( x/a x/b x/c )");
    check("", "|| ( ( || ( x/a x/b ) ) x/c )", "|| ( x/a x/b x/c )");
    check("", "|| ( ( x/a || ( x/b x/c ) ) x/d )", "|| ( ( x/a || ( x/b x/c ) ) x/d )");
    check("a", "|| ( a? ( x/a x/b ) !a? ( x/c ) )", "x/a x/b");
    check("", "|| ( a? ( x/a x/b ) !a? ( x/c ) x/d )", "|| ( x/c x/d )");
    check("", "|| ( a? ( x/a ) ) x/b", "__const__/empty-any-of x/b");
    check("", "|| ( x/a || ( a? ( x/b ) ) )", "|| ( x/a ( __const__/empty-any-of ) )");
    check("", "|| ( || ( a? ( x/b ) ) )", "__const__/empty-any-of");
    check("", "a? ( || ( x/a x/b ) ) x/c", "x/c");
    check("a", "x/p[a?,b?] x/q[!a?,!b?] x/r[a=,b=] x/s[!a=,!b=]", "x/p[a] x/q[-b] x/r[a,-b] x/s[-a,b]");
    check("a", "x/p[b?] x/q:0/1=[a?,-c(+)] !!<x/r-1[b(-)?]", "x/p x/q:0/1=[a,-c(+)] !!<x/r-1");
}

#[test]
fn what_portage_refuses_is_refused() {
    let check = |text: &str, expected: &str| {
        let error = settled("", text).unwrap_err();
        assert!(error.contains(expected), "{error} instead of {expected}");
    };
    check("( x/a", "word 3: a group is not closed");
    check("x/a )", "word 2: there is no group to close");
    check("( )", "word 2: a group is empty");
    check("a? ( )", "word 3: a group is empty");
    check("|| x/a", "word 2: a group has to follow ||");
    check("a?", "word 2: a group has to follow a?");
    check("a? x/b", "word 2: a group has to follow a?");
    check("|| || ( x/a )", "word 2: a group has to follow ||");
    check("!!a? ( x/a )", "is no USE flag");
    check("+a? ( x/a )", "is no USE flag");
    check("? ( x/a )", "is no USE flag");
    check("(x/a)", "is no atom");
    check("||( x/a )", "is no atom");
    check("x/a -> y", "is no atom");
    check("x/a\u{1b}", "is no atom");
    check(&"( ".repeat(65), "more than 64 groups inside of each other");
    check(&"x/a ".repeat(300_000), "more than 1048576 bytes");
}

#[test]
fn licenses_and_restrictions_are_words() {
    let parse = |text: &str| text.parse::<Dependencies<Word>>();
    let flags = HashSet::from(["nls"]);
    let text = "GPL-2+ nls? ( || ( MIT BSD ) ) !nls? ( CC0-1.0 )";
    assert_eq!(parse(text).unwrap().settled(&flags), "GPL-2+ || ( MIT BSD )");
    assert!(parse("MIT (").is_err());
    assert!(parse("a(b)").is_err());
    assert!(parse("a\u{1b}").is_err());
}

#[test]
fn atoms_are_read_and_written_as_they_were() {
    for text in [
        "x/a",
        "!x/a",
        "!!x/a",
        "=x/a-1",
        "~x/a-1.2",
        ">=x/a-1-r3",
        "<x/a-b-2_p1",
        "=x/a-1*",
        "=x/a-1-12",
        "x/a:0",
        "x/a:0/3",
        "x/a:0/3=",
        "x/a:=",
        "x/a:*",
        "x/a::gentoo",
        "x/a:0::gentoo[nls]",
        "x/a[-nls,ssl(+),!a?,b(-)=]",
        "dev-lang/python:3.12[sqlite(+),threads(-)?]",
    ] {
        assert_eq!(text.parse::<Atom>().unwrap().to_string(), text);
    }
}

#[test]
fn what_is_no_atom_is_refused() {
    for text in [
        "",
        "a",
        "/a",
        "x/",
        "x/a/b",
        "x/a-1",
        "=x/a",
        ">=x/a",
        "~x/a-1*",
        ">=x/a-1*",
        "=x/a-1-02",
        "~x/a-1-2",
        "!!!x/a",
        "x/a:",
        "x/a:0*",
        "x/a:0/",
        "x/a:-1",
        "x/a::",
        "x/a::-g",
        "x/a[",
        "x/a[]",
        "x/a[a",
        "x/a[a,]",
        "x/a[+a]",
        "x/a[-a=]",
        "x/a[-a?]",
        "x/a[!a]",
        "x/a[a??]",
        "x/a[a(+),a(-)]",
        "x/a[a,a(+)]",
        "*/a",
        "x/a*",
        "=x/*-1",
        "x/a b",
        "x/a::g:0",
    ] {
        assert!(text.parse::<Atom>().is_err(), "{text:?}");
    }
}

#[test]
fn atoms_name_the_packages_that_they_should() {
    let check = |atom: &str, yes: &str, no: &str| {
        let atom: Atom = atom.parse().unwrap();
        let names = |text: &str| {
            let (cpv, build_id) = match text.split_once('#') {
                Some((cpv, id)) => (cpv, id.parse().ok()),
                None => (text, None),
            };
            atom.names(&cpv.parse::<Cpv>().unwrap(), build_id)
        };
        assert!(yes.split(' ').all(names), "{atom}: {yes}");
        assert!(!no.split(' ').any(names), "{atom}: {no}");
    };
    check("x/a", "x/a-1 x/a-9999", "x/b-1 y/a-1");
    check("=x/a-1.0", "x/a-1.0 x/a-1.00 x/a-1.0-r0 x/a-1.0#7", "x/a-1.0-r1 x/a-1");
    check("=x/a-1.0-7", "x/a-1.0#7", "x/a-1.0 x/a-1.0#8 x/a-1.1#7");
    check("~x/a-1.0", "x/a-1.0 x/a-1.0-r3", "x/a-1.0.1 x/a-1.0_p1");
    check(">=x/a-1.9", "x/a-1.9 x/a-1.10 x/a-2", "x/a-1.9_rc1 x/a-1.8");
    check(">x/a-1.9", "x/a-1.9-r1", "x/a-1.9");
    check("<x/a-1.9", "x/a-1.9_rc1", "x/a-1.9");
    check("<=x/a-1.9", "x/a-1.9", "x/a-1.9-r1");
    check("=x/a-1*", "x/a-1 x/a-1.2 x/a-1a x/a-1_p2 x/a-1-r3", "x/a-10 x/a-2");
    check("=x/a-1.2_p*", "x/a-1.2_p x/a-1.2_p3", "x/a-1.2_pre1");
}

fn any_dependencies() -> impl Strategy<Value = String> {
    let atom = "(!|!!|>=|=)?x/[a-c](:0=)?(\\[a\\?,-b\\])?".prop_filter_map("it is no atom", |text| {
        let text =
            if text.contains("=x/") && !text.contains('-') { text.replace("x/a", "x/a-1") } else { text };
        text.parse::<Atom>().ok().map(|_| text)
    });
    atom.prop_recursive(5, 40, 4, |inner| {
        let group = prop::collection::vec(inner, 1..4).prop_map(|nodes| nodes.join(" "));
        ("(\\|\\| |a\\? |!b\\? )?", group).prop_map(|(before, nodes)| format!("{before}( {nodes} )"))
    })
}

proptest! {
    #[test]
    fn dependencies_are_written_as_they_were(text in any_dependencies()) {
        prop_assert_eq!(text.parse::<Dependencies<Atom>>().unwrap().to_string(), text);
    }

    // That settling it again changes nothing is not promised: Portage, whose letters these are, removes a group of one more.
    #[test]
    fn what_is_settled_depends_on_no_flag_any_more(text in any_dependencies(), flags in "(a )?(b )?") {
        let once = settled(&flags, &text).unwrap();
        prop_assert!(settled("", &once).is_ok(), "{}", once);
        prop_assert!(!once.contains('?') && !once.contains("( )"), "{}", once);
    }
}
