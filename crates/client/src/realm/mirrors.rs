//! Ranges of packs from several servers at once.
//!
//! Every range goes to whichever server has the least to do, so that a fast one gets more of them. What a server does
//! wrong is counted, and after a few faults it is passed over for the rest of the run; it is asked again only where
//! no other one can give what is needed. How many ranges are under way follows what the link gives: more for as long as
//! more come, fewer after a fault. Both decisions are made by plain values, which know no clock and no network.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::remote::{Remote, RemoteError};
use crate::failure::Failure;
use crate::output::Output;

/// The faults after which a server is passed over.
const FAULTS_MAX: u32 = 3;
/// How often a range is asked for, over all servers.
const ATTEMPTS: usize = 4;
/// How many ranges are asked for at first.
const UNDER_WAY_FIRST: usize = 2;

/// The servers of a run, and how they have done so far.
pub struct Mirrors {
    remotes: Vec<Remote>,
    output: Output,
    begun: Instant,
    state: Mutex<State>,
}

struct State {
    spread: Spread,
    pace: Pace,
}

/// A range, and who sent it.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The bytes.
    pub bytes: Bytes,
    /// The number of the server.
    pub from: usize,
}

impl Mirrors {
    /// These servers, the first one being the best as far as is known. At most `connections` ranges are asked for at
    /// the same time.
    pub fn new(remotes: Vec<Remote>, connections: usize, output: Output) -> Self {
        let state = State { spread: Spread::new(remotes.len()), pace: Pace::new(connections) };
        Self { remotes, output, begun: Instant::now(), state: Mutex::new(state) }
    }

    /// How many ranges are to be under way now.
    pub fn under_way_max(&self) -> usize {
        self.with(|state| state.pace.under_way_max)
    }

    /// Asks one server after the other until one gives the range.
    pub async fn get_range(&self, path: &str, start: u64, end: u64) -> Result<Arrived, RemoteError> {
        let mut tried = vec![0; self.remotes.len()];
        let mut attempt = 0;
        loop {
            let from = self.with(|state| state.spread.choose(&tried));
            match self.ask(from, path, start, end).await {
                Ok(arrived) => return Ok(arrived),
                Err(error) => {
                    tried[from] += 1;
                    attempt += 1;
                    if attempt >= ATTEMPTS.max(self.remotes.len()) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Asks the other servers for a range that was not what it should be when it came from this one, until one has
    /// what passes. Says what was wrong with the first one if there is none.
    pub async fn replace<T>(
        &self,
        wrong: usize,
        failure: Failure,
        (path, start, end): (&str, u64, u64),
        mut pass: impl FnMut(&Bytes) -> Option<Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.found_wrong(wrong, &failure);
        let mut tried = vec![0; self.remotes.len()];
        tried[wrong] = 1;
        for _ in 1..self.remotes.len() {
            let from = self.with(|state| state.spread.choose(&tried));
            tried[from] += 1;
            let Ok(arrived) = self.ask(from, path, start, end).await else { continue };
            match pass(&arrived.bytes) {
                Some(passed) => return passed,
                None => self.found_wrong(from, &failure),
            }
        }
        Err(failure)
    }

    async fn ask(&self, from: usize, path: &str, start: u64, end: u64) -> Result<Arrived, RemoteError> {
        let asking = Asking::begin(self, from);
        let answer = self.remotes[from].get_range(path, start, end).await;
        drop(asking);
        match answer {
            Ok(bytes) => {
                let now = self.begun.elapsed();
                self.with(|state| state.pace.arrived(bytes.len() as u64, now));
                Ok(Arrived { bytes, from })
            }
            Err(error) => {
                tracing::debug!(%error, "a range did not come");
                // All that is under way at a server stalls together: waiting for that again would be in vain.
                let weight = if matches!(error, RemoteError::Stalled { .. }) { FAULTS_MAX } else { 1 };
                self.count_fault(from, weight, &error.to_string());
                Err(error)
            }
        }
    }

    fn found_wrong(&self, from: usize, failure: &Failure) {
        let reason = failure.in_one_line();
        self.count_fault(from, 1, &reason);
    }

    fn count_fault(&self, from: usize, weight: u32, reason: &str) {
        let now = self.begun.elapsed();
        let is_passed_over = self.with(|state| {
            state.pace.failed(now);
            state.spread.failed(from, weight)
        });
        if is_passed_over {
            let base = self.remotes[from].base();
            self.output.warning(&format!("{base} is passed over from now on: {reason}"));
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // Whatever a panic left behind are counts.
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request that is under way until this is dropped, also where nobody waits for it any more.
struct Asking<'a> {
    mirrors: &'a Mirrors,
    from: usize,
}

impl<'a> Asking<'a> {
    fn begin(mirrors: &'a Mirrors, from: usize) -> Self {
        mirrors.with(|state| state.spread.servers[from].under_way += 1);
        Self { mirrors, from }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.mirrors.with(|state| state.spread.servers[self.from].under_way -= 1);
    }
}

/// Which server is asked.
struct Spread {
    servers: Vec<Server>,
}

#[derive(Default)]
struct Server {
    under_way: usize,
    faults: u32,
}

impl Spread {
    fn new(servers: usize) -> Self {
        Self { servers: std::iter::repeat_with(Server::default).take(servers).collect() }
    }

    /// The server to ask for a range that each one was asked for so many times in vain. One that is passed over is
    /// asked when every other one was asked twice.
    fn choose(&self, tried: &[usize]) -> usize {
        let rank = |(index, server): &(usize, &Server)| {
            let in_vain = tried[*index] + if server.faults >= FAULTS_MAX { 2 } else { 0 };
            (in_vain, server.under_way, *index)
        };
        self.servers.iter().enumerate().min_by_key(rank).map_or(0, |(index, _)| index)
    }

    /// Counts faults of a server. Says whether it is passed over from now on while another one is not.
    fn failed(&mut self, index: usize, weight: u32) -> bool {
        let server = &mut self.servers[index];
        let was_good = server.faults < FAULTS_MAX;
        server.faults = server.faults.saturating_add(weight);
        let is_good = server.faults < FAULTS_MAX;
        was_good && !is_good && self.servers.iter().any(|server| server.faults < FAULTS_MAX)
    }
}

/// How many ranges are under way.
struct Pace {
    under_way_max: usize,
    limit: usize,
    /// The most bytes in a second so far, with this many ranges or fewer.
    best: u64,
    /// What came since the number was set.
    bytes: u64,
    ranges: usize,
    since: Duration,
}

impl Pace {
    fn new(limit: usize) -> Self {
        let under_way_max = UNDER_WAY_FIRST.min(limit.max(1));
        Self { under_way_max, limit: limit.max(1), best: 0, bytes: 0, ranges: 0, since: Duration::ZERO }
    }

    /// Takes account of a range. Once as many came as are under way, it is seen whether more come than before: then
    /// the link may give more still.
    fn arrived(&mut self, bytes: u64, now: Duration) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.ranges += 1;
        if self.ranges < self.under_way_max {
            return;
        }
        let microseconds = now.saturating_sub(self.since).as_micros().max(1);
        let rate = u128::from(self.bytes) * 1_000_000 / microseconds;
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        // A tenth more is more than chance.
        if rate > self.best.saturating_add(self.best / 10) {
            self.best = rate;
            self.under_way_max = (self.under_way_max + self.under_way_max.div_ceil(2)).min(self.limit);
        }
        self.begin(now);
    }

    /// Takes account of a fault: the link, or a server, may be asked too much of. What was best before counts no more.
    fn failed(&mut self, now: Duration) {
        self.under_way_max = (self.under_way_max / 2).max(1);
        self.best = 0;
        self.begin(now);
    }

    const fn begin(&mut self, now: Duration) {
        (self.bytes, self.ranges, self.since) = (0, 0, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_goes_to_whoever_has_the_least_to_do() {
        let mut spread = Spread::new(3);
        let mut chosen = Vec::new();
        for _ in 0..5 {
            let server = spread.choose(&[0; 3]);
            spread.servers[server].under_way += 1;
            chosen.push(server);
        }
        assert_eq!(chosen, [0, 1, 2, 0, 1]);
        spread.servers[1].under_way = 0;
        assert_eq!(spread.choose(&[0; 3]), 1);
        assert_eq!(spread.choose(&[0, 1, 0]), 2);
    }

    #[test]
    fn a_server_is_passed_over_after_a_few_faults_and_asked_when_no_other_can_help() {
        let mut spread = Spread::new(2);
        assert!(!spread.failed(0, 1) && !spread.failed(0, 1));
        assert_eq!(spread.choose(&[0; 2]), 0);
        assert!(spread.failed(0, 1), "the third fault");
        assert!(!spread.failed(0, 1), "it is said once");
        spread.servers[1].under_way = 60;
        assert_eq!(spread.choose(&[0, 0]), 1);
        assert_eq!(spread.choose(&[0, 1]), 1);
        assert_eq!(spread.choose(&[0, 3]), 0, "the other one does not have it");
        assert!(!spread.failed(1, FAULTS_MAX), "there is no other one to go to");
        assert_eq!(spread.choose(&[0, 0]), 0);
    }

    #[test]
    fn more_is_under_way_for_as_long_as_more_comes() {
        let mut pace = Pace::new(8);
        let mut now = Duration::ZERO;
        // Each range takes a second however many there are: a long way that is not full.
        let mut seen = vec![pace.under_way_max];
        for _ in 0..6 {
            now += Duration::from_secs(1);
            for _ in 0..pace.under_way_max {
                pace.arrived(1 << 20, now);
            }
            seen.push(pace.under_way_max);
        }
        assert_eq!(seen, [2, 3, 5, 8, 8, 8, 8]);
        // A link that is full: more at once come no faster.
        let mut pace = Pace::new(8);
        now = Duration::ZERO;
        for _ in 0..100 {
            now += Duration::from_secs(1);
            pace.arrived(1 << 20, now);
        }
        assert!(pace.under_way_max <= 3, "{}", pace.under_way_max);
        pace.failed(now);
        pace.failed(now);
        assert_eq!(pace.under_way_max, 1);
        assert_eq!(Pace::new(1).under_way_max, 1);
        assert_eq!(Pace::new(0).under_way_max, 1);
    }
}
