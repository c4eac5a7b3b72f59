//! Builds that were taken out of an index, so that a build host which still has them does not bring them back.
//!
//! A file of the tree names them, a line `BUILD_TIME BUILD_ID CPV` for each, with `-` for a number that there is not. A
//! package that is built again is another build, whatever it is called.

use std::collections::{BTreeMap, BTreeSet};

use smart_sync_store::manifest::TreePath;

use super::super::Absent;
use super::cpv::Cpv;
use super::generation::Build;

/// Where it is written, in a tree.
pub(super) const FILE: &str = ".smart-sync/taken-out";
/// The largest such file that is read.
pub(super) const BYTES_MAX: u64 = 64 << 20;

/// Builds that were taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TakenOut(BTreeSet<(String, Option<u64>, u64)>);

impl TakenOut {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut taken = Self::default();
        let text = str::from_utf8(bytes).map_err(|error| format!("{FILE}: {error}"))?;
        for (at, line) in text.split_inclusive('\n').enumerate() {
            let wrong = || format!("{FILE}: line {} is none of it", at + 1);
            let name = parse_line(line).ok_or_else(wrong)?;
            if !taken.0.insert(name) {
                return Err(wrong());
            }
        }
        Ok(taken)
    }

    pub(super) fn render(&self) -> Vec<u8> {
        let line = |(cpv, build_id, built): &(String, Option<u64>, u64)| {
            let build_id = build_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
            format!("{built} {build_id} {cpv}\n")
        };
        self.0.iter().map(line).collect::<String>().into_bytes()
    }

    /// Leaves out of what is to be published what was taken out before, and says how many that are. A directory that is all
    /// there is to be counts as it is.
    pub(super) fn leave_out(&mut self, builds: &mut BTreeMap<TreePath, Build>, absent: Absent) -> u64 {
        let all = builds.len();
        match absent {
            Absent::Stays => builds.retain(|_, build| !self.0.contains(&name_of(build))),
            Absent::Goes => builds.values().for_each(|build| {
                self.0.remove(&name_of(build));
            }),
        }
        (all - builds.len()) as u64
    }

    pub(super) fn add(&mut self, build: &Build) {
        self.0.insert(name_of(build));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn name_of(build: &Build) -> (String, Option<u64>, u64) {
    (build.cpv.clone(), build.build_id.parse().ok(), build.built)
}

/// A line that is written in the one way in which lines are.
fn parse_line(line: &str) -> Option<(String, Option<u64>, u64)> {
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| number.to_string() == text);
    let mut words = line.strip_suffix('\n')?.splitn(3, ' ');
    let built = number(words.next()?)?;
    let build_id = match words.next()? {
        "-" => None,
        id => Some(number(id)?),
    };
    let cpv: Cpv = words.next()?.parse().ok()?;
    Some((cpv.to_string(), build_id, built))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = b"17 - app-test/a-1\n5 2 app-test/b-1.0-r1\n";
        let taken = TakenOut::parse(text).unwrap();
        assert_eq!(taken.render(), text);
        assert_eq!(TakenOut::parse(b""), Ok(TakenOut::default()));
        let build = |build_id: &str, built| Build {
            cpv: "app-test/b-1.0-r1".to_owned(),
            build_id: build_id.to_owned(),
            sha1: String::new(),
            size: 0,
            built,
        };
        let mut builds: BTreeMap<TreePath, Build> = [("2", 5), ("2", 6), ("3", 5), ("", 5)]
            .map(|(id, built)| {
                (TreePath::new(format!("{id}.{built}").into_bytes()).unwrap(), build(id, built))
            })
            .into();
        assert_eq!(taken.clone().leave_out(&mut builds, Absent::Stays), 1);
        assert!(builds.len() == 3 && builds.values().all(|left| *left != build("2", 5)));
        let mut whole = taken.clone();
        whole.add(&build("3", 5));
        assert_eq!(whole.leave_out(&mut builds, Absent::Goes), 0);
        assert_eq!((builds.len(), &whole), (3, &taken));
        for wrong in [
            "\n",
            "5 2 app-test/b-1",
            "5 2 b\n",
            "5 2\n",
            "05 2 app-test/b-1\n",
            "5 x app-test/b-1\n",
            "5 2 app-test/b-1 \n",
            "5 2 app-test/b-1\n5 2 app-test/b-1\n",
        ] {
            assert!(TakenOut::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(TakenOut::parse(b"\xff\n").is_err());
    }
}
