//! Versions of packages, and which of two is the newer (PMS, sections 3.2 and 3.3).
//!
//! The order is total, and not that of texts: `1.0` and `1.0-r0` are equal, `1.10` is newer than `1.9`, and `1.01` is
//! older than `1.1`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The most bytes of a version.
const VERSION_BYTES_MAX: usize = 128;

/// A version with its revision, written as it was read.
#[derive(Debug, Clone)]
pub struct Version {
    text: String,
    /// The numbers between the dots, at least one.
    numbers: Vec<String>,
    letter: Option<char>,
    suffixes: Vec<(Suffix, String)>,
    revision: String,
}

/// What may follow the numbers, from the oldest to the newest. What has no suffix is between `rc` and `p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Suffix {
    Alpha,
    Beta,
    Pre,
    Rc,
    Patch,
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version")]
pub struct VersionError(String);

impl Suffix {
    fn split(text: &str) -> Option<(Self, &str)> {
        // `pre` before `p`, which it begins with.
        const NAMES: [(&str, Suffix); 5] = [
            ("alpha", Suffix::Alpha),
            ("beta", Suffix::Beta),
            ("pre", Suffix::Pre),
            ("rc", Suffix::Rc),
            ("p", Suffix::Patch),
        ];
        NAMES.iter().find_map(|(name, suffix)| Some((*suffix, text.strip_prefix(name)?)))
    }
}

impl Version {
    /// The version as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether two versions are the same but for their revisions, which is what `~` asks of a package.
    pub fn is_revision_of(&self, other: &Self) -> bool {
        self.compare_without_revision(other) == Ordering::Equal
    }

    fn compare_without_revision(&self, other: &Self) -> Ordering {
        let first = compare_numbers(&self.numbers[0], &other.numbers[0]);
        let rest = || {
            let (left, right) = (&self.numbers[1..], &other.numbers[1..]);
            let common = left.iter().zip(right).map(|(left, right)| compare_components(left, right));
            let different = common.fold(Ordering::Equal, Ordering::then);
            different.then(left.len().cmp(&right.len()))
        };
        first
            .then_with(rest)
            .then_with(|| self.letter.cmp(&other.letter))
            .then_with(|| compare_suffixes(&self.suffixes, &other.suffixes))
    }
}

/// Two numbers of any length.
fn compare_numbers(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

/// Two numbers behind a dot: where one begins with a zero, they are compared as decimal fractions are.
fn compare_components(left: &str, right: &str) -> Ordering {
    if left.starts_with('0') || right.starts_with('0') {
        left.trim_end_matches('0').cmp(right.trim_end_matches('0'))
    } else {
        compare_numbers(left, right)
    }
}

fn compare_suffixes(left: &[(Suffix, String)], right: &[(Suffix, String)]) -> Ordering {
    let common = left.iter().zip(right);
    let different = common
        .map(|((left, left_number), (right, right_number))| {
            left.cmp(right).then_with(|| compare_numbers(left_number, right_number))
        })
        .fold(Ordering::Equal, Ordering::then);
    // What one of them has beyond the other makes it newer if it is a patch, and older otherwise.
    let beyond = |of: &[(Suffix, String)], than: &[(Suffix, String)]| {
        of.get(than.len()).map(|(suffix, _)| *suffix == Suffix::Patch)
    };
    different.then_with(|| match (beyond(left, right), beyond(right, left)) {
        (Some(true), _) | (_, Some(false)) => Ordering::Greater,
        (Some(false), _) | (_, Some(true)) => Ordering::Less,
        (None, None) => Ordering::Equal,
    })
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let refuse = || VersionError(text.chars().take(VERSION_BYTES_MAX).collect());
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() > VERSION_BYTES_MAX {
            return Err(refuse());
        }
        let (version, revision) = match text.split_once('-') {
            Some((version, rest)) => {
                (version, rest.strip_prefix('r').filter(|digits| is_number(digits)).ok_or_else(refuse)?)
            }
            None => (text, ""),
        };
        let mut parts = version.split('_');
        let numbers = parts.next().unwrap_or_default();
        let letter = numbers.chars().last().filter(char::is_ascii_lowercase);
        let numbers = &numbers[..numbers.len() - usize::from(letter.is_some())];
        let numbers: Vec<String> = numbers.split('.').map(str::to_owned).collect();
        if !numbers.iter().all(|number| is_number(number)) {
            return Err(refuse());
        }
        let suffix = |text: &str| {
            let (suffix, number) = Suffix::split(text)?;
            (number.is_empty() || is_number(number)).then(|| (suffix, number.to_owned()))
        };
        let suffixes: Option<Vec<_>> = parts.map(suffix).collect();
        Ok(Self {
            text: text.to_owned(),
            numbers,
            letter,
            suffixes: suffixes.ok_or_else(refuse)?,
            revision: revision.to_owned(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compare_without_revision(other).then_with(|| compare_numbers(&self.revision, &other.revision))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_ordered_as_the_specification_says() {
        // Each line is older than the next one; what stands on one line is equal.
        let ordered = [
            "0 00",
            "0.1",
            "1_alpha",
            "1_alpha1_beta",
            "1_alpha1",
            "1_alpha1_p",
            "1_alpha2",
            "1_beta",
            "1_pre",
            "1_rc",
            "1_rc10",
            "1 01 1-r0 1-r00",
            "1-r1 1-r01",
            "1-r10",
            "1_p 1_p0 1_p-r0",
            "1_p1_rc",
            "1_p1",
            "1_p1_p",
            "1a",
            "1b",
            "1.0_alpha",
            "1.0 1.00 1.000",
            "1.0a",
            "1.0.0",
            "1.001",
            "1.01 1.010 1.0100",
            "1.012",
            "1.02",
            "1.1",
            "1.1b",
            "1.1.0",
            "1.2",
            "1.9",
            "1.10",
            "1.100",
            "2",
            "9.99",
            "10",
            "20200101",
            "99999999999999999999999999999999",
            "100000000000000000000000000000000",
        ];
        for (left_at, left) in ordered.iter().enumerate() {
            for (right_at, right) in ordered.iter().enumerate() {
                for (left, right) in left.split(' ').flat_map(|l| right.split(' ').map(move |r| (l, r))) {
                    assert_eq!(version(left).cmp(&version(right)), left_at.cmp(&right_at), "{left} {right}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "", "a", "1.", ".1", "1..2", "1A", "1ab", "1-", "1-r", "1-1", "1_", "1_foo", "1_pa", "1-r1-r2",
            "1 ", "1_p-1", "1_P", "-r1", "1-r1a", "1_p.1", "\u{661}",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
        assert!("1".repeat(VERSION_BYTES_MAX).parse::<Version>().is_ok());
        assert!("1".repeat(VERSION_BYTES_MAX + 1).parse::<Version>().is_err());
    }

    fn any_version() -> impl Strategy<Value = Version> {
        "(0|1|01|10)(\\.(0|1|10|01|010|00)){0,3}[ab]?(_(alpha|beta|pre|rc|p)(0|1|10|01)?){0,2}(-r(0|1|01|10))?"
            .prop_map(|text| version(&text))
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in any_version(), b in any_version(), c in any_version()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&a), Ordering::Equal);
            let mut sorted = [&a, &b, &c];
            sorted.sort();
            prop_assert!(sorted[0] <= sorted[1] && sorted[1] <= sorted[2] && sorted[0] <= sorted[2]);
            if a == b {
                prop_assert_eq!(a.cmp(&c), b.cmp(&c));
            }
        }
    }
}
