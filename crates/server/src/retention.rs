//! Which versions of a channel are kept, so that hosts can still have them.
//!
//! Everything that was published can be proven for ever; that its content is there as well is decided here. A day is one
//! of UTC, as in a ref such as `main@2026-10-01`: what such a ref is has to be there for each day that is kept.

use serde::{Deserialize, Serialize};
use smart_sync_sync::name::{Channel, ChannelPattern};
use smart_sync_sync::time::UnixTime;

/// The newest versions of a branch that are kept where nothing is said.
const VERSIONS: u64 = 10;
/// The most days that can be asked for.
const DAYS_MAX: u32 = 3650;
const DAY_SECONDS: u64 = 86_400;

/// What an operator decides about some channels.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RetentionConfig {
    /// Which: a name, or everything below one as `binpkgs/*`.
    pub(crate) channels: Vec<String>,
    /// The newest versions of each branch.
    #[serde(default = "default_versions")]
    pub(crate) keep: u64,
    /// What each branch was at the end of each of the last days.
    #[serde(default)]
    pub(crate) days: u32,
}

const fn default_versions() -> u64 {
    VERSIONS
}

/// What is kept of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The newest versions of each branch.
    pub(crate) versions: u64,
    /// What each branch was at the end of each of the last days.
    pub(crate) days: u32,
}

/// What is typed in the place of what is configured.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Typed {
    pub(crate) versions: Option<u64>,
    pub(crate) days: Option<u32>,
}

/// What is kept of each channel.
#[derive(Debug)]
pub(crate) struct Retention {
    rules: Vec<(ChannelPattern, Kept)>,
    typed: Typed,
}

impl Retention {
    pub(crate) fn new(config: &[RetentionConfig], typed: Typed) -> anyhow::Result<Self> {
        let mut rules = Vec::new();
        for rule in config {
            anyhow::ensure!(rule.keep > 0, "`keep` is 1 or more: what is published now is always kept");
            anyhow::ensure!(rule.days <= DAYS_MAX, "`days` is {DAYS_MAX} at most");
            for pattern in &rule.channels {
                rules.push((pattern.parse()?, Kept { versions: rule.keep, days: rule.days }));
            }
        }
        Ok(Self { rules, typed })
    }

    /// What is kept of a channel. The rule that names it most closely counts.
    pub(crate) fn of(&self, channel: &Channel) -> Kept {
        let rules = self.rules.iter().filter(|(pattern, _)| pattern.matches(channel));
        let rule = rules.max_by_key(|(pattern, _)| pattern.closeness()).map(|(_, kept)| *kept);
        let configured = rule.unwrap_or(Kept { versions: VERSIONS, days: 0 });
        Kept {
            versions: self.typed.versions.unwrap_or(configured.versions),
            days: self.typed.days.unwrap_or(configured.days).min(DAYS_MAX),
        }
    }
}

impl Kept {
    /// The last seconds of the days that are kept, today's left out: what is newest is kept anyway.
    pub(crate) fn ends_of_days(self, now: u64) -> impl Iterator<Item = UnixTime> {
        let today = now / DAY_SECONDS;
        let ends = (1..=u64::from(self.days)).map_while(move |ago| today.checked_sub(ago));
        ends.filter_map(|day| UnixTime::new(day * DAY_SECONDS + DAY_SECONDS - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(text: &str, typed: Typed) -> anyhow::Result<Retention> {
        #[derive(Deserialize)]
        struct Of {
            retention: Vec<RetentionConfig>,
        }
        Retention::new(&toml::from_str::<Of>(text)?.retention, typed)
    }

    #[test]
    fn the_rule_that_names_a_channel_most_closely_counts() {
        let text = "[[retention]]\nchannels = [\"a/*\"]\ndays = 30\n\
                    [[retention]]\nchannels = [\"a/b/*\", \"c\"]\nkeep = 3\n\
                    [[retention]]\nchannels = [\"a/b/d\"]\nkeep = 1\ndays = 1\n";
        let found = |channel: &str, typed| {
            let kept = retention(text, typed).unwrap().of(&channel.parse().unwrap());
            (kept.versions, kept.days)
        };
        let none = Typed::default();
        assert_eq!(found("a/x", none), (10, 30));
        assert_eq!(found("a/b/x", none), (3, 0));
        assert_eq!(found("a/b/d", none), (1, 1));
        assert_eq!(found("c", none), (3, 0));
        assert_eq!(found("other", none), (10, 0));
        assert_eq!(found("a/b/d", Typed { versions: Some(5), days: None }), (5, 1));
        assert_eq!(found("other", Typed { versions: None, days: Some(7) }), (10, 7));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for wrong in ["keep = 0", "days = 3651", "days = -1", "keep-days = 1"] {
            let text = format!("[[retention]]\nchannels = [\"a\"]\n{wrong}\n");
            assert!(retention(&text, Typed::default()).is_err(), "{wrong}");
        }
        assert!(retention("[[retention]]\nchannels = [\"../a\"]\n", Typed::default()).is_err());
    }

    #[test]
    fn days_end_as_a_date_behind_a_ref_does() {
        let kept = Kept { versions: 1, days: 2 };
        let now = UnixTime::parse_typed("2026-11-03T00:00:00Z").unwrap().seconds();
        let ends: Vec<_> = kept.ends_of_days(now).collect();
        let days = ["2026-11-02", "2026-11-01"].map(|day| UnixTime::parse_typed(day).unwrap());
        assert_eq!(ends, days);
        assert_eq!(Kept { versions: 1, days: 9 }.ends_of_days(DAY_SECONDS + 1).count(), 1);
    }
}
