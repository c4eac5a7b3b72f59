//! Which version is gone back to where somebody names none.

use smart_sync_sync::apply::versions::Kept;

/// A version before the current one, and what is known of it.
pub(super) struct Earlier<'k> {
    pub(super) kept: &'k Kept,
    /// Why it was found not to be healthy, if it was.
    pub(super) unhealthy: Option<String>,
    /// Whether it was ever confirmed.
    pub(super) is_confirmed: bool,
}

/// The newest of them that was confirmed, else the newest that was not found unhealthy. Returns also the newer ones that
/// are passed over, the newest first, and why.
pub(super) fn newest<'k>(earlier: &[Earlier<'k>]) -> (Option<&'k Kept>, Vec<(&'k Kept, String)>) {
    let is_well = |one: &Earlier<'_>| one.unhealthy.is_none();
    let best = earlier.iter().rposition(|one| is_well(one) && one.is_confirmed);
    let at = best.or_else(|| earlier.iter().rposition(is_well));
    let Some(at) = at else { return (None, earlier.iter().rev().map(|one| (one.kept, why(one))).collect()) };
    let passed_over = earlier[at + 1..].iter().rev().map(|one| (one.kept, why(one))).collect();
    (Some(earlier[at].kept), passed_over)
}

fn why(one: &Earlier<'_>) -> String {
    match &one.unhealthy {
        Some(reason) => format!("it was not healthy when it was tried ({reason})"),
        None => "it was never confirmed, and an earlier one was".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use smart_sync_store::id::ManifestId;
    use smart_sync_sync::apply::Version;
    use smart_sync_sync::apply::versions::VersionName;

    use super::*;

    /// One letter for each version: confirmed, unknown, bad.
    #[track_caller]
    fn check(versions: &str, expected: Option<u64>, passed_over: &[u64]) {
        let kept: Vec<Kept> = (1..=versions.len() as u64)
            .map(|number| {
                let name = VersionName::parse(format!("smart-sync-{number}").as_bytes()).unwrap();
                let version = Version::new(ManifestId::from_bytes([0; 32]), b"").unwrap().named(name);
                Kept { number, is_pinned: false, version }
            })
            .collect();
        let earlier: Vec<Earlier<'_>> = kept
            .iter()
            .zip(versions.chars())
            .map(|(kept, letter)| Earlier {
                kept,
                unhealthy: "bB".contains(letter).then(|| "why".to_owned()),
                is_confirmed: "cB".contains(letter),
            })
            .collect();
        let (chosen, passed) = newest(&earlier);
        assert_eq!(chosen.map(|kept| kept.number), expected, "{versions}");
        assert_eq!(passed.iter().map(|(kept, _)| kept.number).collect::<Vec<_>>(), passed_over, "{versions}");
    }

    #[test]
    fn the_last_one_that_was_confirmed_comes_first() {
        check("", None, &[]);
        check("u", Some(1), &[]);
        check("uu", Some(2), &[]);
        check("cuu", Some(1), &[3, 2]);
        check("ccb", Some(2), &[3]);
        check("ub", Some(1), &[2]);
        check("bb", None, &[2, 1]);
        // One that was confirmed once and failed later is not healthy.
        check("uB", Some(1), &[2]);
        check("cB", Some(1), &[2]);
    }
}
