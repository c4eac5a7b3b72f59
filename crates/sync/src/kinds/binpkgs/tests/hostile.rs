//! GPKGs that are not what they should be, each refused with the reason.

use smart_sync_store::manifest::TreePath;

use super::super::codec::Codec;
use super::super::stanza::stanza;
use super::super::{PackageError, gpkg};
use super::draft::{BASENAME, Draft, archive, image_archive, member, metadata, metadata_archive};

/// Where the second member of a sound package begins.
const SECOND: usize = 512;

fn sound() -> Draft {
    Draft::sound(Codec::Plain)
}

/// The error of a draft, with all its causes.
fn refusal(bytes: &[u8]) -> String {
    let error = gpkg::read(bytes).unwrap_err();
    assert!(!error.hint().is_empty());
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn check(change: impl Fn(&mut Draft), expected: &str) {
    let mut draft = sound();
    change(&mut draft);
    let found = refusal(&draft.bytes());
    assert!(found.contains(expected), "{found} instead of {expected}");
}

/// The same, with a Manifest that says what is there.
fn check_sealed(change: impl Fn(&mut Draft), expected: &str) {
    check(
        |draft| {
            change(draft);
            draft.seal();
        },
        expected,
    );
}

fn check_bytes(change: impl Fn(&mut Vec<u8>), expected: &str) {
    let mut bytes = sound().bytes();
    change(&mut bytes);
    let found = refusal(&bytes);
    assert!(found.contains(expected), "{found} instead of {expected}");
}

/// Changes a header, and its checksum with it.
fn with_header(bytes: &mut [u8], at: usize, change: impl Fn(&mut [u8])) {
    change(&mut bytes[at..at + 512]);
    let mut header = tar::Header::from_byte_slice(&bytes[at..at + 512]).clone();
    header.set_cksum();
    bytes[at..at + 512].copy_from_slice(header.as_bytes());
}

#[test]
fn members_that_are_not_those_of_a_package_are_refused() {
    let at = |name: &str| format!("member {BASENAME}/{name}");
    check_sealed(|draft| drop(draft.members.remove(0)), "the first member has to be gpkg-1");
    check_sealed(|draft| drop(draft.members.remove(1)), "it must not follow gpkg-1");
    check_sealed(|draft| drop(draft.members.remove(2)), "Manifest: it must not follow metadata.tar");
    check(|draft| drop(draft.members.pop()), "image.tar: the container ends here, before its Manifest");
    check(|draft| draft.members.clear(), "there are no members");
    check_sealed(|draft| draft.members.swap(1, 2), "image.tar: it must not follow gpkg-1");
    check_sealed(|draft| draft.members.swap(0, 1), "the first member has to be gpkg-1");
    let twice = |draft: &mut Draft| draft.members.insert(2, draft.members[1].clone());
    check_sealed(twice, &format!("{}: it comes twice", at("metadata.tar")));
    let other_suffix = |draft: &mut Draft| {
        let name = format!("{BASENAME}/metadata.tar.xz");
        draft.members.insert(2, member(&name, draft.members[1].bytes.clone()));
    };
    check_sealed(other_suffix, "metadata.tar.xz: it must not follow metadata.tar");
    let extra =
        |name: &'static str| move |draft: &mut Draft| draft.members.insert(3, member(name, b"x".to_vec()));
    check_sealed(extra("hello-1.0-2/README"), "README: no member of a GPKG is called so");
    check_sealed(extra("hello-1.0-2/image.tar.7z"), "no member of a GPKG is called so");
    check_sealed(extra("hello-1.0-2/gpkg-1.sig"), "no member of a GPKG is called so");
    check_sealed(extra("hello-1.0-2/a/image.tar"), "it is not in exactly one directory");
    check_sealed(extra("image.tar.sig"), "it is not in exactly one directory");
    check_sealed(extra("other-1/image.tar.sig"), "it is in another directory than the member before");
    let behind = |draft: &mut Draft| draft.members.push(member("hello-1.0-2/image.tar.sig", Vec::new()));
    check(behind, "image.tar.sig: it must not follow Manifest");
    let elsewhere = |basename: &'static str| {
        move |draft: &mut Draft| {
            for member in &mut draft.members {
                member.name = member.name.replace(BASENAME, basename);
            }
        }
    };
    check(elsewhere("..x"), "its directory is not the name of a package");
    check(elsewhere("a b"), "its directory is not the name of a package");
    check(elsewhere("a\u{1b}[2J"), "member a\\u{1b}[2J/gpkg-1: its directory is not the name of a package");
    check_sealed(|draft| draft.members[0].bytes = b"x".to_vec(), "it has 1 bytes, and 0 are allowed");
    for (kind, what) in [
        (b'1', "a hard link"),
        (b'2', "a symbolic link"),
        (b'3', "a device"),
        (b'5', "a directory"),
        (b'6', "a named pipe"),
        (b'x', "an extended header"),
        (b'S', "a sparse file"),
        (b'Z', "of the unknown type 'Z'"),
    ] {
        check(|draft| draft.members[0].kind = kind, &format!("at byte 0: a member is {what}"));
    }
}

#[test]
fn containers_that_have_two_readings_are_refused() {
    check_bytes(|bytes| bytes.push(1), "bytes behind the end");
    check_bytes(|bytes| bytes.extend_from_slice(&[0; 11 << 10]), "more zeros behind the end");
    check_bytes(|bytes| bytes.truncate(bytes.len() - 512), "without the blocks of zeros");
    check_bytes(|bytes| bytes.truncate(bytes.len() - 1024), "without the blocks of zeros");
    check_bytes(|bytes| bytes.truncate(SECOND + 600), "in the middle of a member");
    check_bytes(|bytes| bytes.truncate(SECOND + 100), "without the blocks of zeros");
    check_bytes(Vec::clear, "without the blocks of zeros");
    check_bytes(|bytes| bytes[3] ^= 1, "at byte 0: the checksum of a header is wrong");
    check_bytes(|bytes| bytes[257] = 0, "there is no header of a ustar archive");
    check_bytes(|bytes| with_header(bytes, 0, |header| header[60] = b'x'), "bytes behind the name");
    check_bytes(|bytes| with_header(bytes, 0, |header| header[124] = b'-'), "no number");
    let huge = |header: &mut [u8]| header[124..136].copy_from_slice(b"77777777777\0");
    check_bytes(|bytes| with_header(bytes, SECOND, huge), "and 16777216 are allowed");
    check_bytes(|bytes| with_header(bytes, 0, huge), "it has 8589934591 bytes, and 0 are allowed");
    let padding = |bytes: &mut Vec<u8>| {
        let last = bytes.len() - 1024 - 1;
        bytes[last] = 1;
    };
    check_bytes(padding, "bytes in the padding behind a member");
}

#[test]
fn an_image_whose_size_lies_is_cut_short_and_not_waited_for() {
    let draft = sound();
    let image_at = 3 * 512 + draft.members[1].bytes.len().next_multiple_of(512) - 512;
    let mut bytes = draft.bytes();
    with_header(&mut bytes, image_at, |header| header[124..136].copy_from_slice(b"77777777777\0"));
    assert!(refusal(&bytes).contains("the archive ends in the middle of a member"));
}

#[test]
fn long_names_and_large_sizes_of_gnu_are_read() {
    let mut draft = sound();
    let long = format!("{}-1.0-2", "hello".repeat(30));
    for member in &mut draft.members {
        member.name = member.name.replace(BASENAME, &long);
    }
    let mut bytes = Vec::new();
    for member in &draft.members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_path("././@LongLink").unwrap();
        header.set_size(member.name.len() as u64 + 1);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(member.name.as_bytes());
        bytes.resize((bytes.len() + 1).next_multiple_of(512), 0);
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..100].copy_from_slice(&member.name.as_bytes()[..100]);
        let size = (member.bytes.len() as u64).to_be_bytes();
        header.as_mut_bytes()[124..128].copy_from_slice(&[0x80, 0, 0, 0]);
        header.as_mut_bytes()[128..136].copy_from_slice(&size);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&member.bytes);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    assert_eq!(gpkg::read(&bytes[..]).unwrap().basename, Some(long));
}

/// A Manifest that knows of one more member.
fn with_signature(text: &str) -> String {
    let line = text.lines().nth(2).unwrap().replace("image.tar", "image.tar.sig");
    format!("{text}{line}\n")
}

#[test]
fn manifests_that_do_not_fit_are_refused() {
    let text = |change: fn(&str) -> String| {
        move |draft: &mut Draft| {
            let text = String::from_utf8(draft.manifest().clone()).unwrap();
            *draft.manifest() = change(&text).into_bytes();
        }
    };
    check(|draft| draft.members[1].bytes[600] ^= 1, "metadata.tar has another SHA512 than its Manifest says");
    check(|draft| draft.members[2].bytes.push(0), "image.tar has another size than its Manifest says");
    let blake2b = |text: &str| {
        let end = text.rfind(|last: char| last != '\n').unwrap();
        let other = if text.ends_with("0\n") { "1" } else { "0" };
        format!("{}{other}\n", &text[..end])
    };
    check(text(blake2b), "image.tar has another BLAKE2B than its Manifest says");
    check(text(|text| text.split_once('\n').unwrap().1.to_owned()), "does not know it");
    check(text(|text| format!("{text}{}", text.replace("image.tar", "image.tar.sig"))), "named before");
    check(text(with_signature), "line 4 of the Manifest: there is no member");
    check(text(|text| text.trim_end().to_owned()), "line 3 of the Manifest: it does not end with a newline");
    check(text(|text| text.replace("DATA image", "DIST image")), "line 3 of the Manifest: it does not begin");
    check(text(|text| text.replace("DATA image", "DATA  image")), "there is no name of a member");
    check(
        text(|text| text.replace("gpkg-1 0", "gpkg-1 00")),
        "line 1 of the Manifest: the size is no number",
    );
    check(text(|text| text.replace("gpkg-1 0", "gpkg-1 -0")), "the size is no number");
    check(text(|text| text.replace("SHA512", "SHA256")), "the digest SHA512 is missing");
    check(text(|text| text.replace(" BLAKE2B", " WHIRLPOOL")), "the digest BLAKE2B is missing");
    check(text(|text| text.replace("SHA512 cf", "SHA512 CF")), "the digest SHA512 is none");
    check(text(|text| text.replace(" BLAKE2B", " SHA512")), "line 1 of the Manifest: ");
    check(text(|text| text.replacen('\n', " MD5\n", 1)), "an algorithm without a digest");
    check(text(|text| format!("\n{text}")), "line 1 of the Manifest: it does not begin with DATA");
    check(text(|text| format!("{text}\u{1b}")), "line 4 of the Manifest: it does not end with a newline");
    check(|draft| draft.manifest().push(0xff), "it is no UTF-8");
    check(|draft| *draft.manifest() = vec![b'D'; 70_000], "it has 70000 bytes, and 65536 are allowed");
}

#[test]
fn packages_that_are_signed_in_part_are_refused() {
    const ARMOR: &str = "-----BEGIN PGP SIGNATURE-----\n\niHUE\n-----END PGP SIGNATURE-----\n";
    let sign = |names: &'static [&'static str], is_manifest_signed: bool| {
        move |draft: &mut Draft| {
            for name in names {
                let name = format!("{BASENAME}/{name}");
                let after = name.strip_suffix(".sig").unwrap();
                let at = draft.members.iter().position(|member| member.name == after).unwrap();
                draft.members.insert(at + 1, member(&name, ARMOR.into()));
            }
            draft.seal();
            if is_manifest_signed {
                let text = String::from_utf8(draft.manifest().clone()).unwrap();
                let begin = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n";
                *draft.manifest() = format!("{begin}{text}{ARMOR}").into_bytes();
            }
        }
    };
    let mut whole = sound();
    sign(&["metadata.tar.sig", "image.tar.sig"], true)(&mut whole);
    assert_eq!(gpkg::read(&whole.bytes()[..]).unwrap().members.len(), 5);
    check(sign(&["metadata.tar.sig", "image.tar.sig"], false), "the signature of the Manifest is missing");
    check(sign(&["image.tar.sig"], true), "the signature of the metadata is missing");
    check(sign(&["metadata.tar.sig"], true), "the signature of the image is missing");
    check(sign(&[], true), "the signature of the metadata is missing");
    let binary = |draft: &mut Draft| {
        draft.members.insert(2, member("hello-1.0-2/metadata.tar.sig", vec![0x88, 0x75, 4]));
    };
    check_sealed(binary, "metadata.tar.sig: it is no armored signature");
    let cut = |draft: &mut Draft| {
        sign(&["metadata.tar.sig", "image.tar.sig"], true)(draft);
        let len = draft.manifest().len();
        draft.manifest().truncate(len - 10);
    };
    check(cut, "the signature is cut short");
}

#[test]
fn metadata_that_cannot_be_used_are_refused() {
    let of = |archive: &[u8]| refusal(&Draft::of(Codec::Zstd, archive, &image_archive()).bytes());
    let with = |key: &str, value: &[u8]| {
        let values = [metadata(), vec![(key.to_owned(), value.to_vec())]].concat();
        of(&metadata_archive(&values))
    };
    let names = |name: &str| of(&archive(&[member(name, b"1".to_vec())], &[]));
    let check = |found: String, expected: &str| assert!(found.contains(expected), "{found} not {expected}");
    check(with("PF", b"other-1"), "the key PF comes twice");
    check(names("PF"), "\"PF\" is not below metadata/");
    check(names("metadata/a/b"), "\"a/b\" is no name of a key");
    check(names("metadata/.a"), "\".a\" is no name of a key");
    check(names("metadata/a\u{1b}"), "is no name of a key");
    let mut link = member("metadata/PF", Vec::new());
    link.kind = b'2';
    check(of(&archive(&[link], &[])), "the metadata: byte 0: a member is a symbolic link");
    check(of(&archive(&[], b"x")), "bytes behind the end");
    check(with("CONTENTS", &vec![0; 33 << 20]), "decompresses to more than");
    let many: Vec<_> = (0..257).map(|number| (format!("K{number}"), Vec::new())).collect();
    check(of(&metadata_archive(&many)), "there are more than 256 keys");
    let mut damaged = Draft::sound(Codec::Zstd);
    damaged.members[1].bytes.truncate(20);
    damaged.seal();
    check(refusal(&damaged.bytes()), "decompressing the metadata: it is no sound stream of zstd");
}

#[test]
fn metadata_that_no_index_can_hold_are_refused() {
    let path = TreePath::new(*b"app-test/hello/hello-1.0-2.gpkg.tar").unwrap();
    let of = |key: &str, value: &str| {
        let mut values = metadata();
        values.retain(|(known, _)| known != key);
        values.push((key.to_owned(), value.as_bytes().to_vec()));
        let draft = Draft::of(Codec::Zstd, &metadata_archive(&values), &image_archive());
        let package = gpkg::read(&draft.bytes()[..]).unwrap();
        stanza(&package, &path, 1)
    };
    let check = |key: &str, value: &str, expected: &str| {
        let error = of(key, value).unwrap_err();
        assert!(error.to_string().contains(expected), "{error} instead of {expected}");
        assert!(!error.hint().is_empty());
    };
    check("PF", "", "does not say what its PF is");
    check("CATEGORY", "\n", "does not say what its CATEGORY is");
    check("SLOT", "", "does not say what its SLOT is");
    check("SLOT", "-1", "SLOT is \"-1\", which is no slot");
    check("SLOT", "0/1/2", "which is no slot");
    check("PF", "hello", "which is no package and version");
    check("CATEGORY", "../app", "which is no package and version");
    check("BUILD_ID", "two", "BUILD_ID is \"two\", which is no number");
    check("BUILD_TIME", "-1", "BUILD_TIME is \"-1\", which is no number");
    check("DEPEND", "( a/b", "DEPEND: word 3: a group is not closed");
    check("RDEPEND", "hello", "RDEPEND: word 1: \"hello\" is no atom");
    check("LICENSE", "GPL-2 (", "LICENSE: word 3: a group is not closed");
    check("USE", "a\u{1b}b", "the value of USE holds a control character");
    check("USE", &"a".repeat(2 << 20), "the value is longer than 1 MiB");
    assert_eq!(of("KEYWORDS", " amd64\n\t~x86 ").unwrap().get("KEYWORDS"), Some("amd64 ~x86"));
    let package = gpkg::read(&sound().bytes()[..]).unwrap();
    let other = TreePath::new(*b"hello-1.0.tbz2").unwrap();
    let error = stanza(&package, &other, 1).unwrap_err().to_string();
    assert!(error.contains("PATH is \"hello-1.0.tbz2\", which is not the name of a GPKG"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_no_malformed_package() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is broken"))
        }
    }
    assert!(matches!(gpkg::read(Broken), Err(PackageError::Read(_))));
}
