//! Binary packages of an upstream that is followed: what its index names.
//!
//! What comes is a directory as Portage keeps it, with the index, from which the settings of the build host are taken. A
//! `URI` in its header is passed over: packages are asked for where the index is.

use std::collections::BTreeMap;

use smart_sync_store::manifest::TreePath;

use super::index::{Block, INDEX_BYTES_MAX, Index};
use super::package::Container;
use crate::kinds::follow::{Answer, Follow, Look, MustBe, Offer, Offered, Question, Wanted};

/// The index, and what it is called.
const INDEX: &str = "Packages";

/// How binary packages are followed.
#[derive(Debug)]
pub(super) struct FollowBinpkgs;

impl Follow for FollowBinpkgs {
    fn look<'a>(&self, wanted: Wanted<'a>) -> Result<Box<dyn Look + 'a>, String> {
        if !wanted.architectures.is_empty() || !wanted.variants.is_empty() {
            let reason = "an index of binary packages is of one architecture: the URL says of which";
            return Err(reason.to_owned());
        }
        Ok(Box::new(BinpkgsLook { newest: wanted.newest, is_asked: false, index: None }))
    }
}

struct BinpkgsLook {
    /// How many builds of each version; all where that is not said.
    newest: Option<usize>,
    is_asked: bool,
    index: Option<(Index, Box<[u8]>)>,
}

impl Look for BinpkgsLook {
    fn questions(&mut self) -> Vec<Question> {
        if std::mem::replace(&mut self.is_asked, true) {
            return Vec::new();
        }
        vec![Question::Document { path: INDEX.to_owned(), bytes_max: INDEX_BYTES_MAX as u64 }]
    }

    fn answer(&mut self, _question: &Question, answer: Answer<'_>) -> Result<(), String> {
        let Answer::Document(bytes) = answer else { return Err(format!("upstream has no {INDEX}")) };
        let text = str::from_utf8(bytes).map_err(|error| format!("{INDEX}: {error}"))?;
        let index = Index::parse(text).map_err(|error| format!("{INDEX}: {error}"))?;
        self.index = Some((index, bytes.into()));
        Ok(())
    }

    fn offer(self: Box<Self>) -> Result<Offer, String> {
        let Some((index, bytes)) = self.index else { return Err(format!("upstream has no {INDEX}")) };
        let mut offer = Offer::default();
        for package in newest(&index.packages, self.newest) {
            let wrong = |what: &str| {
                let cpv = package.get("CPV").unwrap_or_default();
                format!("{INDEX}: {cpv} has no {what}")
            };
            let path = package.get("PATH").filter(|path| Container::of_name(path).is_some());
            let path = path.ok_or_else(|| wrong("PATH of a package"))?;
            let place =
                TreePath::new(path.as_bytes()).map_err(|error| format!("{INDEX}: {path}: {error}"))?;
            let size: u64 =
                package.get("SIZE").and_then(|size| size.parse().ok()).ok_or_else(|| wrong("SIZE"))?;
            let offered = Offered { path: path.to_owned(), must_be: MustBe::Sized(size) };
            if offer.files.insert(place, offered).is_some() {
                return Err(format!("{INDEX}: {path} is named twice"));
            }
        }
        let place = TreePath::new(INDEX.as_bytes()).map_err(|error| error.to_string())?;
        offer.files.insert(place, Offered { path: INDEX.to_owned(), must_be: MustBe::Read(bytes) });
        offer.marks.insert(INDEX.to_owned(), index.timestamp);
        Ok(offer)
    }
}

/// The packages of an index, so many of the newest builds of each version.
fn newest(packages: &[Block], newest: Option<usize>) -> Vec<&Block> {
    let Some(newest) = newest else { return packages.iter().collect() };
    let number = |package: &Block, key: &str| package.get(key).and_then(|value| value.parse::<u64>().ok());
    let mut ordered: Vec<(usize, &Block)> = packages.iter().enumerate().collect();
    ordered.sort_by_key(|(_, package)| (number(package, "BUILD_ID"), number(package, "BUILD_TIME")));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kept: Vec<(usize, &Block)> = Vec::new();
    for (at, package) in ordered.into_iter().rev() {
        let count = counts.entry(package.get("CPV").unwrap_or_default()).or_default();
        *count += 1;
        if *count <= newest.max(1) {
            kept.push((at, package));
        }
    }
    kept.sort_by_key(|(at, _)| *at);
    kept.into_iter().map(|(_, package)| package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixTime;

    const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/binpkgs/Packages");

    fn look(newest: Option<usize>, answer: Answer<'_>) -> Result<Offer, String> {
        let wanted =
            Wanted { architectures: &[], variants: &[], newest, key_ring: None, now: UnixTime::EPOCH };
        let mut look = FollowBinpkgs.look(wanted).unwrap();
        let [question] = &look.questions()[..] else { panic!("one document says everything") };
        assert_eq!(question, &Question::Document { path: "Packages".to_owned(), bytes_max: 256 << 20 });
        look.answer(question, answer)?;
        assert_eq!(look.questions(), []);
        look.offer()
    }

    fn index(packages: &[(&str, &str, &str, &str)]) -> Vec<u8> {
        let block = |(cpv, build_id, path, size): &(&str, &str, &str, &str)| {
            let mut block = Block::default();
            for (key, value) in [("CPV", cpv), ("BUILD_ID", build_id), ("PATH", path), ("SIZE", size)] {
                block.set(key, *value).unwrap();
            }
            block
        };
        Index::new(7, Block::default(), packages.iter().map(block).collect()).render().into_bytes()
    }

    fn paths(offer: &Offer) -> Vec<String> {
        offer.files.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn what_an_index_of_portage_names_is_offered() {
        let offer = look(None, Answer::Document(GOLDEN)).unwrap();
        let index = Index::parse(str::from_utf8(GOLDEN).unwrap()).unwrap();
        assert_eq!(offer.files.len(), index.packages.len() + 1);
        assert_eq!(offer.marks, BTreeMap::from([("Packages".to_owned(), index.timestamp)]));
        for package in &index.packages {
            let path = TreePath::new(package.get("PATH").unwrap().as_bytes()).unwrap();
            let size = package.get("SIZE").unwrap().parse().unwrap();
            assert_eq!(offer.files[&path].must_be, MustBe::Sized(size));
        }
        let place = TreePath::new(&b"Packages"[..]).unwrap();
        assert_eq!(offer.files[&place].must_be, MustBe::Read(GOLDEN.into()));
    }

    #[test]
    fn so_many_of_the_newest_builds_of_each_version_are_offered() {
        let text = index(&[
            ("a/b-1", "2", "b-1-2.gpkg.tar", "1"),
            ("a/b-1", "10", "b-1-10.gpkg.tar", "1"),
            ("a/b-1", "9", "b-1-9.gpkg.tar", "1"),
            ("a/b-2", "1", "b-2-1.gpkg.tar", "1"),
        ]);
        let of = |newest| paths(&look(newest, Answer::Document(&text)).unwrap());
        assert_eq!(of(None).len(), 5);
        assert_eq!(of(Some(1)), ["Packages", "b-1-10.gpkg.tar", "b-2-1.gpkg.tar"]);
        assert_eq!(of(Some(2)), ["Packages", "b-1-10.gpkg.tar", "b-1-9.gpkg.tar", "b-2-1.gpkg.tar"]);
    }

    #[test]
    fn an_index_that_leads_elsewhere_is_refused() {
        let check = |packages: &[(&str, &str, &str, &str)], reason: &str| {
            let said = look(None, Answer::Document(&index(packages))).unwrap_err();
            assert!(said.contains(reason), "{said}");
        };
        check(&[("a/b-1", "1", "../b.gpkg.tar", "1")], "../b.gpkg.tar");
        check(&[("a/b-1", "1", "/b.gpkg.tar", "1")], "/b.gpkg.tar");
        check(&[("a/b-1", "1", "b.tar", "1")], "a/b-1 has no PATH of a package");
        check(&[("a/b-1", "1", "b.gpkg.tar", "-1")], "a/b-1 has no SIZE");
        check(&[("a/b-1", "1", "b.gpkg.tar", "1"), ("a/b-1", "2", "b.gpkg.tar", "1")], "is named twice");
        for (answer, reason) in [
            (Answer::Absent, "upstream has no Packages"),
            (Answer::Document(b"<html>"), "it is cut short"),
            (Answer::Document(b"\xff\n\n"), "Packages: invalid utf-8"),
        ] {
            let said = look(None, answer).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn architectures_mean_nothing_here() {
        let architectures = ["amd64".to_owned()];
        let now = UnixTime::EPOCH;
        let wanted =
            Wanted { architectures: &architectures, variants: &[], newest: None, key_ring: None, now };
        assert!(FollowBinpkgs.look(wanted).is_err());
    }
}
