//! Being told: many hosts that watch a ref, how soon all of them know that it has moved, and what the server uses while
//! nothing happens.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::bench::{Bench, check_same};
use crate::data;
use crate::ours::Ours;
use crate::report::{Bar, Section, Table};

/// Hosts that watch.
const HOSTS: usize = 50;
/// Times that something is published, for each run of other workloads.
const ROUNDS: usize = 3;
/// How long a step may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the server has for what it prepares after a publication, and then how long nothing happens.
const IDLE: Duration = Duration::from_secs(60);
const IDLE_QUICK: Duration = Duration::from_secs(20);
const TOLD_MAX: Duration = Duration::from_secs(1);
/// Thousandths of a core.
const IDLE_MAX: u64 = 50;

/// What a host says, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Message {
        text: String,
    },
    Applied {
        seq: u64,
    },
    #[serde(other)]
    Other,
}

/// Something that happened on a host.
enum News {
    Told,
    Applied(u64),
}

/// A host that watches; it ends when this is dropped.
struct Watcher(Child);

impl Watcher {
    fn start(mut command: Command, host: usize, news: Sender<(usize, SystemTime, News)>) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("starting a host")?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let time = SystemTime::now();
                let found = match serde_json::from_str(&line) {
                    Ok(Event::Message { text }) if text.ends_with("a server tells of something new") => {
                        News::Told
                    }
                    Ok(Event::Applied { seq }) => News::Applied(seq),
                    _ => continue,
                };
                // Nobody listens any more when the run is over.
                let _ = news.send((host, time, found));
            }
        });
        Ok(Self(child))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long after the publication all hosts knew, and had applied it; sorted.
struct Round {
    told: Vec<Duration>,
    applied: Vec<Duration>,
}

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let tree = bench.scratch("watching/tree")?;
    let small = data::few_files(bench)?;
    crate::bench::prepare(bench.environment.command("cp").arg("--archive").arg(&small).arg(&tree))?;
    let mut table = Table {
        head: ["", "told: first, s", "middle, s", "last, s", "applied: middle, s", "last, s"]
            .map(ToOwned::to_owned)
            .to_vec(),
        rows: Vec::new(),
    };
    let (mut rounds, mut idle) = (Vec::new(), None);
    if !bench.peers_only() {
        (rounds, idle) = measured(bench, &tree).map(|(rounds, idle)| (rounds, Some(idle)))?;
    }
    for (number, round) in rounds.iter().enumerate() {
        let middle = |times: &[Duration]| times[times.len() / 2];
        let last = |times: &[Duration]| times[times.len() - 1];
        let times = [
            round.told[0],
            middle(&round.told),
            last(&round.told),
            middle(&round.applied),
            last(&round.applied),
        ];
        let cells = times.map(|time| format!("{:.3}", time.as_secs_f64()));
        table.rows.push([vec![format!("publication {}", number + 1)], cells.to_vec()].concat());
    }
    let slowest = rounds.iter().filter_map(|round| round.told.last()).max().copied();
    let told = Bar::compare(&format!("all {HOSTS} told within 1 s"), slowest, Some(TOLD_MAX), |ours, bar| {
        ours <= bar
    });
    let share = idle.map(|(cpu, wall): (Duration, Duration)| {
        u64::try_from(cpu.as_micros() * 1000 / wall.as_micros().max(1)).unwrap_or(u64::MAX)
    });
    let mut quiet = Bar::new("server under 5 % of a core when idle", share.map(|share| share < IDLE_MAX));
    if let Some((share, (cpu, wall))) = share.zip(idle) {
        let (percent, rest) = (share / 10, share % 10);
        let (cpu, wall) = (cpu.as_millis(), wall.as_secs());
        quiet = quiet.with_detail(format!("{cpu} ms of CPU time in {wall} s, {percent}.{rest} %"));
    }
    let method = format!(
        "{HOSTS} processes of `smart-sync watch` on the machine of the server, without jitter, each with a target and a \
         state of its own ({}). One file changes and is published; times are from the moment at which the log on the \
         server's disk has the publication, until a host says that it was told, and until it says that it has applied \
         it, which all of them do at once on the cores of this machine. Then nothing is published, all hosts go on \
         listening, and it is counted what the server uses, from {} s after the last publication on, when it has \
         prepared what it has to prepare for that.",
        super::sizes(&tree),
        if bench.scale.generated { IDLE_QUICK } else { IDLE }.as_secs()
    );
    let title = format!("Telling {HOSTS} hosts");
    Ok(Section { title, method, tables: vec![table], rows: Vec::new(), bars: vec![told, quiet] })
}

fn measured(bench: &Bench, tree: &Path) -> Result<(Vec<Round>, (Duration, Duration))> {
    let realm = Ours::start(bench)?;
    realm.publish(tree)?;
    let (sender, news) = mpsc::channel();
    let mut watchers = Vec::new();
    let targets = bench.scratch("watching/targets")?;
    fs::create_dir_all(&targets).context("making a directory")?;
    for number in 0..HOSTS {
        let host = format!("watcher-{number}");
        realm.trust(&host, realm.url())?;
        let command = realm.watch(&host, &targets.join(number.to_string()));
        watchers.push(Watcher::start(command, number, sender.clone())?);
    }
    crate::say("  all hosts listen");
    // A host that has applied something after it was told listens, and waits.
    wait(&news, 1, |host: &Seen| host.told.is_some_and(|told| host.applied.is_some_and(|at| at > told)))?;
    let mut rounds = Vec::new();
    for number in 0..ROUNDS * bench.runs {
        fs::write(tree.join("announced"), format!("{number}\n")).context("changing a file")?;
        realm.publish(tree)?;
        let checkpoint = realm.data().join("log/checkpoint");
        let published = fs::metadata(&checkpoint).and_then(|metadata| metadata.modified())?;
        let seen =
            wait(&news, number as u64 + 2, |host: &Seen| host.told.is_some() && host.applied.is_some())?;
        let after = |times: Vec<Option<SystemTime>>| -> Result<Vec<Duration>> {
            let since = |time: Option<SystemTime>| {
                time.context("it was seen")?
                    .duration_since(published)
                    .context("the clock signed in between: run it again")
            };
            let mut times = times.into_iter().map(since).collect::<Result<Vec<_>>>()?;
            times.sort_unstable();
            Ok(times)
        };
        rounds.push(Round {
            told: after(seen.iter().map(|host| host.told).collect())?,
            applied: after(seen.iter().map(|host| host.applied).collect())?,
        });
    }
    for number in [0, HOSTS - 1] {
        check_same("smart-sync watch", tree, &targets.join(number.to_string()))?;
    }
    crate::say("  nothing happens");
    let span = if bench.scale.generated { IDLE_QUICK } else { IDLE };
    std::thread::sleep(span);
    let before = realm.server_usage()?.cpu;
    let begun = std::time::Instant::now();
    std::thread::sleep(span);
    let used = realm.server_usage()?.cpu.saturating_sub(before);
    let span = begun.elapsed();
    for watcher in &mut watchers {
        ensure!(watcher.0.try_wait()?.is_none(), "a host has ended");
    }
    Ok((rounds, (used, span)))
}

/// When a host was told for the first time since it was asked, and when it last said that it has a version.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    told: Option<SystemTime>,
    applied: Option<SystemTime>,
}

/// Waits until this holds for every host. Only a version of this number counts as applied.
fn wait(
    news: &Receiver<(usize, SystemTime, News)>,
    seq: u64,
    is_done: impl Fn(&Seen) -> bool,
) -> Result<Vec<Seen>> {
    let mut seen = vec![Seen::default(); HOSTS];
    while !seen.iter().all(&is_done) {
        let (host, time, news) = news.recv_timeout(PATIENCE).context("waiting for the hosts")?;
        match news {
            News::Told => seen[host].told = seen[host].told.or(Some(time)),
            News::Applied(applied) if applied == seq => seen[host].applied = Some(time),
            News::Applied(_) => {}
        }
    }
    Ok(seen)
}
