//! Versions of kernels: what can be one, and which of two is newer.

use std::cmp::Ordering;

/// The longest name of a version.
const VERSION_BYTES_MAX: usize = 64;

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
    let number = |part: &str| part.parse::<u64>().ok();
    match (number(one), number(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => (!is_candidate(one), one).cmp(&(!is_candidate(other), other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
