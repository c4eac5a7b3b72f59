//! Who confirms a new version, as it is configured.

use std::time::Duration;

use serde::Deserialize;

use super::moment::shown;
use crate::config::Span;

/// How long somebody has for it where nothing is said.
const WITHIN: Duration = Duration::from_secs(10 * 60);
/// Nobody may forget a version that long.
const WITHIN_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Who confirms a version, in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfirmedBy {
    /// The checks, when all of them are well.
    Checks,
    /// Somebody who can still reach the host, after that.
    Person,
}

/// Who confirms a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Confirmation {
    /// The checks.
    #[default]
    ByChecks,
    /// Somebody, within this time after them.
    ByPerson(Duration),
}

impl Confirmation {
    /// How long somebody has for it, as it is said.
    pub fn is_waited_for(self) -> Option<String> {
        match self {
            Self::ByChecks => None,
            Self::ByPerson(within) => Some(shown(within)),
        }
    }

    /// Who confirms several versions together: somebody, where one of them waits for that, in the shortest time that any
    /// of them has.
    pub fn of_all(all: impl IntoIterator<Item = Self>) -> Self {
        let waits = all.into_iter().filter_map(|one| match one {
            Self::ByChecks => None,
            Self::ByPerson(within) => Some(within),
        });
        waits.min().map_or(Self::ByChecks, Self::ByPerson)
    }

    /// What is configured; or why it is none.
    pub fn of(by: Option<ConfirmedBy>, within: Option<Span>) -> Result<Self, &'static str> {
        match (by, within.map(|span| span.0)) {
            (Some(ConfirmedBy::Checks) | None, None) => Ok(Self::ByChecks),
            (Some(ConfirmedBy::Checks) | None, Some(_)) => {
                Err("`confirm-within` says how long a person has: it goes with `confirm = \"person\"`")
            }
            (Some(ConfirmedBy::Person), within) => {
                let within = within.unwrap_or(WITHIN);
                if within.is_zero() || within > WITHIN_MAX {
                    return Err("`confirm-within` is a time from 1s to 30d");
                }
                Ok(Self::ByPerson(within))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_wait_for_somebody_where_one_does_and_no_longer_than_any_of_them() {
        let person = |seconds| Confirmation::ByPerson(Duration::from_secs(seconds));
        assert_eq!(Confirmation::of_all([]), Confirmation::ByChecks);
        assert_eq!(Confirmation::of_all([Confirmation::ByChecks; 2]), Confirmation::ByChecks);
        let several = [person(90), Confirmation::ByChecks, person(60)];
        assert_eq!(Confirmation::of_all(several), person(60));
    }

    #[test]
    fn a_person_has_ten_minutes_or_what_is_configured() {
        let span = |seconds| Some(Span(Duration::from_secs(seconds)));
        let person = Some(ConfirmedBy::Person);
        assert_eq!(Confirmation::of(None, None), Ok(Confirmation::ByChecks));
        assert_eq!(Confirmation::of(person, None), Ok(Confirmation::ByPerson(WITHIN)));
        assert_eq!(Confirmation::of(person, span(60)), Ok(Confirmation::ByPerson(Duration::from_secs(60))));
        for (by, within) in [
            (None, span(60)),
            (Some(ConfirmedBy::Checks), span(60)),
            (person, span(0)),
            (person, span(u64::MAX)),
        ] {
            assert!(Confirmation::of(by, within).is_err(), "{by:?} {within:?}");
        }
    }
}
