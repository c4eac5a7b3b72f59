//! What is published of a directory of release media, and what is refused.

use super::*;

const TEXT: &str = "amd64/autobuilds/latest-stage3-amd64-openrc.txt";

fn medium(stamp: &str) -> String {
    format!("{AREA}/{stamp}/{}", file(stamp))
}

fn current(stamp: &str) -> String {
    format!("{AREA}/current-{NAME}/{}", file(stamp))
}

#[test]
fn a_build_is_published_with_what_lies_beside_it_and_once_more_as_the_newest() {
    let mut scene = Scene::with_build(FIRST);
    scene.put(&format!("{AREA}/.keep.amd64.txt"), "is none of them");
    let prepared = scene.publish();
    let ends = ["", ".CONTENTS.gz", ".DIGESTS", ".asc", ".sha256"];
    let mut expected: Vec<String> = vec![TEXT.to_owned(), format!("{AREA}/current-{NAME}/latest-{NAME}.txt")];
    for end in ends {
        expected.push(format!("{}{end}", medium(FIRST.0)));
        expected.push(format!("{}{end}", current(FIRST.0)));
    }
    expected.sort();
    assert_eq!(scene.tree().paths(), expected);
    assert_eq!(scene.tree().get(&current(FIRST.0)), Some(&b"a stage"[..]));
    let text = fs::read(scene.path(TEXT)).unwrap();
    assert_eq!(scene.tree().get(TEXT), Some(&text[..]), "it is what upstream has signed");
    assert_eq!(prepared.content_time.seconds(), FIRST.1);
    let notes = [
        "the tree has 1 build of 1 medium",
        "1 file is left out: not release media, or without the medium that they lie beside",
    ];
    assert_eq!(prepared.notes[..2], notes);
    assert!(prepared.notes[2].starts_with("release media are signed by Golden <golden@example.org>, "));
    let signed: Vec<String> = prepared.signers.keys().map(ToString::to_string).collect();
    let beside = ["", ".DIGESTS", ".sha256"].map(|end| format!("{}{end}", medium(FIRST.0)));
    let texts = [format!("{AREA}/current-{NAME}/latest-{NAME}.txt"), TEXT.to_owned()];
    assert_eq!(signed, [&beside[..], &texts[..]].concat());
    let primary = scene.key.primary().to_string();
    assert!(prepared.signers.values().all(|signer| *signer == primary));
}

#[test]
fn a_later_build_takes_the_place_of_the_newest_and_the_earlier_one_stays() {
    let mut scene = Scene::with_build(FIRST);
    scene.publish();
    scene.directory = tempfile::tempdir().unwrap();
    scene.build(SECOND.0, b"another stage");
    scene.name(SECOND.0, SECOND.1, 13);
    let prepared = scene.publish();
    assert!(scene.tree().get(&medium(FIRST.0)).is_some() && scene.tree().get(&current(FIRST.0)).is_none());
    assert_eq!(scene.tree().get(&current(SECOND.0)), Some(&b"another stage"[..]));
    assert_eq!(prepared.content_time.seconds(), SECOND.1);
    // The directory holds the text alone the next time: what it names is published.
    let before = scene.tree().clone();
    fs::remove_dir_all(scene.path(&format!("{AREA}/{}", SECOND.0))).unwrap();
    scene.publish();
    assert_eq!(scene.tree(), &before);
    // One build of each is kept where that is said, and the directory alone where it is all there is to be.
    scene.newest = Some(1);
    let prepared = scene.publish();
    assert!(prepared.notes.iter().any(|note| note == "1 build is left out: 1 is kept of each"));
    assert!(scene.tree().get(&medium(FIRST.0)).is_none() && scene.tree().get(&medium(SECOND.0)).is_some());
    scene.absent = Absent::Goes;
    scene.check_refused(TEXT, "which is not there");
}

#[test]
fn the_build_that_a_text_names_stays_although_others_are_later() {
    let mut scene = Scene::with_build(FIRST);
    scene.build(SECOND.0, b"not announced yet");
    scene.newest = Some(1);
    scene.publish();
    assert!(scene.tree().get(&medium(FIRST.0)).is_some() && scene.tree().get(&medium(SECOND.0)).is_some());
    assert_eq!(scene.tree().get(&current(FIRST.0)), Some(&b"a stage"[..]));
}

#[test]
fn a_build_without_a_text_is_published_and_no_text_is_made() {
    let mut scene = Scene::new();
    scene.build(FIRST.0, b"a stage");
    let prepared = scene.publish();
    assert_eq!(scene.tree().get(&current(FIRST.0)), Some(&b"a stage"[..]));
    assert!(scene.tree().paths().iter().all(|path| !path.contains("latest-")));
    assert_eq!(prepared.content_time.seconds(), 1_795_366_992);
}

#[test]
fn what_lies_in_the_directory_of_the_newest_build_alone_is_a_build_as_well() {
    let mut scene = Scene::with_build(FIRST);
    let (from, to) = (format!("{AREA}/{}", FIRST.0), format!("{AREA}/current-{NAME}"));
    for entry in fs::read_dir(scene.path(&from)).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), scene.path(&to).join(entry.file_name())).unwrap();
    }
    scene.publish();
    assert!(scene.tree().get(&medium(FIRST.0)).is_some() && scene.tree().get(&current(FIRST.0)).is_some());
}

#[test]
fn what_is_not_what_its_texts_say_is_refused() {
    let check = |change: &dyn Fn(&Scene), path: &str, reason: &str| {
        let mut scene = Scene::with_build(FIRST);
        change(&scene);
        scene.check_refused(path, reason);
        // Digests hold without keys too.
        scene.ring = None;
        scene.check_refused(path, reason);
    };
    let stage = medium(FIRST.0);
    let (text, contents) = (format!("{stage}.DIGESTS"), format!("{stage}.CONTENTS.gz"));
    let sha256 = format!("{stage}.sha256");
    check(&|scene| scene.put(&stage, "b stage"), &stage, "it is not what the file with its digests says");
    check(&|scene| scene.put(&contents, "other"), &contents, "it is not what the file with its digests says");
    check(&|scene| scene.remove(&text), &stage, "there is no file with its digests beside it");
    let other = digests(&[("other.tar.xz", b"a stage")]);
    check(&|scene| scene.put_signed(&text, &other), &stage, "it is not what the file with its digests says");
    check(&|scene| scene.put_signed(&text, "# SHA512 HASH\n00  a\n"), &text, "line 2: a digest is malformed");
    check(&|scene| scene.put(&text, vec![b'#'; 300 << 10]), &text, "it is too long");
    let other = format!("{}  {}\n", "00".repeat(32), file(FIRST.0));
    check(&|scene| scene.put_signed(&sha256, &other), &stage, "what the file with its SHA-256 says");
    let signed = |scene: &Scene| fs::read_to_string(scene.path(&text)).unwrap();
    check(
        &|scene| scene.put(&text, format!("# SHA512 HASH\n{}", signed(scene))),
        &text,
        "something stands before the text that is signed",
    );

    let named = |line: &str| format!("# ts={}\n{line}\n", FIRST.1);
    let (file, stamp) = (file(FIRST.0), FIRST.0);
    let line = |line: String| move |scene: &Scene| scene.put_signed(TEXT, &named(&line));
    check(&line(format!("{stamp}/{file} 8")), TEXT, "has 8 bytes, which has 7");
    check(&line(format!("{file} 7")), TEXT, "which is not of its builds");
    check(&line(format!("{stamp}/other-{stamp}.iso 7")), TEXT, "which is not of its builds");
    check(&line("../../etc/passwd 7".to_owned()), TEXT, "it is no path of a medium and its size");
    let gone = format!("20261123/{NAME}-20261123.tar.xz");
    check(&line(format!("{gone} 7")), TEXT, &format!("it names {gone}, which is not there"));
    let early = latest(NOW + 7200, &format!("{stamp}/{file}"), 7);
    check(&|scene| scene.put_signed(TEXT, &early), TEXT, "of a time that is yet to come");
}

#[test]
fn what_no_key_of_the_ring_has_signed_is_refused_and_published_where_none_is_given() {
    let stage = medium(FIRST.0);
    let check = |change: &dyn Fn(&Scene), path: &str, reason: &str| {
        let mut scene = Scene::with_build(FIRST);
        change(&scene);
        scene.check_refused(path, reason);
        scene.ring = None;
        scene.publish();
        assert!(scene.tree().get(&stage).is_some());
    };
    let (signature, text) = (format!("{stage}.asc"), format!("{stage}.DIGESTS"));
    check(&|scene| scene.remove(&signature), &stage, "it is not signed");
    let of_other = |scene: &Scene| scene.key.sign_detached(&b"other bytes"[..], now()).unwrap();
    check(&|scene| scene.put(&signature, of_other(scene)), &stage, "what it signs was changed");
    let unsigned = |scene: &Scene| {
        digests(&[
            (&file(FIRST.0), b"a stage"),
            (
                &format!("{}.CONTENTS.gz", file(FIRST.0)),
                &fs::read(scene.path(&format!("{stage}.CONTENTS.gz"))).unwrap(),
            ),
        ])
    };
    check(&|scene| scene.put(&text, unsigned(scene)), &text, "it is not signed");
    let tampered = |scene: &Scene, path: &str, from: &str, to: &str| {
        let text = fs::read_to_string(scene.path(path)).unwrap();
        assert!(text.contains(from));
        scene.put(path, text.replacen(from, to, 1));
    };
    check(&|scene| tampered(scene, TEXT, "some day", "Sunday"), TEXT, "is wrong: what it signs was changed");
    let current = format!("{AREA}/current-{NAME}/latest-{NAME}.txt");
    check(&|scene| tampered(scene, &current, "some day", "Sunday"), &current, "is wrong");
}

#[test]
fn what_is_published_neither_changes_nor_goes_back() {
    let mut scene = Scene::with_build(SECOND);
    scene.publish();
    let tree = scene.tree().clone();
    scene.build(SECOND.0, b"b stage");
    scene.check_refused(&medium(SECOND.0), "a file of this name is published, and is another one");
    scene.build(SECOND.0, b"a stage");
    scene.build(FIRST.0, b"a stage");
    scene.name(FIRST.0, FIRST.1, 7);
    scene.check_refused(
        TEXT,
        "it is of 2026-11-23T02:13:20Z, and the one that is published is of 2026-11-30T",
    );
    // An earlier build is no harm where the text does not go back.
    scene.name(SECOND.0, SECOND.1, 7);
    scene.publish();
    assert!(tree.0.iter().all(|(path, bytes)| scene.tree().0.get(path) == Some(bytes)));
    assert!(scene.tree().get(&medium(FIRST.0)).is_some());
}

#[test]
fn a_text_about_everything_is_there_as_long_as_everything_is() {
    let mut scene = Scene::with_build(FIRST);
    let (overview, stamp) = (format!("{AREA}/latest-stage3.txt"), FIRST.0);
    let line = format!("{stamp}/{} 7", file(stamp));
    scene.put_signed(&overview, &format!("# ts=1\n{line}\n"));
    scene.publish();
    assert!(scene.tree().get(&overview).is_some());
    scene.put_signed(&overview, &format!("# ts=2\n{line}\n{stamp}/stage3-x32-openrc-{stamp}.tar.xz 7\n"));
    let prepared = scene.publish();
    assert!(scene.tree().get(&overview).is_none());
    let left_out = format!("{overview} is left out: it names {stamp}/stage3-x32-openrc");
    assert!(prepared.notes.iter().any(|note| note.starts_with(&left_out)), "{:?}", prepared.notes);
}

#[test]
fn a_text_of_the_newest_build_that_names_another_one_is_left_out() {
    let mut scene = Scene::with_build(FIRST);
    scene.build(SECOND.0, b"another stage");
    let text = latest(SECOND.1, &format!("{}/{}", SECOND.0, file(SECOND.0)), 13);
    scene.put_signed(TEXT, &text);
    let prepared = scene.publish();
    assert!(scene.tree().get(&format!("{AREA}/current-{NAME}/latest-{NAME}.txt")).is_none());
    let is_said = |note: &String| note.contains("which is not of the newest build");
    assert!(prepared.notes.iter().any(is_said), "{:?}", prepared.notes);
}

#[test]
fn keys_are_asked_each_time() {
    let mut scene = Scene::with_build(FIRST);
    scene.publish();
    let again = scene.publish();
    assert!(again.notes.iter().any(|note| note.starts_with("release media are signed by ")));
    scene.ring = Some(KeyRing::default());
    scene.check_refused(&medium(FIRST.0), "which no key ring has");
}
