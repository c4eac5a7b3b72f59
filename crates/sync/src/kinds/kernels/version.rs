//! Versions of kernels: what can be one, and which of two is newer.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The longest name of a version.
const VERSION_BYTES_MAX: usize = 64;

/// The version of a kernel. Two are ordered as people mean it: 6.10 is newer than 6.9.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(Box<str>);

/// A text that is no version of a kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version of a kernel, such as 6.9.1-gentoo-r1")]
pub struct NotAVersion(String);

impl Version {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a kernel of this version may call itself so: by the version, or by that and what the configuration of
    /// its build has put behind it.
    pub fn may_be_called(&self, release: &Self) -> bool {
        let behind = release.0.strip_prefix(&*self.0);
        behind.is_some_and(|local| !local.starts_with(|letter: char| letter.is_ascii_alphanumeric()))
    }

    /// The first two numbers, which the source and every build of it have in common.
    pub fn series(&self) -> Option<(u64, u64)> {
        let mut numbers = self.0.splitn(3, '.');
        let first = numbers.next()?.parse().ok()?;
        let second = numbers.next()?;
        let end = second.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(second.len());
        Some((first, second[..end].parse().ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let cut = || text.chars().take(VERSION_BYTES_MAX).collect();
        if is_version(text) { Ok(Self(text.into())) } else { Err(NotAVersion(cut())) }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether this can be the version of a kernel, and be a part of the names of its files.
pub fn is_version(text: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "._+-".contains(letter);
    text.len() <= VERSION_BYTES_MAX
        && text.starts_with(|letter: char| letter.is_ascii_digit())
        && text.chars().all(is_letter)
}

/// Which of two versions is newer: numbers count as numbers, and a candidate comes before what it is one for.
pub fn compare(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        let order = match (next(&mut one), next(&mut other)) {
            (None, None) => return Ordering::Equal,
            (None, Some(part)) => return if is_candidate(part) { Ordering::Greater } else { Ordering::Less },
            (Some(part), None) => return if is_candidate(part) { Ordering::Less } else { Ordering::Greater },
            (Some(one), Some(other)) => order_of(one, other),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Takes the next number, or what stands before it.
fn next<'t>(text: &mut &'t str) -> Option<&'t str> {
    let is_number = text.starts_with(|letter: char| letter.is_ascii_digit());
    let end = text.find(|letter: char| letter.is_ascii_digit() != is_number).unwrap_or(text.len());
    let (part, rest) = text.split_at(end);
    *text = rest;
    (!part.is_empty()).then_some(part)
}

fn is_candidate(part: &str) -> bool {
    part.trim_start_matches(['-', '_', '.']).starts_with("rc")
}

fn order_of(one: &str, other: &str) -> Ordering {
    // Numbers may be of any length, so they are compared by their digits.
    let number = |part: &str| {
        let is_number = part.starts_with(|letter: char| letter.is_ascii_digit());
        let digits = part.trim_start_matches('0').to_owned();
        is_number.then_some((digits.len(), digits))
    };
    match (number(one), number(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => (!is_candidate(one), one).cmp(&(!is_candidate(other), other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_sort_as_versions() {
        let mut versions =
            ["6.10.1-gentoo", "6.9.12-gentoo-r1", "6.9.12-gentoo", "6.10.0", "6.10.0-rc2", "6.10.0-rc10"];
        versions.sort_by(|one, other| compare(one, other));
        let sorted =
            ["6.9.12-gentoo", "6.9.12-gentoo-r1", "6.10.0-rc2", "6.10.0-rc10", "6.10.0", "6.10.1-gentoo"];
        assert_eq!(versions, sorted);
    }

    #[test]
    fn versions_that_lead_elsewhere_are_none() {
        for version in ["", "../x", "gentoo", "6.1/x", "6 1", "6.1\n"] {
            assert!(!is_version(version), "{version}");
        }
        assert!(!is_version(&"6".repeat(65)));
    }

    #[test]
    fn what_a_kernel_may_call_itself_begins_with_its_version() {
        #[track_caller]
        fn check(version: &str, release: &str, is_fine: bool) {
            let parse = |text: &str| text.parse::<Version>().unwrap();
            assert_eq!(parse(version).may_be_called(&parse(release)), is_fine, "{version} {release}");
        }
        check("6.9.1-gentoo", "6.9.1-gentoo", true);
        check("6.9.1-gentoo", "6.9.1-gentoo-x86_64", true);
        check("6.9.1-gentoo", "6.9.1-gentoo+", true);
        check("6.9.1", "6.9.10", false);
        check("6.9.1-gentoo", "6.9.2-gentoo", false);
        check("6.9.1-gentoo-x86_64", "6.9.1-gentoo", false);
    }

    #[test]
    fn a_series_is_the_first_two_numbers() {
        let series = |text: &str| text.parse::<Version>().unwrap().series();
        assert_eq!(series("6.10.1-gentoo"), Some((6, 10)));
        assert_eq!(series("6.1-rc3"), Some((6, 1)));
        assert_eq!(series("6"), None);
    }

    proptest! {
        /// Sorting may panic where it is not so.
        #[test]
        fn any_versions_have_one_order(texts in proptest::collection::vec("[0-9][0-9a-c.rc-]{0,30}", 3)) {
            let [one, two, three] = &texts[..] else { unreachable!() };
            prop_assert_eq!(compare(one, two), compare(two, one).reverse());
            if compare(one, two).is_le() && compare(two, three).is_le() {
                prop_assert!(compare(one, three).is_le());
            }
        }

        #[test]
        fn long_numbers_are_numbers(number in "[1-9][0-9]{19,40}") {
            prop_assert_eq!(compare("6.9", &format!("6.{number}")), Ordering::Less);
        }
    }
}
