//! Upstreams whose files are versions, each of which is published once as a tree of its own.
//!
//! A version that is published is never brought again, whatever upstream says of it later: what hosts know by its name
//! does not change. So what upstream has is compared by versions, and not by files. That upstream says something else of
//! a published one is a reason to hold it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use smart_sync_store::manifest::{Content, Shown, TreePath};
use smart_sync_sync::exclude::Exclusions;
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::kinds::follow::{Arriving, Versions};
use tokio::task::block_in_place;

use super::bring::Work;
use super::compare::{Has, Published};
use super::look::{Offering, Wants};
use super::round::Round;
use super::state::{self, Demand};
use crate::publishing::{Input, bring_branches};

/// The most versions that are said one by one.
const SHOWN_MAX: usize = 5;

/// The versions of a kind, and what becomes of those that are new.
#[derive(Clone, Copy)]
pub(super) struct OfVersions {
    pub(super) versions: &'static dyn Versions,
    pub(super) arriving: Arriving,
}

impl OfVersions {
    /// Of all files that digests name, those of the versions that are wanted.
    pub(super) fn choose(&self, mut all: Offering, wants: &Wants<'_>) -> Result<Offering, String> {
        let chosen = self.versions.choose(&mut all.files.keys(), wants, self.arriving)?;
        let mut offering = Offering::default();
        for (place, path) in chosen {
            let file = all.files.remove(&path).ok_or_else(|| format!("{path} is in two versions"))?;
            offering.files.insert(place, file);
        }
        Ok(offering)
    }

    /// The versions that files belong to.
    fn of<'a>(&self, paths: impl Iterator<Item = &'a TreePath>) -> BTreeSet<String> {
        paths.filter_map(|path| self.versions.version_of(path)).collect()
    }

    /// Which of the files are of a version that is published.
    pub(super) fn compare(&self, offering: &Offering, published: &Published) -> Vec<Has> {
        let there = self.of(published.files.keys());
        let is_there =
            |path: &TreePath| self.versions.version_of(path).is_some_and(|version| there.contains(&version));
        let has = |path: &TreePath| if is_there(path) { Has::LeftOut } else { Has::Nothing };
        offering.files.keys().map(has).collect()
    }

    /// Why what there is now does not follow what was accepted before.
    pub(super) fn reasons(&self, before: &HashMap<Vec<u8>, Demand>, offering: &Offering) -> Vec<String> {
        let paths: Vec<TreePath> = before.keys().filter_map(|path| TreePath::new(&path[..]).ok()).collect();
        let went_back = self.versions.went_back(&self.of(paths.iter()), &self.of(offering.files.keys()));
        let mut reasons: Vec<String> = went_back.into_iter().collect();
        let mut changed: BTreeMap<String, &TreePath> = BTreeMap::new();
        for (path, offered) in &offering.files {
            let is_other = before.get(path.as_bytes()).is_some_and(|(key, _)| *key != offered.must.key());
            if let Some(version) = self.versions.version_of(path).filter(|_| is_other) {
                changed.entry(version).or_insert(path);
            }
        }
        let more = changed.len().saturating_sub(SHOWN_MAX);
        reasons.extend(changed.into_iter().take(SHOWN_MAX).map(|(version, path)| {
            let name = Shown(path.file_name());
            format!("{version} is published, and upstream has another {name} now; the one here stays")
        }));
        if more > 0 {
            reasons.push(format!("and {more} more versions"));
        }
        reasons
    }

    /// The bytes of the published files of the versions that upstream has, and of those that did not have to come.
    pub(super) fn bytes(&self, offering: &Offering, has: &[Has], published: &Published) -> (u64, u64) {
        let known = offering.files.keys().zip(has).filter(|(_, has)| **has == Has::LeftOut);
        let (all, saved) = (self.of(offering.files.keys()), self.of(known.map(|(path, _)| path)));
        let of = |versions: &BTreeSet<String>| {
            let is_of = |(path, content): (&TreePath, &Content)| {
                self.versions
                    .version_of(path)
                    .filter(|version| versions.contains(version))
                    .map(|_| content.size)
            };
            published.files.iter().filter_map(is_of).fold(0, u64::saturating_add)
        };
        (of(&all), of(&saved))
    }
}

impl Round<'_> {
    /// Why what upstream has now does not follow what was accepted before, as far as versions tell that.
    pub(super) fn reasons_of_versions(&self, offering: &Offering) -> anyhow::Result<Vec<String>> {
        let Some(of) = &self.followed.versions else { return Ok(Vec::new()) };
        Ok(of.reasons(&state::files(&self.mirrors.db(), &self.followed.name)?, offering))
    }

    /// Brings what follows the published tree to where that is now: a round that was killed may have left it behind.
    pub(super) fn complete(&self, work: &Work, key: &SecretKey) -> anyhow::Result<()> {
        let files = work.files();
        let input = Input::directory(&files, Exclusions::none());
        let target = self.target()?;
        block_in_place(|| bring_branches(self.realm(), &input, &target, key, &|line| self.order.say(line)))
    }
}

#[cfg(test)]
mod tests {
    use smart_sync_sync::kinds::follow::Following;
    use smart_sync_sync::kinds::{self, ArtifactKind};

    use super::super::must::{Must, Sum};
    use super::*;

    fn kernels() -> OfVersions {
        let kind: &dyn ArtifactKind = kinds::find(&"kernels".parse().unwrap()).unwrap();
        let Following::Versions(versions) = kind.following() else { panic!("it has versions") };
        OfVersions { versions, arriving: Arriving::Offered }
    }

    fn path(text: &str) -> TreePath {
        TreePath::new(text.as_bytes()).unwrap()
    }

    fn must(digest: u8) -> Must {
        Must::Come { size: None, bytes_max: u64::MAX, sums: vec![Sum::Sha256([digest; 32])] }
    }

    /// Files by their paths upstream, with a number for what each has to be.
    fn offering(files: &[(&str, u8)]) -> Offering {
        let mut offering = Offering::default();
        for (text, digest) in files {
            offering.add(path(text), (*text).to_owned(), must(*digest)).unwrap();
        }
        let wants = Wants {
            architectures: &[],
            variants: &[],
            newest: None,
            key_ring: None,
            now: smart_sync_sync::time::UnixTime::EPOCH,
        };
        kernels().choose(offering, &wants).unwrap()
    }

    fn accepted(offering: &Offering) -> HashMap<Vec<u8>, Demand> {
        let demand = |offered: &super::super::look::Offered| (offered.must.key(), None);
        offering.files.iter().map(|(path, offered)| (path.as_bytes().to_vec(), demand(offered))).collect()
    }

    #[test]
    fn a_version_that_is_published_in_any_state_does_not_come_again() {
        let offering = offering(&[("6.9.1/vmlinuz", 1), ("6.9.1/config", 2), ("current/6.10.1/vmlinuz", 3)]);
        let of = kernels();
        for state in ["offered", "current", "deprecated", "compat"] {
            let content = Content { size: 7, ..smart_sync_store::content::name_content(b"kernels") };
            let files = [(path(&format!("{state}/6.9.1/lib/modules/6.9.1/a.ko")), content)];
            let published = Published::of(files.into());
            let has = of.compare(&offering, &published);
            assert_eq!(has, [Has::Nothing, Has::LeftOut, Has::LeftOut], "{state}");
            assert_eq!(of.bytes(&offering, &has, &published), (7, 7));
        }
        let nothing = Published::of(BTreeMap::new());
        let has = of.compare(&offering, &nothing);
        assert_eq!((of.bytes(&offering, &has, &nothing), has), ((0, 0), vec![Has::Nothing; 3]));
    }

    #[test]
    fn what_changes_under_the_name_of_a_version_is_held() {
        #[track_caller]
        fn check(before: &Offering, now: &Offering, expected: &[&str]) {
            assert_eq!(kernels().reasons(&accepted(before), now), expected);
        }
        let before = offering(&[("6.9.1/vmlinuz", 1), ("6.10.1/vmlinuz", 2), ("6.10.1/config", 3)]);
        check(&Offering::default(), &before, &[]);
        check(&before, &before, &[]);
        let more = [("6.9.1/vmlinuz", 1), ("6.10.1/vmlinuz", 2), ("6.10.1/config", 3), ("6.11.1/vmlinuz", 4)];
        check(&before, &offering(&more), &[]);
        check(&before, &offering(&more[1..]), &[]);
        check(
            &before,
            &offering(&[("6.9.1/vmlinuz", 9), ("6.10.1/vmlinuz", 8), ("6.10.1/config", 7)]),
            &[
                "6.10.1 is published, and upstream has another config now; the one here stays",
                "6.9.1 is published, and upstream has another vmlinuz now; the one here stays",
            ],
        );
        check(&before, &offering(&more[..1]), &["the newest kernel of upstream was 6.10.1, and is 6.9.1"]);
    }
}
