//! Snapshots of an upstream that is followed: those of the newest days, one of each day.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use smart_sync_store::manifest::TreePath;

use super::name::SnapshotName;
use super::{BESIDE_BYTES_MAX, md5_of};
use crate::kinds::binpkgs::codec::Codec;
use crate::kinds::follow::{Answer, Follow, Listed, Look, MustBe, Offer, Offered, Question, Wanted};
use crate::openpgp::Signatures;

/// How many days are brought where that is not said.
const DAYS: usize = 7;
/// The most days.
const DAYS_MAX: usize = 1000;
/// The largest snapshot.
const ARCHIVE_BYTES_MAX: u64 = 4 << 30;
/// What the newest day is called.
const MARK: &str = "newest";

/// How snapshots are followed.
#[derive(Debug)]
pub(super) struct FollowSnapshots;

impl Follow for FollowSnapshots {
    fn look<'a>(&self, wanted: Wanted<'a>) -> Result<Box<dyn Look + 'a>, String> {
        if !wanted.architectures.is_empty() || !wanted.variants.is_empty() {
            return Err("snapshots of ebuild trees have no architectures and no variants".to_owned());
        }
        let days = wanted.newest.unwrap_or(DAYS).clamp(1, DAYS_MAX);
        Ok(Box::new(SnapshotsLook { days, state: State::Begun, found: BTreeMap::new() }))
    }
}

/// How far it is.
enum State {
    Begun,
    /// The directory is being read.
    Listing,
    /// What lies beside the snapshots is to be read.
    Listed,
    Done,
}

struct SnapshotsLook {
    days: usize,
    state: State,
    /// The snapshots of the newest days.
    found: BTreeMap<Date, Found>,
}

struct Found {
    name: SnapshotName,
    size: Option<u64>,
    signature: Option<Box<[u8]>>,
    digest: Option<Box<[u8]>>,
}

impl Found {
    fn beside(&self) -> [String; 2] {
        [self.name.signature(), self.name.digest()]
    }
}

/// The snapshot of each day that is the most useful: of the name that clients ask for first, and of the smaller form.
fn choose(listed: &[Listed], days: usize) -> BTreeMap<Date, Found> {
    let names: BTreeSet<&str> = listed.iter().map(|listed| listed.name.as_str()).collect();
    let rank = |name: &SnapshotName| (name.name.starts_with("gentoo-"), name.codec == Codec::Xz);
    let mut found: BTreeMap<Date, Found> = BTreeMap::new();
    for listed in listed.iter().filter(|listed| !listed.is_directory) {
        let Some(name) = SnapshotName::parse(&listed.name) else { continue };
        // What is not signed yet is still on its way to this upstream.
        if !names.contains(name.signature().as_str()) {
            continue;
        }
        let is_better = found.get(&name.date).is_none_or(|other| rank(&other.name) < rank(&name));
        if is_better {
            let new = Found { name, size: listed.size, signature: None, digest: None };
            found.insert(new.name.date, new);
        }
    }
    if let Some(oldest) = found.keys().rev().nth(days - 1).copied() {
        found.retain(|date, _| *date >= oldest);
    }
    found
}

impl Look for SnapshotsLook {
    fn questions(&mut self) -> Vec<Question> {
        match self.state {
            State::Begun => {
                self.state = State::Listing;
                vec![Question::Listing { directory: String::new() }]
            }
            State::Listed => {
                self.state = State::Done;
                let names = self.found.values().flat_map(Found::beside);
                names.map(|path| Question::Document { path, bytes_max: BESIDE_BYTES_MAX }).collect()
            }
            State::Listing | State::Done => Vec::new(),
        }
    }

    fn answer(&mut self, question: &Question, answer: Answer<'_>) -> Result<(), String> {
        match (question, answer) {
            (Question::Listing { .. }, Answer::Listing(listed)) => {
                self.found = choose(listed, self.days);
                self.state = State::Listed;
                Ok(())
            }
            (Question::Listing { .. }, _) => Err("upstream shows no directory".to_owned()),
            (Question::Document { path, .. }, Answer::Document(bytes)) => {
                let Some(found) = self.found.values_mut().find(|found| found.beside().contains(path)) else {
                    return Ok(());
                };
                if *path == found.name.signature() {
                    Signatures::detached(bytes).map_err(|error| format!("{path}: {error}"))?;
                    found.signature = Some(bytes.into());
                } else {
                    md5_of(bytes).ok_or_else(|| format!("{path}: it does not begin with a digest"))?;
                    found.digest = Some(bytes.into());
                }
                Ok(())
            }
            (Question::Document { .. }, _) => Ok(()),
        }
    }

    fn offer(self: Box<Self>) -> Result<Offer, String> {
        let mut offer = Offer::default();
        for (date, found) in self.found {
            let [signature, digest] = found.beside();
            // Without a signature, clients do not take it.
            let Some(bytes) = found.signature else { continue };
            let archive = found.size.map_or(MustBe::AtMost(ARCHIVE_BYTES_MAX), MustBe::Sized);
            put(&mut offer, found.name.name.clone(), archive)?;
            put(&mut offer, signature, MustBe::Read(bytes))?;
            if let Some(bytes) = found.digest {
                put(&mut offer, digest, MustBe::Read(bytes))?;
            }
            let day = i64::from(date.year()) * 10_000 + i64::from(date.month()) * 100 + i64::from(date.day());
            offer.marks.insert(MARK.to_owned(), u64::try_from(day).unwrap_or(0));
        }
        if offer.files.is_empty() { Err("upstream has no signed snapshots".to_owned()) } else { Ok(offer) }
    }
}

fn put(offer: &mut Offer, path: String, must_be: MustBe) -> Result<(), String> {
    let place = TreePath::new(path.as_bytes()).map_err(|error| format!("{path}: {error}"))?;
    offer.files.insert(place, Offered { path, must_be });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixTime;

    const SIGNATURE: &[u8] = include_bytes!("../../../tests/golden/openpgp/content.sig");

    fn wanted(newest: Option<usize>, architectures: &[String]) -> Wanted<'_> {
        Wanted { architectures, variants: &[], newest, key_ring: None, now: UnixTime::EPOCH }
    }

    /// Looks at a directory with these names, of which those in `absent` are gone when they are asked for.
    fn look(
        names: &[&str],
        newest: Option<usize>,
        absent: &[&str],
    ) -> (Vec<Question>, Result<Offer, String>) {
        let listed = |name: &&str| Listed {
            name: (*name).trim_end_matches('/').to_owned(),
            is_directory: name.ends_with('/'),
            size: name.contains("xz").then_some(7),
        };
        let listed: Vec<Listed> = names.iter().map(listed).collect();
        let mut look = FollowSnapshots.look(wanted(newest, &[])).unwrap();
        let mut asked = Vec::new();
        loop {
            let questions = look.questions();
            if questions.is_empty() {
                return (asked, look.offer());
            }
            for question in questions {
                let answer = match &question {
                    Question::Listing { .. } => Answer::Listing(&listed),
                    Question::Document { path, .. }
                        if absent.contains(&path.as_str()) || !names.contains(&path.as_str()) =>
                    {
                        Answer::Absent
                    }
                    Question::Document { path, .. } if path.ends_with(".gpgsig") => {
                        Answer::Document(SIGNATURE)
                    }
                    Question::Document { .. } => Answer::Document(b"0123456789abcdef0123456789abcdef  x\n"),
                };
                asked.push(question.clone());
                if let Err(reason) = look.answer(&question, answer) {
                    return (asked, Err(reason));
                }
            }
        }
    }

    const NAMES: [&str; 14] = [
        "gentoo-20261128.tar.xz",
        "gentoo-20261128.tar.xz.gpgsig",
        "gentoo-20261129.tar.bz2",
        "gentoo-20261129.tar.bz2.gpgsig",
        "gentoo-20261129.tar.bz2.md5sum",
        "gentoo-20261130.tar.bz2",
        "gentoo-20261130.tar.bz2.gpgsig",
        "gentoo-20261130.tar.xz",
        "gentoo-20261130.tar.xz.gpgsig",
        "gentoo-20261130.tar.xz.md5sum",
        "portage-20261130.tar.xz",
        "portage-20261130.tar.xz.gpgsig",
        "gentoo-20261201.tar.xz",
        "squashfs/",
    ];

    #[test]
    fn one_snapshot_of_each_of_the_newest_days_is_offered() {
        let (asked, offer) = look(&NAMES, Some(2), &[]);
        let offer = offer.unwrap();
        let paths: Vec<String> = offer.files.keys().map(ToString::to_string).collect();
        assert_eq!(paths, [&NAMES[2..5], &NAMES[7..10]].concat());
        assert_eq!(asked.len(), 5);
        let must_be = |at: usize| &offer.files[&TreePath::new(NAMES[at].as_bytes()).unwrap()].must_be;
        assert_eq!((must_be(2), must_be(7)), (&MustBe::AtMost(ARCHIVE_BYTES_MAX), &MustBe::Sized(7)));
        assert_eq!(must_be(8), &MustBe::Read(SIGNATURE.into()));
        // What has no signature yet is of no day.
        assert_eq!(offer.marks, BTreeMap::from([("newest".to_owned(), 20_261_130)]));
        assert_eq!(look(&NAMES, None, &[]).1.unwrap().files.len(), 8);
        assert_eq!(look(&NAMES, Some(1), &[NAMES[9]]).1.unwrap().files.len(), 2);
    }

    #[test]
    fn an_upstream_without_signed_snapshots_has_none() {
        for (names, absent) in [(&NAMES[12..], &[][..]), (&NAMES[..2], &NAMES[1..2])] {
            assert_eq!(look(names, None, absent).1.unwrap_err(), "upstream has no signed snapshots");
        }
        let architectures = ["amd64".to_owned()];
        let wrong = FollowSnapshots.look(wanted(None, &architectures));
        assert!(wrong.is_err_and(|reason| reason.contains("no architectures")));
        let mut look = FollowSnapshots.look(wanted(None, &[])).unwrap();
        let question = look.questions().remove(0);
        look.answer(&question, Answer::Absent).unwrap_err();
        look.answer(
            &question,
            Answer::Listing(&[listed("gentoo-20261130.tar.xz"), listed("gentoo-20261130.tar.xz.gpgsig")]),
        )
        .unwrap();
        let question = look.questions().remove(0);
        let wrong = look.answer(&question, Answer::Document(b"<html>404</html>")).unwrap_err();
        assert_eq!(wrong, "gentoo-20261130.tar.xz.gpgsig: it is not signed");
    }

    fn listed(name: &str) -> Listed {
        Listed { name: name.to_owned(), is_directory: false, size: None }
    }
}
