//! Writes the seeds of the fuzz targets into `fuzz/seeds/`: golden files, and small things of every kind.
//!
//! Each seed is one that its target accepts, which is checked here, so that a change of a format that leaves the seeds
//! behind is noticed when they are written again.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use smart_sync_fuzz::trust::WORLD;
use smart_sync_fuzz::{TARGETS, Verdict, host};
use smart_sync_store::codec::{put_number, put_prefixed};
use smart_sync_store::content::name_content;
use smart_sync_store::id::TreeId;
use smart_sync_store::id::{ContentId, ObjectId, PackId};
use smart_sync_store::manifest::{Attributes, Edit, Entry, Fidelity, GitMode, Node, TreePath, put_edits};
use smart_sync_store::manifest::{FileTime, ManifestSummary, SystemMetadata};
use smart_sync_store::object::ObjectKey;
use smart_sync_store::pack::{Codec, PackIndex, PackWriter};
use smart_sync_store::recipe::Plain;
use smart_sync_store::unpack::{InMemory, Limits, decode_views};
use smart_sync_sync::apply::Version;
use smart_sync_sync::apply::stat_cache::StatCache;
use smart_sync_sync::apply::step::Steps;
use smart_sync_sync::apply::tree_dir::{RootLink, TreeDir};
use smart_sync_sync::apply::versions::{Kept, VersionName};
use smart_sync_sync::bundle::frames::FrameWriter;
use smart_sync_sync::bundle::head::{Head, HeadChange, HeadEdit};
use smart_sync_sync::evidence::Evidence;
use smart_sync_sync::key::{SidecarDigests, minisig, sshsig};
use smart_sync_sync::kinds::binpkgs::{codec, gpkg};
use smart_sync_sync::log::tile::put_leaf;
use smart_sync_sync::note::Note;
use smart_sync_sync::record::NoteRecord as _;
use smart_sync_sync::source::Known;
use smart_sync_sync::source::cache::{ContentCache, FileStat};
use smart_sync_sync::testing::{self, after};
use smart_sync_sync::wire::delta::Delta;
use smart_sync_sync::wire::fetch_map::{
    ContentParts, FetchMap, FrameChunk, FrameRef, PackRef, RebuiltContent,
};
use smart_sync_sync::wire::locate::{self, Wanted};
use smart_sync_sync::wire::submission::{Sidecar, Submission};

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let mut seeds = Seeds { written: 0, folder };
    store(&mut seeds);
    records(&mut seeds);
    trust(&mut seeds);
    wire(&mut seeds);
    bundles(&mut seeds);
    host(&mut seeds);
    state(&mut seeds);
    binpkgs(&mut seeds);
    openpgp(&mut seeds);
    mirrored(&mut seeds);
    for (target, _) in TARGETS {
        assert!(seeds.folder.join(target).is_dir(), "{target} has no seed");
    }
    println!("{} seeds in {}", seeds.written, seeds.folder.display());
}

/// What GnuPG has made.
fn openpgp(seeds: &mut Seeds) {
    for name in ["ring.asc", "content.sig", "text.asc"] {
        seeds.put("openpgp", name.split('.').next().unwrap_or(name), &sync_golden(&format!("openpgp/{name}")));
    }
}

/// What mirrors of others say.
fn mirrored(seeds: &mut Seeds) {
    let stage = "stage3-amd64-openrc-20261129T170312Z.tar.xz";
    let latest = format!("# Latest as of today\n# ts=1795982400\n20261129T170312Z/{stage} 496363884\n");
    seeds.put("stages_latest", "one", latest.as_bytes());
    let (long, short) = ("0a".repeat(64), "1b".repeat(32));
    let digests = format!("# BLAKE2B HASH\n{long}  {stage}\n# SHA512 HASH\n{long}  {stage}\n");
    seeds.put("stages_digests", "both", digests.as_bytes());
    seeds.put("stages_digests", "sha256", format!("{short}  {stage}\n").as_bytes());
    let layout = "[structure]\n0=content-hash SHA3_512 8\n1=filename-hash BLAKE2B 8\n";
    seeds.put("distfiles_layout", "by_name", layout.as_bytes());
    seeds.put("distfiles_layout", "by_content", b"[structure]\n0=content-hash SHA512 8:8:8\n");
    let mut archive = vec![0];
    let mut builder = tar::Builder::new(&mut archive);
    for (path, content) in [("gentoo/a", &b"1"[..]), ("gentoo/metadata/timestamp.x", b"1796000000 Mon\n")] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content).expect("memory can be written to");
    }
    builder.finish().expect("memory can be written to");
    drop(builder);
    seeds.put("snapshot_archive", "plain", &archive);
}

/// Packages and an index that Portage has made.
fn binpkgs(seeds: &mut Seeds) {
    let packages = "binpkgs/app-test/hello";
    for (name, file) in [("unsigned", "hello-1.0-r1-2"), ("signed", "hello-1.0-r1-9")] {
        let package = sync_golden(&format!("{packages}/{file}.gpkg.tar"));
        seeds.put("binpkg_gpkg", name, &package);
    }
    let old = sync_golden(&format!("{packages}/hello-1.0-r1-8.xpak"));
    seeds.put("binpkg_xpak", "bzip2", &old);
    let image = gpkg_image(&sync_golden(&format!("{packages}/hello-1.0-r1-2.gpkg.tar")));
    seeds.put("binpkg_image", "zstd", &[&[smart_sync_fuzz::binpkgs::ZSTD], &image[..]].concat());
    let plain = codec::Codec::Zstd.decode(&image, 1 << 20).expect("Portage has compressed it");
    seeds.put("binpkg_image", "plain", &[&[0], &plain[..]].concat());
    seeds.put("binpkg_index", "portage", &sync_golden("binpkgs/Packages"));
    let dependencies =
        "\x03nls? ( >=x/a-1.2:0/3=[nls?,ssl=,-doc(-)] ) || ( x/b !a? ( x/c || ( x/d !!<x/e-2_p1 ) ) )";
    seeds.put("binpkg_dependencies", "all", dependencies.as_bytes());
    for (name, text) in [
        ("cpv", "x11-libs/gtk+-3.24.41-r1"),
        ("atom", "~x/a-1_rc2:0=[b(+)?]"),
        ("version", "1.01b_alpha1-r2"),
    ] {
        seeds.put("binpkg_names", name, text.as_bytes());
    }
}

/// The compressed image of a GPKG.
fn gpkg_image(package: &[u8]) -> Vec<u8> {
    let range = gpkg::read(package).expect("Portage has made it").image.range;
    let place = |offset: u64| usize::try_from(offset).expect("the package is small");
    package[place(range.start)..place(range.end)].to_vec()
}

/// A bundle out of its frames, its head alone, and frames.
fn bundles(seeds: &mut Seeds) {
    let stream = smart_sync_fuzz::bundle::stream();
    seeds.put("bundle", "step", &stream);
    let mut framed = Vec::new();
    let mut writer = FrameWriter::new(&mut framed).expect("memory can be written to");
    writer.write_all(&stream).and_then(|()| writer.finish()).expect("memory can be written to");
    seeds.put("bundle_frames", "step", &framed);
    let head = Head { fidelity: Fidelity::Git, edits: Vec::new(), items: Vec::new(), batches: Vec::new() };
    seeds.put("bundle_head", "nothing", &head.encode());
    let removed = HeadEdit { at: 3, change: HeadChange::Remove { count: 2 } };
    seeds.put("bundle_head", "removed", &Head { edits: vec![removed], ..head }.encode());
}

struct Seeds {
    folder: std::path::PathBuf,
    written: usize,
}

impl Seeds {
    /// Writes a seed, once its target has accepted it.
    fn put(&mut self, target: &str, name: &str, bytes: &[u8]) {
        let (_, run) = TARGETS.iter().find(|(known, _)| *known == target).expect("a target of that name");
        assert_eq!(run(bytes), Verdict::Accepted, "{target} refuses its seed {name}");
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder).expect("the folder can be made");
        fs::write(folder.join(name), bytes).expect("the seed can be written");
        self.written += 1;
    }
}

fn golden(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn store_golden(name: &str) -> Vec<u8> {
    golden(&format!("store/tests/golden/{name}"))
}

fn sync_golden(name: &str) -> Vec<u8> {
    golden(&format!("sync/tests/golden/{name}"))
}

fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).expect("the path is sound")
}

fn file(text: &str) -> Entry {
    Entry {
        path: path(text),
        node: Node::File(name_content(text.as_bytes())),
        attributes: Attributes::Git(GitMode::FILE),
    }
}

fn directory(text: &str) -> Entry {
    let metadata = SystemMetadata {
        mode: 0o755,
        uid: 0,
        gid: 0,
        user: (*b"root").into(),
        group: (*b"root").into(),
        modified: FileTime { seconds: 1, nanoseconds: 2 },
        xattrs: Vec::new(),
        is_sparse: false,
    };
    Entry {
        path: path(text),
        node: Node::Directory,
        attributes: Attributes::System(Some(Box::new(metadata))),
    }
}

fn git_edits() -> Vec<Edit> {
    vec![Edit::Put(file("a/b")), Edit::Remove(path("a/c")), Edit::Put(file("d"))]
}

fn store(seeds: &mut Seeds) {
    for name in ["git-empty", "git-level-1", "git", "system"] {
        seeds.put("manifest_page", name, &store_golden(&format!("manifest-{name}.page")));
    }
    let mut edits = vec![0];
    put_edits(&mut edits, Fidelity::Git, &git_edits());
    seeds.put("edits", "git", &edits);
    let mut edits = vec![1];
    put_edits(&mut edits, Fidelity::System, &[Edit::Put(directory("a")), Edit::Remove(path("b"))]);
    seeds.put("edits", "system", &edits);
    let tree = [&b"100644 a\0"[..], &[7; 20], b"40000 b\0", &[8; 20], b"160000 c\0", &[9; 20]].concat();
    seeds.put("git_tree", "three", &tree);
    seeds.put("recipe", "golden", &store_golden("recipe.bin"));
    seeds.put("recipe", "rebuilt", &store_golden("recipe-rebuilt.bin"));
    seeds.put("recipe_page", "golden", &store_golden("recipe-page.bin"));
    // A page of three chunks, and above it one that names it twice.
    seeds.put("recipe_walk", "two_levels", &[0, 3, 0, 32, 0, 48, 0, 16, 1, 2, 0, 0, 0, 0]);
    for name in ["pack", "pack-raw"] {
        pack(seeds, name, &store_golden(&format!("{name}.bin")));
    }
    let mut writer = PackWriter::new(3);
    for text in ["a small file", "another one, and a little longer than the first"] {
        let id = ObjectId::of(text.as_bytes());
        writer.add(ObjectKey::chunk(id), text.as_bytes()).expect("there is room");
    }
    pack(seeds, "texts", &writer.finish().expect("there are objects").1);
    let text = b"a text that repeats, repeats, repeats, repeats, repeats itself".repeat(4);
    unpack(seeds);
    seeds.put("frame", "raw", &[&[0][..], &248u32.to_le_bytes(), &text].concat());
}

/// An artifact of each method, its program, and the program with its frames and members.
fn unpack(seeds: &mut Seeds) {
    let names =
        ["zlib.gz", "miniz.gz", "zlib-rs.gz", "corrected.gz", "lzma2.xz", "x86.xz", "bzip2.bz2", "zstd.zst"];
    let tar = store_golden("unpack/tar.frames-and-program");
    let program = tar.windows(4).position(|bytes| bytes == b"ssup").expect("there is a program");
    seeds.put("unpack_program", "tar", &tar[program..]);
    for name in names {
        let artifact = store_golden(&format!("unpack/{name}"));
        let program = store_golden(&format!("unpack/{name}.program"));
        if name != "lzma2.xz" {
            seeds.put("unpack_artifact", name, &artifact);
        }
        seeds.put("unpack_program", name, &program);
        let (mut frames, mut members) = (Vec::new(), Vec::new());
        let (size, limits) = (artifact.len() as u64, Limits::default());
        decode_views(&mut Cursor::new(&artifact), size, &limits, &mut InMemory, &mut frames, &mut members)
            .expect("memory does not fail");
        let mut parts = Vec::new();
        put_prefixed(&mut parts, &program);
        put_prefixed(&mut parts, &frames);
        parts.extend(members);
        // Those with corrections or with a dictionary of 8 MiB are over the limits of the target.
        if !["lzma2.xz", "corrected.gz"].contains(&name) {
            seeds.put("unpack_rebuild", name, &parts);
        }
    }
}

/// A pack without its ends, its index alone, and the first of its frames.
fn pack(seeds: &mut Seeds, name: &str, pack: &[u8]) {
    const TRAILER: usize = 44;
    let (body, trailer) = pack.split_at(pack.len() - TRAILER);
    let index_len = u32::from_le_bytes(*trailer.first_chunk().expect("four bytes"));
    let (frames, index) = body[8..].split_at(body.len() - 8 - index_len as usize);
    let short = u16::try_from(index_len).expect("the index is short");
    seeds.put("pack", name, &[frames, index, &short.to_le_bytes()].concat());
    let frames_len = u32::try_from(frames.len()).expect("the pack is short");
    seeds.put("pack_index", name, &[&frames_len.to_le_bytes()[..], index].concat());
    let parsed = PackIndex::of_pack(pack).expect("a pack that is sound");
    let first = &parsed.frames()[0];
    let stored = &frames[..first.stored as usize];
    seeds.put("frame", name, &[&[first.codec.code()][..], &first.raw.to_le_bytes(), stored].concat());
}

fn records(seeds: &mut Seeds) {
    for name in ["publication", "root", "withdrawal"] {
        seeds.put("note", name, &sync_golden(&format!("{name}.note")));
    }
    let world = &*WORLD;
    seeds.put("note", "checkpoint", &world.realm.checkpoint(after(200)));
    for (target, name) in [("root", "root"), ("publication", "publication"), ("publication", "withdrawal")] {
        let note = Note::parse(&sync_golden(&format!("{name}.note"))).expect("a golden note");
        seeds.put(target, name, note.text().as_bytes());
    }
    seeds.put("root", "first", testing::root().to_text().as_bytes());
    seeds.put("sealed", "golden", &sync_golden("sealed.txt"));
    seeds.put("heads", "golden", &sync_golden("heads.txt"));
    seeds.put("checkpoint", "realm", world.realm.tree().to_text().as_bytes());
    for (name, head) in ["open", "sealed"].into_iter().zip([0, world.realm.table().heads().len() - 1]) {
        seeds.put("head_line", name, world.realm.table().heads()[head].to_line().as_bytes());
    }
    seeds.put("vkey", "signer", testing::vkey("log").to_string().as_bytes());
    seeds.put("vkey", "cosigner", testing::cosigner("clock").to_string().as_bytes());
    let hash = format!("sha256:{}", "0123456789abcdef".repeat(4));
    for (name, text) in [
        ("origin", "lab.example.org"),
        ("channel", "repos/gtk+3"),
        ("pattern", "repos/*"),
        ("branch", "branch:a/b@2026-11-01T08:00:00+01:00"),
        ("commit", "commit:0123456789abcdef0123456789abcdef01234567"),
        ("record", "tag v2.1"),
        ("date", "main@2026-11-01"),
        ("segment", "repos%2Fgtk%2B3"),
        ("hash", &hash),
    ] {
        // What is only a query is no name, but a good beginning all the same.
        if name == "branch" || name == "date" || name == "segment" {
            seeds.put(
                "names",
                name,
                text.replace(['@', '%'], "/").split(':').next().unwrap_or(text).as_bytes(),
            );
        } else {
            seeds.put("names", name, text.as_bytes());
        }
    }
    let digests = SidecarDigests::of(b"what is signed");
    let secret = testing::secret("publish-repos");
    let sidecar = minisig::sign(&secret, &digests, "a comment").expect("a key in memory signs");
    seeds.put("sidecar", "minisig", sidecar.as_bytes());
    let sidecar = sshsig::sign(&secret, &digests).expect("a key in memory signs");
    seeds.put("sidecar", "sshsig", sidecar.as_bytes());
}

fn trust(seeds: &mut Seeds) {
    for name in ["absent", "before", "dated", "sealed-absent", "sealed", "unchanged", "update"] {
        seeds.put("evidence", name, &sync_golden(&format!("evidence-{name}.bin")));
    }
    let world = &*WORLD;
    for (question, name) in [(0, "main"), (1, "tag"), (2, "private"), (4, "dated")] {
        for (state, known) in world.states.iter().zip(["pinned", "seen"]) {
            let base = state.size();
            let evidence = world.realm.evidence(&world.questions[usize::from(question)], base, after(200));
            let message = Evidence::Full(Box::new(evidence)).encode();
            let input = [&[question, u8::from(known == "seen")][..], &message].concat();
            seeds.put("trust_verify", &format!("{name}_{known}"), &input);
        }
    }
    seeds.put("trust_state", "pinned", world.states[0].to_text().as_bytes());
    seeds.put("trust_state", "seen", world.states[1].to_text().as_bytes());
    let claims = [[0; 9], [1, 9, 0, 0, 0, 0, 0, 0, 0]].concat();
    seeds.put("log_proof", "two_claims", &[&[2, 20, 0, 0, 0, 0, 0, 0, 0][..], &claims, &[3; 128]].concat());
}

fn wire(seeds: &mut Seeds) {
    let chunk = |number: u8, start| FrameChunk { id: ObjectId::from_bytes([number; 32]), start, length: 30 };
    let frame =
        |offset, chunks| FrameRef { pack: 0, offset, stored: 50, raw: 100, codec: Codec::Zstd, chunks };
    let map = FetchMap {
        packs: vec![PackRef { id: PackId::from_bytes([1; 32]), length: 1000 }],
        frames: vec![frame(8, vec![chunk(1, 0), chunk(2, 40)]), frame(100, vec![chunk(3, 10)])],
        contents: vec![
            ContentParts { id: ContentId::from_bytes([1; 32]), size: 30, chunks: vec![0] },
            ContentParts { id: ContentId::from_bytes([9; 32]), size: 90, chunks: vec![2, 1, 2] },
        ],
        rebuilt: vec![RebuiltContent {
            id: ContentId::from_bytes([5; 32]),
            size: 25,
            source: 0,
            plain: Plain { id: ContentId::from_bytes([1; 32]), program: 6, frames: 4, members: 20 },
        }],
    };
    seeds.put("fetch_map", "two_frames", &map.encode());
    let delta = Delta { fidelity: Fidelity::Git, edits: git_edits(), map: map.clone() };
    seeds.put("delta", "compressed", &delta.encode(3).expect("memory can be written to"));
    let mut plain = b"ssdl\x01\x00".to_vec();
    put_edits(&mut plain, Fidelity::Git, &git_edits());
    seeds.put("delta", "plain", &[plain, map.encode()].concat());
    let sidecars = vec![Sidecar { name: "SUMS.minisig".to_owned(), bytes: b"a signature".to_vec() }];
    let submission = Submission { note: sync_golden("publication.note"), sidecars };
    seeds.put("submission", "with_sidecar", &submission.encode());
    let wanted = [1u8, 2].map(|n| Wanted { id: ContentId::from_bytes([n; 32]), size: u64::from(n) << 40 });
    seeds.put("locate", "two", &locate::encode(&wanted));
    seeds.put("tile_path", "full", b"tile/1/x001/x234/067");
    seeds.put("tile_path", "entries", b"tile/entries/003.p/17");
    let mut bundle = vec![2];
    for leaf in [&b"one"[..], b"", b"three"] {
        put_leaf(&mut bundle, leaf).expect("the leaf is short");
    }
    seeds.put("entry_bundle", "three", &bundle);
}

fn host(seeds: &mut Seeds) {
    let version = Version::new(host::MANIFEST, b"main").expect("the label is short");
    let bytes = version.encode();
    seeds.put("applied_version", "main", &bytes[..bytes.len() - 32]);
    let former = [&b"ssap\0\0\0\x01"[..], host::MANIFEST.as_bytes(), b"\x04main"].concat();
    seeds.put("applied_version", "former", &former);
    let name = VersionName::parse(b"smart-sync-20260101T120000Z-07070707").expect("it is a name");
    let version = version.named(name);
    let bytes = version.encode();
    seeds.put("applied_version", "named", &bytes[..bytes.len() - 32]);
    let kept = Kept { number: 300, is_pinned: true, version }.encode();
    seeds.put("kept_version", "pinned", &kept[..kept.len() - 32]);
    let ledger = sync_golden("ledger.bin");
    seeds.put("ledger", "golden", &ledger[..ledger.len() - 32]);
    seeds.put(
        "exclusions",
        "usual",
        b"*.socket\nvar/\n/top\n**/target/\n[a-c]?\nx\\*\n\nvar/lib\na/x.socket\ntop",
    );
    let config = r#"
target = "/etc/nixos"
[realms."lab.example.org"]
servers = ["https://sync.lab.example.org", "http://[::1]:8080/mirror"]
token = "sst_0123456789"
max-age = "14d"
[targets."/etc/nixos"]
realm = "lab.example.org"
channel = "repos/nixos"
ref = "main@2026-11-01"
exclude-also = ["hardware-configuration.nix"]
fidelity = "git"
allow = ["set-id"]
[targets."/srv/repo"]
source = "github:owner/repo"
[network]
connections = 8
stall = "30s"
rate-limit-wait = "60s"
"#;
    seeds.put("client_config", "all", config.as_bytes());
    seeds.put("server_address", "server", b"https://sync.example.org/mirror");
    seeds.put("server_address", "github", b"github:owner/repo");
    seeds.put("server_address", "api", b"https://git.example.org/api/v3/repos/owner/repo");
    for (fidelity, name) in [(0, "git"), (1, "system")] {
        seeds.put("tar", name, &[&[fidelity][..], &archive()].concat());
    }
}

fn archive() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let mut put = |kind, name: &str, link: &str, body: &[u8]| {
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(body.len() as u64);
        if link.is_empty() {
            archive.append_data(&mut header, name, body).expect("memory can be written to");
        } else {
            archive.append_link(&mut header, name, link).expect("memory can be written to");
        }
    };
    let long = format!("deep/{}/file", "n".repeat(120));
    put(tar::EntryType::Directory, "empty/", "", b"");
    put(tar::EntryType::Regular, "file", "", b"a content");
    put(tar::EntryType::Symlink, "link", "file", b"");
    put(tar::EntryType::Link, "other", "file", b"");
    put(tar::EntryType::Regular, &long, "", b"b");
    archive.append_pax_extensions([("mtime", &b"-1.5"[..]), ("SCHILY.xattr.user.a", b"b")]).expect("memory");
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, "with_pax", &b"c"[..]).expect("memory can be written to");
    archive.into_inner().expect("memory can be written to")
}

/// The files of a run and of a publisher, as they are written.
fn state(seeds: &mut Seeds) {
    let place = tempfile::tempdir().expect("there is a place for files");
    let state = TreeDir::open(place.path(), RootLink::Refuse, Steps::default()).expect("the folder is there");
    let entries = [file("a"), file("b/c"), file("d")];
    let cache = StatCache::from_entries(host::MANIFEST, &entries).expect("the entries are in order");
    cache.save(&state).expect("the cache can be written");
    let bytes = fs::read(place.path().join("stat-cache")).expect("the cache was written");
    seeds.put("stat_cache", "three", &bytes[40..bytes.len() - 32]);

    let mut cache = ContentCache::default();
    let known = Known { content: name_content(b"a content"), is_lfs_pointer: false };
    cache.remember_blob(&known);
    let (time, now) = (FileTime { seconds: 10, nanoseconds: 5 }, FileTime { seconds: 1000, nanoseconds: 0 });
    let stat = FileStat { size: 9, modified: time, changed: time, inode: 9, device: (8, 1) };
    cache.remember_file(&path("a/b"), &stat, now, &known);
    let summary = ManifestSummary { id: host::MANIFEST, root_length: 100, entries: 3, bytes: 1 << 40 };
    cache.remember_tree(TreeId::from_bytes([7; 20]), &summary);
    let file = place.path().join("contents");
    cache.save(&file).expect("the cache can be written");
    let bytes = fs::read(file).expect("the cache was written");
    seeds.put("content_cache", "one_of_each", &bytes[..bytes.len() - 32]);

    seeds.put("journal", "flipped", &journal());
}

/// A run that had done all its steps, as the target takes it.
fn journal() -> Vec<u8> {
    let mut begun = vec![0];
    begun.extend_from_slice(host::MANIFEST.as_bytes());
    put_prefixed(&mut begun, b"main");
    put_prefixed(&mut begun, b"smart-sync-20260101T000000Z-07070707");
    put_prefixed(&mut begun, b"20260101T000000Z");
    let mut staged = vec![1];
    put_number(&mut staged, 3);
    // Delete `a` if it is as it was, place the first file that was made at `b`, set all metadata of `c`.
    put_prefixed(&mut staged, b"a");
    staged.extend_from_slice(&[1, 5, 6, 2, 3, 4, 5, 6]);
    put_prefixed(&mut staged, b"b");
    staged.extend_from_slice(&[0, 3, 1, 1]);
    put_prefixed(&mut staged, b"c");
    staged.extend_from_slice(&[0, 5, 0, 0x80, 0x02, 1, 1, 1, 1, 2, 3, 1, 1]);
    put_prefixed(&mut staged, b"user.comment");
    put_prefixed(&mut staged, b"value");
    let mut flipped = vec![3];
    put_prefixed(&mut flipped, b"261 17");
    let records = [begun, staged, vec![2], flipped];
    records
        .iter()
        .flat_map(|body| [&u16::try_from(body.len()).expect("it is short").to_le_bytes(), &body[..]].concat())
        .collect()
}
