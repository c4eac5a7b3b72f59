//! Which of several upstreams is asked next, and for how long one that failed is left alone. Pure: the time comes in.

/// How long an upstream is left alone after its first failure; each further one makes it four times as long.
const PAUSE_SECONDS: u64 = 5;
/// The longest that it is left alone, unless it asks for more itself.
const PAUSE_SECONDS_MAX: u64 = 3600;
/// How often one upstream is asked for one file in a row, if it gives a part each time.
const TRIES_MAX: u32 = 3;

/// What is known of an upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// Failures since it last gave a file.
    pub(super) failures: u32,
    /// It is left alone until then, in seconds since 1970.
    pub(super) until: u64,
}

impl Health {
    /// It gave what it was asked for, or said that it does not have it.
    pub(super) fn worked(&mut self) {
        *self = Self::default();
    }

    /// It failed, and perhaps asked to be left alone for some seconds.
    pub(super) fn failed(&mut self, retry_after: Option<u64>, now: u64) {
        let pause = PAUSE_SECONDS.saturating_mul(4u64.saturating_pow(self.failures)).min(PAUSE_SECONDS_MAX);
        self.failures = self.failures.saturating_add(1);
        self.until = self.until.max(now.saturating_add(pause.max(retry_after.unwrap_or(0))));
    }
}

/// Where an upstream stands while one file is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// It is left alone until then.
    pub(super) until: u64,
    /// It gave something else by that name before.
    pub(super) is_wrong: bool,
    /// How often it was asked for this file just now.
    pub(super) tries: u32,
    /// Whether it gave a part of it the last time.
    pub(super) has_given: bool,
}

/// The upstream that is asked next, in the order in which the operator has named them: first each once that is not left
/// alone, then once more those that broke off in the middle.
pub(super) fn next(standings: &[Standing], now: u64) -> Option<usize> {
    let fresh = |standing: &Standing| standing.tries == 0 && standing.until <= now && !standing.is_wrong;
    let again = |standing: &Standing| {
        (1..TRIES_MAX).contains(&standing.tries) && standing.has_given && !standing.is_wrong
    };
    standings.iter().position(fresh).or_else(|| standings.iter().position(again))
}

/// After how many seconds it is worth asking again, if no upstream could be asked.
pub(super) fn wait(standings: &[Standing], now: u64) -> Option<u64> {
    let waiting = standings.iter().filter(|standing| !standing.is_wrong && standing.until > now);
    waiting.map(|standing| standing.until - now).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_that_fails_is_left_alone_longer_and_longer() {
        let mut health = Health::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let now = health.until;
            health.failed(None, now);
            pauses.push(health.until - now);
        }
        assert_eq!(pauses, [5, 20, 80, 320, 1280, 3600, 3600]);
        health.worked();
        assert_eq!(health, Health::default());
        health.failed(Some(7200), 100);
        assert_eq!(health.until, 7300);
        health.failed(None, 100);
        assert_eq!(health.until, 7300, "what it asked for is not forgotten");
    }

    #[test]
    fn each_is_asked_once_and_those_that_broke_off_again() {
        let fresh = Standing::default();
        let away = Standing { until: 11, ..fresh };
        let wrong = Standing { is_wrong: true, ..fresh };
        let given = Standing { tries: 1, has_given: true, until: 99, ..fresh };
        let silent = Standing { tries: 1, ..fresh };
        let worn = Standing { tries: TRIES_MAX, has_given: true, ..fresh };
        assert_eq!(next(&[fresh, fresh], 10), Some(0));
        assert_eq!(next(&[given, fresh], 10), Some(1));
        assert_eq!(next(&[away, wrong, fresh], 10), Some(2));
        assert_eq!(next(&[away, wrong, fresh], 11), Some(0));
        assert_eq!(next(&[silent, given], 10), Some(1));
        assert_eq!(next(&[silent, worn, wrong, away], 10), None);
        assert_eq!(next(&[Standing { is_wrong: true, ..given }], 10), None);
        assert_eq!(wait(&[away, Standing { until: 50, ..fresh }, wrong], 10), Some(1));
        assert_eq!(wait(&[wrong, silent], 10), None);
    }
}
