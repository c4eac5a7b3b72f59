//! Following an upstream: a directory plays it.

use super::super::upstream::FollowStages;
use super::*;
use crate::kinds::follow::{Answer, Follow as _, Listed, MustBe, Offer, Question, Wanted};

/// What somebody wants.
#[derive(Default)]
struct Wish {
    architectures: Vec<String>,
    variants: Vec<String>,
    is_judged: bool,
}

impl Wish {
    fn of(architectures: &[&str], variants: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self { architectures: owned(architectures), variants: owned(variants), is_judged: true }
    }
}

/// Asks the directory of a scene what a look asks; which questions there were, and what came of it.
fn look(scene: &Scene, wish: &Wish) -> (Vec<String>, Result<Offer, String>) {
    let wanted = Wanted {
        architectures: &wish.architectures,
        variants: &wish.variants,
        newest: None,
        key_ring: scene.ring.as_ref().filter(|_| wish.is_judged),
        now: now(),
    };
    let mut asked = Vec::new();
    let mut look = match FollowStages.look(wanted) {
        Ok(look) => look,
        Err(reason) => return (asked, Err(reason)),
    };
    loop {
        let questions = look.questions();
        if questions.is_empty() {
            return (asked, look.offer());
        }
        for question in questions {
            let answered = match &question {
                Question::Listing { directory } => {
                    asked.push(format!("{directory}/"));
                    let listed = listed(&scene.path(directory));
                    let answer = listed.as_deref().map_or(Answer::Absent, Answer::Listing);
                    look.answer(&question, answer)
                }
                Question::Document { path, bytes_max } => {
                    asked.push(path.clone());
                    let bytes = fs::read(scene.path(path)).ok();
                    assert!(bytes.as_ref().is_none_or(|bytes| bytes.len() as u64 <= *bytes_max));
                    look.answer(&question, bytes.as_deref().map_or(Answer::Absent, Answer::Document))
                }
            };
            if let Err(reason) = answered {
                return (asked, Err(reason));
            }
        }
    }
}

fn listed(directory: &Path) -> Option<Vec<Listed>> {
    let entries = fs::read_dir(directory).ok()?;
    let listed = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let is_directory = entry.file_type().unwrap().is_dir();
        Listed { name: entry.file_name().into_string().unwrap(), is_directory, size: None }
    };
    Some(entries.map(listed).collect())
}

fn upstream() -> Scene {
    let scene = Scene::with_build(FIRST);
    scene.build(SECOND.0, b"another stage");
    scene.name(SECOND.0, SECOND.1, 13);
    scene
}

#[test]
fn the_build_that_a_text_names_is_offered_with_what_it_has_to_be() {
    let scene = upstream();
    for wish in [
        Wish::of(&["amd64"], &["openrc"]),
        Wish::of(&["amd64"], &["stage3-amd64-openrc"]),
        Wish::of(&["amd64"], &[]),
        Wish::of(&[], &[]),
        Wish::of(&[], &["openrc"]),
        Wish { is_judged: false, ..Wish::of(&["amd64"], &["openrc"]) },
    ] {
        let (_, offer) = look(&scene, &wish);
        let offer = offer.unwrap();
        let stage = format!("{AREA}/{}/{}", SECOND.0, file(SECOND.0));
        let mut paths =
            ["", ".CONTENTS.gz", ".DIGESTS", ".asc", ".sha256"].map(|end| format!("{stage}{end}")).to_vec();
        paths.push(format!("{AREA}/current-{NAME}/latest-{NAME}.txt"));
        paths.push(format!("{AREA}/latest-{NAME}.txt"));
        assert_eq!(offer.files.keys().map(ToString::to_string).collect::<Vec<_>>(), paths);
        assert!(offer.files.iter().all(|(path, offered)| path.to_string() == offered.path));
        let must_be = |path: &str| &offer.files[&TreePath::new(path.as_bytes()).unwrap()].must_be;
        let MustBe::This(expected) = must_be(&stage) else { panic!("its digests are known") };
        assert_eq!((expected.size, expected.sha512), (13, Sha512::digest(b"another stage").into()));
        assert_eq!(must_be(&paths[2]), &MustBe::Read(fs::read(scene.path(&paths[2])).unwrap().into()));
        assert_eq!(offer.marks, BTreeMap::from([("amd64/stage3-amd64-openrc".to_owned(), SECOND.1)]));

        // What comes of it can be published as it is.
        let mut brought = Scene::new();
        for offered in offer.files.values() {
            brought.put(&offered.path, fs::read(scene.path(&offered.path)).unwrap());
        }
        brought.publish();
    }
}

#[test]
fn as_little_is_asked_as_somebody_wants() {
    let scene = upstream();
    let (asked, _) = look(&scene, &Wish::of(&["amd64"], &["openrc"]));
    assert!(asked.iter().all(|path| !path.ends_with('/')), "{asked:?}");
    assert_eq!(asked.len(), 5, "{asked:?}");
    let (asked, _) = look(&scene, &Wish::of(&[], &[]));
    assert_eq!(asked[..2], ["/", "amd64/autobuilds/"]);
}

#[test]
fn what_upstream_has_not_or_has_not_signed_ends_the_look() {
    let check = |change: &dyn Fn(&Scene), wish: &Wish, reason: &str| {
        let scene = upstream();
        change(&scene);
        let said = look(&scene, wish).1.expect_err(reason);
        assert!(said.contains(reason), "{said}");
    };
    let wish = Wish::of(&["amd64"], &["openrc"]);
    let text = format!("{AREA}/latest-{NAME}.txt");
    let stage = format!("{AREA}/{}/{}", SECOND.0, file(SECOND.0));
    check(&|_| {}, &Wish::of(&["amd64"], &["openrc", "systemd"]), "no release media of \"systemd\"");
    check(&|_| {}, &Wish::of(&["arm64"], &[]), "no release media of \"arm64\"");
    check(&|_| {}, &Wish::of(&["../x"], &[]), "is no architecture or variant");
    check(
        &|scene| fs::remove_dir_all(scene.path("amd64")).unwrap(),
        &Wish::of(&[], &[]),
        "has no release media",
    );
    check(&|scene| scene.remove(&format!("{stage}.DIGESTS")), &wish, "has no digests or no signature");
    check(&|scene| scene.remove(&format!("{stage}.asc")), &wish, "has no digests or no signature");
    check(
        &|scene| scene.put(&text, latest(1, &format!("{}/{}", SECOND.0, file(SECOND.0)), 13)),
        &wish,
        &format!("{text}: it is not signed"),
    );
    let other = latest(1, "20261129T170312Z/../../../passwd", 13);
    check(&|scene| scene.put_signed(&text, &other), &wish, "line 3: it is no path of a medium");
    check(
        &|scene| scene.put_signed(&text, &latest(1, &file(SECOND.0), 13)),
        &wish,
        "which is not of its builds",
    );
    check(&|scene| scene.put(&format!("{stage}.DIGESTS"), "x"), &wish, "it is not signed");
    check(&|scene| scene.put(&format!("{stage}.asc"), "x"), &wish, "it is not signed");
}

#[test]
fn what_outlives_its_build_or_its_signature_is_passed_over_where_it_was_not_asked_for() {
    let scene = upstream();
    let dead = latest(9, "20200101/stage3-amd64-gone-20200101.tar.xz", 7);
    scene.put_signed(&format!("{AREA}/latest-stage3-amd64-gone.txt"), &dead);
    scene.put(&format!("{AREA}/latest-stage3-amd64-old.txt"), &dead);
    scene.put(&format!("{AREA}/current-{NAME}/latest-{NAME}.txt"), &dead);
    let (_, offer) = look(&scene, &Wish::of(&[], &[]));
    let offer = offer.unwrap();
    assert_eq!(offer.marks.len(), 1);
    let texts = offer.files.keys().map(ToString::to_string).filter(|path| path.contains("/latest-"));
    assert_eq!(texts.collect::<Vec<_>>(), [format!("{AREA}/latest-{NAME}.txt")]);
    for named in ["gone", "old"] {
        assert!(look(&scene, &Wish::of(&["amd64"], &[named])).1.is_err());
    }
}
