//! `watch`: targets that follow what is published, for as long as the program runs.
//!
//! Servers tell of what has moved, and only then they are asked; now and then they are asked anyway, because nobody
//! has to tell. Each attempt is a sync like any other: being told proves nothing.

mod listen;
pub mod pace;
pub mod windows;

use std::time::Duration;

use jiff::Zoned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::listen::listen;
use self::pace::{after_failures, after_news, after_success, random};
use self::windows::{Window, next_open};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::realm::remote::Remote;
use crate::settings::SyncSettings;
use crate::sync::{self, Surroundings};

/// A clock may be set, and a laptop sleeps: the time of day is looked at again at least so often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What is watched, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSettings {
    /// The targets.
    pub targets: Vec<SyncSettings>,
    /// How often servers are asked that have not told of anything.
    pub every: Duration,
    /// The longest wait after something was told of.
    pub jitter: Duration,
    /// When targets may be changed.
    pub windows: Vec<Window>,
}

/// When a target is synced next.
#[derive(Debug)]
struct Agenda {
    due: Instant,
    failures: u32,
    /// The opening of a window that it was said to wait for.
    waits_for: Option<Zoned>,
}

/// Follows until it is asked to end.
pub fn run(settings: &WatchSettings, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let (sender, mut news) = mpsc::channel(settings.targets.len().max(1));
    let mut listeners = tokio::task::JoinSet::new();
    for (index, target) in settings.targets.iter().enumerate() {
        for (remote, path) in streams(target, surroundings)? {
            listeners.spawn_on(listen(remote, path, index, sender.clone()), surroundings.runtime);
        }
    }
    tell_service_manager(surroundings);
    let now = Instant::now();
    let agenda = |_: &SyncSettings| Agenda { due: now, failures: 0, waits_for: None };
    let mut agendas: Vec<Agenda> = settings.targets.iter().map(agenda).collect();
    loop {
        let due = agendas.iter().map(|agenda| agenda.due).min().unwrap_or(now + LOOK_EVERY);
        match surroundings.runtime.block_on(wait(surroundings.interrupt, &mut news, due)) {
            Woken::Interrupted => return Ok(Exit::Success),
            Woken::Told(target) => {
                let path = settings.targets[target].target.display();
                surroundings.output.detail(&format!("{path}: a server tells of something new"));
                let soon = Instant::now() + after_news(settings.jitter, random());
                agendas[target].due = agendas[target].due.min(soon);
            }
            Woken::Due => {}
        }
        for (target, agenda) in settings.targets.iter().zip(&mut agendas) {
            if agenda.due > Instant::now() {
                continue;
            }
            match wait_for_window(settings, target, agenda, surroundings) {
                Some(wait) => agenda.due = Instant::now() + wait.min(LOOK_EVERY),
                None => attempt(settings, target, agenda, surroundings)?,
            }
        }
    }
}

/// Tells systemd, where it is listening, that the targets are watched from now on.
fn tell_service_manager(surroundings: &Surroundings<'_>) {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        surroundings.output.warning(&format!("telling systemd that it has begun: {error}"));
    }
}

/// The streams that tell of a target's ref: one of each server.
fn streams(target: &SyncSettings, surroundings: &Surroundings<'_>) -> Result<Vec<(Remote, String)>, Failure> {
    let Some((realm, channel)) = sync::realm_of(target, surroundings)? else { return Ok(Vec::new()) };
    let (channel, reference) = (channel.to_url_segment(), target.tree.reference.to_url_segment());
    let path = format!("v1/events/{channel}/{reference}");
    Ok(realm.remotes().iter().map(|remote| (remote.clone(), path.clone())).collect())
}

/// What ended a wait.
enum Woken {
    Due,
    Told(usize),
    Interrupted,
}

async fn wait(interrupt: &Interrupt, news: &mut mpsc::Receiver<usize>, due: Instant) -> Woken {
    tokio::select! {
        biased;
        () = interrupt.requested() => Woken::Interrupted,
        Some(target) = news.recv() => Woken::Told(target),
        () = tokio::time::sleep_until(due.min(Instant::now() + LOOK_EVERY)) => Woken::Due,
    }
}

/// How long it is until a window opens, if none is open; says so once.
fn wait_for_window(
    settings: &WatchSettings,
    target: &SyncSettings,
    agenda: &mut Agenda,
    surroundings: &Surroundings<'_>,
) -> Option<Duration> {
    let now = Zoned::now();
    let opens = next_open(&settings.windows, &now);
    let wait = windows::wait(&now, opens.as_ref());
    if wait.is_none() {
        agenda.waits_for = None;
        return None;
    }
    if agenda.waits_for != opens {
        let at =
            opens.as_ref().map_or_else(|| "ever".to_owned(), |at| at.strftime("%a %F %H:%M %Z").to_string());
        surroundings.output.info(&format!("{} is not changed before {at}", target.target.display()));
        agenda.waits_for = opens;
    }
    wait
}

fn attempt(
    settings: &WatchSettings,
    target: &SyncSettings,
    agenda: &mut Agenda,
    surroundings: &Surroundings<'_>,
) -> Result<(), Failure> {
    let wait = match sync::run(target, surroundings) {
        Ok(_) => {
            agenda.failures = 0;
            after_success(settings.every, random())
        }
        // Another attempt would end like this one.
        Err(failure)
            if matches!(failure.exit(), Exit::Interrupted | Exit::Arguments | Exit::Configuration) =>
        {
            return Err(failure);
        }
        Err(failure) => {
            surroundings.output.failure(&failure);
            agenda.failures += 1;
            let wait = after_failures(agenda.failures, random()).min(settings.every);
            let target = target.target.display();
            surroundings.output.info(&format!("{target} is tried again in {} s", wait.as_secs().max(1)));
            wait
        }
    };
    agenda.due = Instant::now() + wait;
    Ok(())
}
