use proptest::prelude::*;

use super::*;
use crate::codec::put_prefixed;
use crate::id::{BlobId, CommitId, ContentId};
use crate::manifest::entry::{Attributes, DeviceKind, FileTime, GitMode, Node, SystemMetadata, Xattr};

/// Writes what was decoded again.
fn encode(page: &Page) -> Vec<u8> {
    let mut writer = PageWriter::new(page.fidelity, page.level);
    match &page.items {
        Items::Entries(entries) => entries.iter().for_each(|entry| writer.push_entry(entry).unwrap()),
        Items::Pages(pages) => pages.iter().for_each(|item| writer.push_page(item.clone()).unwrap()),
    }
    writer.finish().1
}

fn contents() -> impl Strategy<Value = Content> {
    (any::<u32>(), any::<[u8; 20]>(), any::<[u8; 32]>()).prop_map(|(size, blob, id)| Content {
        size: size.into(),
        blob: BlobId::from_bytes(blob),
        id: ContentId::from_bytes(id),
    })
}

fn git_nodes() -> impl Strategy<Value = (Node, Attributes)> {
    (contents(), 0..=GitMode::MAX, any::<bool>()).prop_map(|(content, bits, is_usual)| {
        let usual =
            [GitMode::FILE, GitMode::EXECUTABLE, GitMode::SYMLINK, GitMode::SUBMODULE, GitMode::DIRECTORY];
        let mode = if is_usual { usual[bits as usize % 5] } else { GitMode::new(bits).unwrap() };
        let node = if mode.is_file() {
            Node::File(content)
        } else if mode.is_symlink() {
            Node::Symlink(content)
        } else if mode.is_directory() {
            Node::Directory
        } else {
            Node::Submodule(CommitId::from_bytes(*content.blob.as_bytes()))
        };
        (node, Attributes::Git(mode))
    })
}

fn metadata() -> impl Strategy<Value = SystemMetadata> {
    let xattrs =
        proptest::collection::btree_map("[a-z.]{1,8}", proptest::collection::vec(any::<u8>(), 0..9), 0..4);
    (0..0o10_000u32, any::<(u32, u32, i64)>(), "[a-z]{0,8}", 0..1_000_000_000u32, xattrs).prop_map(
        |(mode, (uid, gid, seconds), user, nanoseconds, xattrs)| SystemMetadata {
            mode,
            uid,
            gid,
            user: user.as_bytes().into(),
            group: user.as_bytes().into(),
            modified: FileTime { seconds, nanoseconds },
            xattrs: xattrs
                .into_iter()
                .map(|(name, value)| Xattr { name: name.into_bytes().into(), value: value.into() })
                .collect(),
            is_sparse: false,
        },
    )
}

fn system_nodes() -> impl Strategy<Value = (Node, Attributes)> {
    (contents(), metadata(), 0..8u8, any::<u32>()).prop_map(|(content, mut metadata, kind, number)| {
        let node = match kind {
            0 | 1 => Node::File(content),
            2 => Node::Symlink(content),
            3 => Node::Directory,
            4 => Node::Device { kind: DeviceKind::Character, major: number, minor: 3 },
            5 => Node::Device { kind: DeviceKind::Block, major: 8, minor: number },
            6 => Node::Socket,
            _ => return (Node::Hardlink(TreePath::new(*b"!").unwrap()), Attributes::System(None)),
        };
        metadata.is_sparse = kind == 1;
        (node, Attributes::System(Some(Box::new(metadata))))
    })
}

/// The bytes of a page with up to eight entries, none of which ends it.
fn pages() -> impl Strategy<Value = Vec<u8>> {
    let names = || proptest::collection::btree_set("[a-c]{1,4}(/[a-c]{1,2})?", 1..8);
    let git =
        (names(), proptest::collection::vec(git_nodes(), 8)).prop_map(|items| write(Fidelity::Git, items));
    let system = (names(), proptest::collection::vec(system_nodes(), 8))
        .prop_map(|items| write(Fidelity::System, items));
    prop_oneof![git, system]
}

fn write(
    fidelity: Fidelity,
    (names, nodes): (std::collections::BTreeSet<String>, Vec<(Node, Attributes)>),
) -> Vec<u8> {
    let mut writer = PageWriter::new(fidelity, 0);
    let mut order = OrderChecker::part(fidelity);
    for (name, (node, attributes)) in names.into_iter().zip(nodes) {
        let entry = Entry { path: TreePath::new(name.as_bytes()).unwrap(), node, attributes };
        if order.push(&entry).is_ok() {
            writer.push_entry(&entry).unwrap();
        }
        if writer.is_closed() {
            break;
        }
    }
    writer.finish().1
}

proptest! {
    #[test]
    fn pages_come_back(bytes in pages()) {
        prop_assert_eq!(encode(&Page::decode(&bytes).unwrap()), bytes);
    }

    #[test]
    fn what_is_accepted_has_one_spelling(mut bytes in pages(), at: prop::sample::Index, value: u8, cut: prop::sample::Index) {
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(page) = Page::decode(&bytes) {
            prop_assert_eq!(encode(&page), &bytes[..]);
        }
        bytes.truncate(cut.index(bytes.len()));
        if let Ok(page) = Page::decode(&bytes) {
            prop_assert_eq!(encode(&page), bytes);
        }
    }

    #[test]
    fn random_bytes_do_no_harm(tail in proptest::collection::vec(any::<u8>(), 0..200), level in 0..3u8, fidelity in 0..3u8) {
        let bytes = [&b"ssmp\x01"[..], &[level, fidelity], &tail].concat();
        if let Ok(page) = Page::decode(&bytes) {
            prop_assert_eq!(encode(&page), bytes);
        }
    }
}

#[track_caller]
fn check_refused(body: &[u8], expected: &str) {
    let bytes = [&b"ssmp\x01"[..], body].concat();
    let error = Page::decode(&bytes).unwrap_err().to_string();
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

/// A `git` page of level 0 with submodules of these shared lengths and suffixes.
fn submodules(paths: &[(u8, &[u8])]) -> Vec<u8> {
    let mut body = vec![0, 0, u8::try_from(paths.len()).unwrap()];
    for (shared, suffix) in paths {
        body.push(*shared);
        put_prefixed(&mut body, suffix);
        body.push(3);
        body.extend_from_slice(&[1; 20]);
    }
    body
}

#[test]
fn hostile_pages_are_refused() {
    check_refused(&[16, 0, 0], "level is 16");
    check_refused(&[0, 2, 0], "unknown fidelity 2");
    check_refused(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], "number of items is");
    check_refused(&[1, 0, 0], "a page of pages is empty");
    check_refused(&[0, 0, 0, 0], "1 bytes follow the end");
    check_refused(&[0, 0, 0x80, 0x00], "not a minimal");
    check_refused(&submodules(&[(1, b"a")]), "shared length of a path is 1");
    check_refused(&submodules(&[(0, b"a"), (0, b"ab")]), "not shortened");
    check_refused(&submodules(&[(0, b"b"), (0, b"a")]), "not in its place");
    check_refused(&submodules(&[(0, b"a"), (1, b"")]), "not in its place");
    check_refused(&submodules(&[(0, b"a"), (1, b"/b")]), "lies below a");
    for path in [&b""[..], b"/a", b"a/", b"a//b", b"..", b"a/../b", b".", b"a\0", b".git", b"a/.GIT/x"] {
        check_refused(&submodules(&[(0, path)]), "is refused: ");
    }
    check_refused(&[0, 0, 1, 0, 1, b'a', 6], "unknown kind 6");
    check_refused(&[0, 0, 1, 0, 1, b'a', 5, 0xa4, 0x83, 0x02], "mode 100644 has a kind of its own");
    check_refused(&[0, 0, 1, 0, 1, b'a', 5, 0x80, 0x80, 0x10], "mode is 262144");
    check_refused(&[0, 1, 1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0], "the tree itself is not a directory");
    check_refused(&[0, 1, 1, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0xff, 0x7f], "number of extended attributes is");
    check_refused(&[0, 1, 1, 0, 0, 4, 0x80, 0x20, 0, 0, 0, 0, 0, 0, 0], "more than twelve bits");
    assert!(Page::decode(&vec![0; PAGE_BYTES_MAX + 1]).is_err());
}

#[test]
fn a_page_that_goes_on_past_its_end_is_refused() {
    let ends = |name: &str| blake3::hash(name.as_bytes()).as_bytes()[0].trailing_zeros() >= 6;
    let name = (0..10_000).map(|n| format!("a{n}")).find(|name| ends(name)).unwrap();
    assert!(
        Page::decode(&[&b"ssmp\x01"[..], &submodules(&[(0, name.as_bytes())])].concat()).unwrap().is_closed()
    );
    check_refused(&submodules(&[(0, name.as_bytes()), (0, b"b")]), "goes on past the item that ends it");
}
