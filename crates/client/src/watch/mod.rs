//! `watch`: targets and profiles that follow what is published, for as long as the program runs.
//!
//! Servers tell of what has moved, and only then they are asked; now and then they are asked anyway, because nobody
//! has to tell. Each attempt is a sync like any other: being told proves nothing.

mod followed;
mod listen;
pub mod pace;
pub mod windows;

use std::collections::HashSet;
use std::time::Duration;

use jiff::Zoned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::followed::Followed;
use self::listen::listen;
use self::pace::{after_failures, after_news, after_success, random};
use self::windows::{Window, next_open};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::sync::Surroundings;

/// A clock may be set, and a laptop sleeps: the time of day is looked at again at least so often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What is watched, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSettings {
    /// What follows.
    pub targets: Vec<Followed>,
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

/// Who listens to what servers tell.
struct Listeners<'a> {
    tasks: JoinSet<()>,
    /// What is listened to: a server, a ref, and for whom.
    known: HashSet<(String, String, usize)>,
    sender: mpsc::Sender<usize>,
    surroundings: &'a Surroundings<'a>,
}

impl Listeners<'_> {
    /// Listens to everything that one of them follows now, where nobody does yet.
    fn listen(&mut self, index: usize, followed: &Followed) -> Result<(), Failure> {
        for (remote, path) in followed.streams(self.surroundings)? {
            if self.known.insert((remote.base().to_string(), path.clone(), index)) {
                let listening = listen(remote, path, index, self.sender.clone());
                self.tasks.spawn_on(listening, self.surroundings.runtime);
            }
        }
        Ok(())
    }
}

/// Follows until it is asked to end.
pub fn run(settings: &WatchSettings, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let (sender, mut news) = mpsc::channel(settings.targets.len().max(1));
    let mut listeners = Listeners { tasks: JoinSet::new(), known: HashSet::new(), sender, surroundings };
    for (index, followed) in settings.targets.iter().enumerate() {
        listeners.listen(index, followed)?;
    }
    tell_service_manager(surroundings);
    let now = Instant::now();
    let agenda = |_: &Followed| Agenda { due: now, failures: 0, waits_for: None };
    let mut agendas: Vec<Agenda> = settings.targets.iter().map(agenda).collect();
    loop {
        let due = agendas.iter().map(|agenda| agenda.due).min().unwrap_or(now + LOOK_EVERY);
        match surroundings.runtime.block_on(wait(surroundings.interrupt, &mut news, due)) {
            Woken::Interrupted => return Ok(Exit::Success),
            Woken::Told(target) => {
                let name = settings.targets[target].name();
                surroundings.output.detail(&format!("{name}: a server tells of something new"));
                let soon = Instant::now() + after_news(settings.jitter, random());
                agendas[target].due = agendas[target].due.min(soon);
            }
            Woken::Due => {}
        }
        for (index, (followed, agenda)) in settings.targets.iter().zip(&mut agendas).enumerate() {
            if agenda.due > Instant::now() {
                continue;
            }
            if let Some(wait) = wait_for_window(settings, followed, agenda, surroundings) {
                agenda.due = Instant::now() + wait.min(LOOK_EVERY);
                continue;
            }
            attempt(settings, followed, agenda, surroundings)?;
            // A profile may name other channels now.
            listeners.listen(index, followed)?;
        }
    }
}

/// Tells systemd, where it is listening, that the targets are watched from now on.
fn tell_service_manager(surroundings: &Surroundings<'_>) {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        surroundings.output.warning(&format!("telling systemd that it has begun: {error}"));
    }
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
    followed: &Followed,
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
        surroundings.output.info(&format!("{} is not changed before {at}", followed.name()));
        agenda.waits_for = opens;
    }
    wait
}

fn attempt(
    settings: &WatchSettings,
    followed: &Followed,
    agenda: &mut Agenda,
    surroundings: &Surroundings<'_>,
) -> Result<(), Failure> {
    let wait = match followed.run(surroundings) {
        Ok(_) => {
            agenda.failures = 0;
            after_success(settings.every, random())
        }
        // Another attempt would end like this one.
        Err(failure) if followed.is_final(failure.exit()) => return Err(failure),
        Err(failure) => {
            surroundings.output.failure(&failure);
            agenda.failures += 1;
            let wait = after_failures(agenda.failures, random()).min(settings.every);
            let name = followed.name();
            surroundings.output.info(&format!("{name} is tried again in {} s", wait.as_secs().max(1)));
            wait
        }
    };
    agenda.due = Instant::now() + wait;
    Ok(())
}
