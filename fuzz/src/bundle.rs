//! Bundles, against a small tree that is here.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use smart_sync_store::chunk::ChunkRef;
use smart_sync_store::content::{cut_content, name_content};
use smart_sync_store::id::ContentId;
use smart_sync_store::manifest::{Attributes, Content, Entry, Fidelity, GitMode, Node, TreePath};
use smart_sync_sync::bundle::apply::{Bundle, ContentTaker, Limits, NewContents, NoRebuilder, OldFiles};
use smart_sync_sync::bundle::encode::{ContentSource, Effort, arrange};
use smart_sync_sync::bundle::frames::{FrameWriter, whole_length};
use smart_sync_sync::bundle::head::Head;
use smart_sync_sync::bundle::plan::draft;
use smart_sync_sync::bundle::resolve::{Delivery, OldFile};

use crate::{Verdict, check_bytes};

/// What a bundle may make its reader hold here.
const LIMITS: Limits = Limits { head_bytes: 1 << 20, content_bytes: 1 << 20 };

/// Files in memory, by their paths.
pub struct Files(BTreeMap<&'static str, Vec<u8>>);

impl Files {
    /// The tree that bundles of this target begin at.
    pub fn old() -> Self {
        let text = |word: &str| word.repeat(400).into_bytes();
        Self([("a", text("one ")), ("b/c", text("two ")), ("d", b"three".to_vec())].into())
    }

    /// One that it may lead to.
    pub fn new() -> Self {
        let mut files = Self::old().0;
        files.remove("d");
        files.insert("e", b"three".to_vec());
        files.insert("f", b"a new file".to_vec());
        if let Some(text) = files.get_mut("a") {
            text.splice(100..110, *b"another text");
        }
        Self(files)
    }

    fn entries(&self) -> impl Iterator<Item = Result<Entry, Infallible>> {
        let entries = self.0.iter().map(|(path, bytes)| {
            let path = TreePath::new(path.as_bytes()).expect("the path keeps the rules");
            let node = Node::File(name_content(bytes));
            Ok(Entry { path, node, attributes: Attributes::Git(GitMode::FILE) })
        });
        entries.collect::<Vec<_>>().into_iter()
    }

    fn get(&self, id: ContentId, range: Range<u64>) -> io::Result<Vec<u8>> {
        let bytes =
            self.0.values().find(|bytes| ContentId::of(bytes) == id).ok_or(io::ErrorKind::NotFound)?;
        let place = |at| usize::try_from(at).map_err(io::Error::other);
        let range = place(range.start)?..place(range.end)?;
        Ok(bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
    }
}

impl Default for Files {
    fn default() -> Self {
        Self::old()
    }
}

impl OldFiles for Files {
    fn read(&self, file: &OldFile, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.get(file.content.id, range)
    }
}

impl ContentSource for Files {
    fn read(&self, content: &Content, range: Range<u64>) -> io::Result<Vec<u8>> {
        self.get(content.id, range)
    }

    fn chunks(&self, content: &Content) -> io::Result<Vec<ChunkRef>> {
        Ok(cut_content(&self.get(content.id, 0..content.size)?, |_, _| ()).chunks)
    }

    fn scratch(&self) -> io::Result<File> {
        tempfile::tempfile()
    }
}

/// The stream of a bundle between the two trees, out of its frames.
pub fn stream() -> Vec<u8> {
    let (old, new) = (Files::old(), Files::new());
    let mut both = Files::old();
    both.0.extend(
        Files::new().0.into_iter().map(|(path, bytes)| (if path == "a" { "new a" } else { path }, bytes)),
    );
    let Ok(draft) = draft(Fidelity::Git, old.entries(), new.entries());
    let mut bundle = Vec::new();
    let arranged = arrange(draft, &both, Effort::Quick).expect("contents are in memory");
    arranged.write(&both, Effort::Quick, &mut bundle).expect("memory can be written to");
    let mut stream = Vec::new();
    let mut reader = smart_sync_sync::bundle::frames::FrameReader::new(&bundle[..]);
    io::Read::read_to_end(&mut reader, &mut stream).expect("the bundle is whole");
    stream
}

/// Takes contents, and counts what it is given.
#[derive(Default)]
struct Sink {
    bytes: AtomicU64,
}

struct Taken<'a> {
    sink: &'a Sink,
    bytes: Vec<u8>,
    size: u64,
}

impl<'a> NewContents for &'a Sink {
    type Error = Infallible;
    type Writer = Taken<'a>;

    fn put(&self, item: &Delivery, bytes: &[u8]) -> Result<Content, Infallible> {
        assert_eq!(item.size, bytes.len() as u64);
        self.bytes.fetch_add(item.size, Ordering::Relaxed);
        Ok(name_content(bytes))
    }

    fn begin(&self, item: &Delivery) -> Result<Taken<'a>, Infallible> {
        Ok(Taken { sink: self, bytes: Vec::new(), size: item.size })
    }

    fn scratch(&self) -> io::Result<File> {
        tempfile::tempfile()
    }
}

impl ContentTaker for Taken<'_> {
    type Error = Infallible;

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.bytes.extend_from_slice(bytes);
        assert!(self.bytes.len() as u64 <= self.size, "a content is longer than it was said to be");
        self.sink.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn finish(self) -> Result<Content, Infallible> {
        assert_eq!(self.bytes.len() as u64, self.size, "a content is shorter than it was said to be");
        Ok(name_content(&self.bytes))
    }
}

/// A bundle's stream, which is put into frames first: it makes no more than it may.
pub fn bundle(bytes: &[u8]) -> Verdict {
    let mut framed = Vec::new();
    let mut writer = FrameWriter::new(&mut framed).expect("memory can be written to");
    writer.write_all(bytes).and_then(|()| writer.finish()).expect("memory can be written to");
    let (old, sink) = (Files::old(), Sink::default());
    let Ok(bundle) = Bundle::open::<_, _, Infallible>(&framed[..], old.entries(), LIMITS) else {
        return Verdict::Refused;
    };
    let carried = bundle.carry_out(&old, &&sink, &NoRebuilder, |_| ());
    assert!(sink.bytes.load(Ordering::Relaxed) <= LIMITS.content_bytes, "more was made than a bundle may");
    match carried {
        Ok((resolved, contents)) => {
            let _ = resolved.into_edits(&contents);
            Verdict::Accepted
        }
        Err(_) => Verdict::Refused,
    }
}

/// The head of a bundle.
pub fn bundle_head(bytes: &[u8]) -> Verdict {
    check_bytes(bytes, Head::decode, Head::encode)
}

/// The frames of a bundle, as much of which are whole as is read back.
pub fn bundle_frames(bytes: &[u8]) -> Verdict {
    let whole = whole_length(bytes).expect("memory can be read");
    let whole = usize::try_from(whole).expect("it is in memory");
    assert!(whole <= bytes.len());
    assert_eq!(whole_length(&bytes[..whole]).ok(), Some(whole as u64));
    if whole == bytes.len() && whole > 0 { Verdict::Accepted } else { Verdict::Refused }
}
