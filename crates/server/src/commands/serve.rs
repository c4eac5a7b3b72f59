//! `serve`

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::ServeArgs;
use crate::bundles;
use crate::data_dir::DataDir;
use crate::http::listen::{Listener, bind};
use crate::http::{App, now, router};
use crate::mirrors::{self, Mirrors};
use crate::realm::Realm;
use crate::realm::peers::ASK_EVERY;
use crate::see_through;
use crate::tokens::{TokenStore, path_in};
use crate::views;

pub(super) async fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let data = DataDir::open(&args.data.path)?;
    let tokens = TokenStore::new(path_in(data.root()));
    let realm = Arc::new(Realm::open(data, now()).await?);
    realm.peers.ask(realm.newest_view()?.root.record()).await;
    if let Err(error) = realm.tick(now()) {
        // What there is can still be read, and clients judge for themselves how old it is.
        tracing::error!(error = format!("{error:#}"), "the clock did not sign");
    }
    let listen = if args.listen.is_empty() { &realm.config.listen } else { &args.listen };
    let sockets = bind(listen).await?;
    let bundles = bundles::open(&realm).await?;
    let mirrors = Mirrors::open(&realm)?;
    let _learning = mirrors.as_ref().map(mirrors::learn).transpose()?;
    let rsync_sockets = bind(&realm.config.rsync.listen).await?;
    let views = views::open(&realm)?;
    let app = Arc::new(App::new(Arc::clone(&realm), tokens, bundles.clone(), mirrors.clone(), views.clone()));
    let router = router(Arc::clone(&app));
    let listener = Arc::new(Listener::new(router, realm.config.tls.as_ref(), &realm.config.limits)?);
    // Whoever reads that it listens may ask it to stop at once.
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for Ctrl-C")?;
    for socket in &rsync_sockets {
        tracing::info!("rsync is answered on rsync://{}", socket.local_addr()?);
    }
    for socket in &sockets {
        tracing::info!("listening on {}://{}", listener.scheme(), socket.local_addr()?);
    }
    let rsync = views.map(|views| {
        let listener = views::rsync::listen::Listener::new(Arc::clone(&views.rsync), &realm.config.rsync);
        tokio::spawn(Arc::new(listener).serve(rsync_sockets))
    });
    let clock = tokio::spawn(clock(Arc::clone(&realm)));
    let peers = tokio::spawn(ask_peers(Arc::clone(&realm)));
    let announcing = tokio::spawn(Arc::clone(&app).announce());
    let _seeing_through = see_through::tend(Arc::clone(&realm))?;
    let following = mirrors.clone().map(|mirrors| tokio::spawn(mirrors::tend(mirrors)));
    let tending = bundles.clone().map(|bundles| tokio::spawn(bundles::tend(bundles, realm)));
    notify(&[sd_notify::NotifyState::Ready]);
    listener
        .serve(sockets, async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            notify(&[sd_notify::NotifyState::Stopping]);
            app.stop();
            if let Some(bundles) = &bundles {
                bundles.close();
            }
        })
        .await;
    if let Some(bundles) = &bundles {
        bundles.stop();
    }
    if let Some(mirrors) = &mirrors {
        mirrors.stop();
    }
    for task in [Some(clock), Some(peers), Some(announcing), tending, rsync, following].into_iter().flatten()
    {
        task.abort();
    }
    Ok(())
}

/// Signs the checkpoint again and again, so that clients can tell a server that is up to date from one that hides
/// what is new.
async fn clock(realm: Arc<Realm>) {
    let seconds = realm.config.clock_interval_seconds;
    if seconds == 0 {
        return;
    }
    let mut interval = tokio::time::interval(Duration::from_secs(seconds));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval.tick().await;
    loop {
        interval.tick().await;
        let realm = Arc::clone(&realm);
        match tokio::task::spawn_blocking(move || realm.tick(now())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = format!("{error:#}"), "the clock did not sign"),
            Err(error) => tracing::error!(%error, "the clock stopped"),
        }
    }
}

/// Asks the mirrors again and again how large their logs are.
async fn ask_peers(realm: Arc<Realm>) {
    if realm.peers.is_empty() {
        return;
    }
    let mut interval = tokio::time::interval(ASK_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval.tick().await;
    loop {
        interval.tick().await;
        let asked = Arc::clone(&realm);
        match tokio::task::spawn_blocking(move || asked.newest_view()).await {
            Ok(Ok(view)) => realm.peers.ask(view.root.record()).await,
            Ok(Err(error)) => tracing::error!(error = format!("{error:#}"), "reading the log"),
            Err(error) => tracing::error!(%error, "reading the log"),
        }
    }
}

/// Tells systemd, where it is listening.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "telling systemd");
    }
}
