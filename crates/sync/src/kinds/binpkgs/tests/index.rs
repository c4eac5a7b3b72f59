//! Indexes: written, read and damaged.

use std::io::Read as _;

use proptest::prelude::*;

use super::super::index::{Block, Index, IndexError, gzip};

fn block(values: &[(&str, &str)]) -> Block {
    let mut block = Block::default();
    for (key, value) in values {
        block.set(key, *value).unwrap();
    }
    block
}

fn package(cpv: &str, build_id: &str, chost: &str) -> Block {
    block(&[
        ("CPV", cpv),
        ("BUILD_ID", build_id),
        ("CHOST", chost),
        ("DESC", "Greets"),
        ("EAPI", "0"),
        ("IUSE", "nls"),
        ("KEYWORDS", "amd64"),
        ("MTIME", "7"),
        ("PATH", "a"),
        ("REPO", "gentoo"),
        ("SLOT", "0"),
        ("USE", "nls"),
    ])
}

#[test]
fn an_index_says_what_most_packages_share_only_once() {
    let packages = vec![package("a/b-1", "10", "x"), package("a/b-1", "9", "y"), package("a/a-2", "1", "x")];
    let index = Index::new(1_795_202_375, block(&[("ARCH", "amd64"), ("REPO", "gentoo")]), packages);
    insta::assert_snapshot!(index.render(), @r"
    ARCH: amd64
    CHOST: x
    PACKAGES: 3
    TIMESTAMP: 1795202375
    VERSION: 0
    REPO: gentoo

    BUILD_ID: 1
    CPV: a/a-2
    DESC: Greets
    IUSE: nls
    KEYWORDS: amd64
    PATH: a
    USE: nls
    MTIME: 7

    BUILD_ID: 9
    CHOST: y
    CPV: a/b-1
    DESC: Greets
    IUSE: nls
    KEYWORDS: amd64
    PATH: a
    USE: nls
    MTIME: 7

    BUILD_ID: 10
    CPV: a/b-1
    DESC: Greets
    IUSE: nls
    KEYWORDS: amd64
    PATH: a
    USE: nls
    MTIME: 7
    ");
    assert_eq!(Index::parse(&index.render()).unwrap(), index);
}

#[test]
fn the_settings_of_a_build_host_are_taken_over_and_nothing_else() {
    let header = block(&[
        ("ARCH", "amd64"),
        ("ELIBC", "glibc"),
        ("FETCHCOMMAND", "rm"),
        ("PROFILE", "default/linux/amd64/23.0"),
        ("TTL", "604800"),
        ("URI", "https://elsewhere.example.org"),
        ("USE_EXPAND_IMPLICIT", "ARCH ELIBC"),
        ("USE_EXPAND_UNPREFIXED", "ARCH"),
        ("USE_EXPAND_VALUES_ELIBC", "glibc musl"),
        ("USE_EXPAND_VALUES_KERNEL", "linux"),
    ]);
    let kept: Vec<String> = Index { timestamp: 1, header, packages: Vec::new() }
        .settings()
        .iter()
        .map(|(key, _)| key.to_owned())
        .collect();
    let expected = [
        "ARCH",
        "ELIBC",
        "PROFILE",
        "USE_EXPAND_IMPLICIT",
        "USE_EXPAND_UNPREFIXED",
        "USE_EXPAND_VALUES_ELIBC",
    ];
    assert_eq!(kept, expected);
}

#[test]
fn an_index_that_is_cut_short_or_was_edited_is_refused() {
    let index = Index::new(5, Block::default(), vec![package("a/a-1", "1", "x"), package("a/b-1", "1", "x")]);
    let whole = index.render();
    for len in 0..whole.len() {
        let cut = &whole[..len];
        assert!(Index::parse(cut).is_err(), "{cut:?}");
    }
    let check = |from: &str, to: &str, expected: &str| {
        assert!(whole.contains(from), "{from}");
        let error = Index::parse(&whole.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} instead of {expected}");
    };
    check("PACKAGES: 2", "PACKAGES: 3", "says that there are 3 packages, and there are 2");
    check("PACKAGES: 2\n", "", "PACKAGES: the header has no such number");
    check("PACKAGES: 2", "PACKAGES: 02", "PACKAGES: the header has no such number");
    check("TIMESTAMP: 5", "TIMESTAMP: then", "TIMESTAMP: the header has no such number");
    check("VERSION: 0", "VERSION: 1", "the index has version \"1\"");
    check("VERSION: 0\n", "", "the index has version \"\"");
    check("\n\n", "\n\n\n", "an empty line where Portage would stop reading");
    check("CPV: a/a-1", "CPV a/a-1", "there is no colon");
    check("CPV: a/a-1", "CPV:a/a-1", "there is no value behind the colon and a space");
    check("CPV: a/a-1", "CPV: ", "there is no value");
    check("CPV: a/a-1\n", "", "CPV: package 1 has none");
    check("IUSE: nls", "CPV: a/a-2", "a key that came before");
    check("IUSE: nls", "IUSE: \u{1b}[2J", "holds a control character");
    check("IUSE: nls", "IUSE: nls\r", "holds a control character");
    check("IUSE: nls", "I-USE: nls", "it is no key");
    check("CHOST: x", "\nCHOST: x", "an empty line where Portage would stop reading");
}

#[test]
fn bounds_hold() {
    let mut block = Block::default();
    let long = "a".repeat((1 << 20) + 1);
    assert!(matches!(block.set("USE", long), Err(IndexError::Value { .. })));
    assert!(matches!(block.set("a\u{1b}", "x"), Err(IndexError::Value { .. })));
    let keys: String = (0..257).map(|number| ["K", &number.to_string(), ": x\n"].concat()).collect();
    assert!(matches!(Index::parse(&format!("{keys}\n")), Err(IndexError::TooLarge(_))));
}

#[test]
fn the_compressed_index_is_the_same_whenever_it_is_made() {
    let text = Index::new(5, Block::default(), vec![package("a/a-1", "1", "x")]).render();
    let packed = gzip(&text).unwrap();
    // No name, no time, and a system that is not said: RFC 1952, section 2.3.
    assert_eq!(packed[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]);
    let mut again = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut again).unwrap();
    assert_eq!((again, packed), (text.clone(), gzip(&text).unwrap()));
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        packages in prop::collection::vec((0..3_u8, 0..12_u8, "[xy]", "[a-z ]{1,9}"), 0..9),
        settings in prop::collection::btree_map("[A-Z_]{1,9}X", "[ -~\u{e9}]{1,20}", 0..5),
    ) {
        let mut header = Block::default();
        for (key, value) in settings.iter().filter(|(key, _)| !key.starts_with('_')) {
            header.set(key, value.as_str()).unwrap();
        }
        let packages = packages.iter().map(|(name, id, chost, flags)| {
            let mut block = package(&format!("a/b{name}-1"), &id.to_string(), chost);
            block.set("USE", flags.as_str()).unwrap();
            block
        });
        let index = Index::new(9, header, packages.collect());
        let text = index.render();
        let again = Index::parse(&text).unwrap();
        prop_assert_eq!(&again, &index);
        prop_assert_eq!(again.render(), text);
    }
}
