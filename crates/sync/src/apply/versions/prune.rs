//! Which versions go.

use super::catalogue::Kept;
use super::name::VersionName;

/// How many versions are kept besides those that have a reason of their own.
pub const KEPT: usize = 10;

/// The versions that can go: all but the newest, the current one, and those that are pinned or named.
pub fn plan<'a>(
    kept: &'a [Kept],
    current: Option<&VersionName>,
    newest: usize,
    named: &[&VersionName],
) -> Vec<&'a Kept> {
    let older = kept.len().saturating_sub(newest.max(1));
    let stays = |kept: &Kept| kept.is_pinned || Some(kept.name()) == current || named.contains(&kept.name());
    kept[..older].iter().filter(|kept| !stays(kept)).collect()
}

#[cfg(test)]
mod tests {
    use smart_sync_store::id::ManifestId;

    use super::*;
    use crate::apply::record::Version;

    fn kept(number: u64) -> Kept {
        let name = VersionName::parse(format!("smart-sync-{number}").as_bytes()).unwrap();
        let version = Version::new(ManifestId::from_bytes([0; 32]), b"").unwrap().named(name);
        Kept { number, is_pinned: false, version }
    }

    #[track_caller]
    fn check(pinned: &[u64], current: u64, newest: usize, named: &[u64], expected: &[u64]) {
        let mut all: Vec<Kept> = (1..=6).map(kept).collect();
        for one in &mut all {
            one.is_pinned = pinned.contains(&one.number);
        }
        let current = kept(current);
        let named: Vec<Kept> = named.iter().map(|number| kept(*number)).collect();
        let named: Vec<&VersionName> = named.iter().map(Kept::name).collect();
        let gone: Vec<u64> =
            plan(&all, Some(current.name()), newest, &named).iter().map(|kept| kept.number).collect();
        assert_eq!(gone, expected);
    }

    #[test]
    fn what_has_a_reason_stays() {
        check(&[], 6, 3, &[], &[1, 2, 3]);
        check(&[2], 6, 3, &[], &[1, 3]);
        check(&[], 1, 3, &[3], &[2]);
        check(&[], 6, 10, &[], &[]);
        // A number is given once: the newest stays, whatever is asked for.
        check(&[], 2, 0, &[], &[1, 3, 4, 5]);
    }
}
