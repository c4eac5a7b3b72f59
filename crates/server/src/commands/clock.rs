//! `clock`: stands for the time of a checkpoint, from this or another machine.
//!
//! The clock believes nothing that it is told. It reads every leaf of the log itself, recomputes every table of
//! heads, and signs only a log that grew from the one it signed last. What it remembers is one checkpoint, so a
//! server that was set back, or shows it another history, gets no more signatures.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::{Client, Url};
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::log::audit::LogAudit;
use smart_sync_sync::log::checkpoint::Checkpoint;
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::log::tile::{BUNDLE_BYTES_MAX, Tile, read_bundle};
use smart_sync_sync::note::{NOTE_BYTES_MAX, Note};
use smart_sync_sync::record::Root;
use smart_sync_sync::time::UnixTime;

use super::Failure;
use crate::args::ClockArgs;
use crate::durable;
use crate::http::now;

pub(super) async fn run(args: &ClockArgs) -> anyhow::Result<()> {
    let mut clock = Clock::open(args)?;
    if args.interval == 0 {
        return clock.sign().await;
    }
    let mut interval = tokio::time::interval(Duration::from_secs(args.interval));
    loop {
        interval.tick().await;
        match clock.sign().await {
            Ok(()) => {}
            // A server that is away comes back; one that rewrote its log does not get better.
            Err(error) if error.is::<Failure>() => return Err(error),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "not signed this time"),
        }
    }
}

struct Clock {
    client: Client,
    server: Url,
    key: SecretKey,
    pin: LogHash,
    seen: PathBuf,
    /// All leaves that were read, and where that led.
    audit: Option<LogAudit>,
}

impl Clock {
    fn open(args: &ClockArgs) -> anyhow::Result<Self> {
        let mut server: Url = args.server.parse().map_err(|error| {
            Failure::Arguments(format!("--server {:?} is not a URL: {error}", args.server))
        })?;
        if !server.path().ends_with('/') {
            let path = format!("{}/", server.path());
            server.set_path(&path);
        }
        let pin = args.root.parse().map_err(|error| Failure::Arguments(format!("--root: {error}")))?;
        fs::create_dir_all(&args.state).with_context(|| format!("making {}", args.state.display()))?;
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("preparing for HTTP")?;
        Ok(Self {
            client,
            server,
            key: SecretKey::load(&args.key, &mut || None)?,
            pin,
            seen: args.state.join("checkpoint"),
            audit: None,
        })
    }

    async fn sign(&mut self) -> anyhow::Result<()> {
        let bytes = self.get("v1/unsigned-checkpoint", NOTE_BYTES_MAX).await?;
        let note = Note::parse(&bytes).map_err(refused)?;
        let checkpoint = Checkpoint::parse(note.text()).map_err(refused)?;
        let audit = self.read_log(&checkpoint).await?;
        audit.check(&checkpoint).map_err(refused)?;
        let root = audit.root().context("the log has no root document")?.record();
        check_log_signature(&note, root)?;
        self.check_growth(&checkpoint, &audit).await?;
        // Remembered before it is signed: a signature that this clock does not know of could be one of two.
        durable::write(&self.seen, checkpoint.to_text().as_bytes())?;
        let size = checkpoint.size;
        self.audit = Some(audit);
        let time = UnixTime::new(now()).context("the clock of this machine is beyond the year 9999")?;
        let mut signed = Note::new(note.text().to_owned())?;
        signed.cosign(&self.key, time)?;
        self.post("v1/cosignature", signed.to_bytes()).await?;
        tracing::info!(size, "signed");
        Ok(())
    }

    /// Reads the leaves that are new since the last time, and judges each of them.
    async fn read_log(&self, checkpoint: &Checkpoint) -> anyhow::Result<LogAudit> {
        let mut audit = match &self.audit {
            Some(audit) if audit.edge().size() <= checkpoint.size => audit.clone(),
            _ => LogAudit::new(checkpoint.origin.clone()),
        };
        while let Some(tile) = Tile::of_leaf(audit.edge().size(), checkpoint.size) {
            let bundle = self.get(&tile.to_string(), BUNDLE_BYTES_MAX).await?;
            let skip = usize::try_from(audit.edge().size() - tile.start())?;
            for leaf in read_bundle(&bundle, tile.width()).map_err(refused)?.into_iter().skip(skip) {
                if audit.edge().size() == 0 && LogHash::of_leaf(leaf) != self.pin {
                    return Err(refused(format!(
                        "the log begins with {}, not with {}",
                        LogHash::of_leaf(leaf),
                        self.pin
                    )));
                }
                audit.push(leaf).map_err(refused)?;
            }
        }
        Ok(audit)
    }

    /// Checks that the log grew from the one that was signed last.
    async fn check_growth(&self, checkpoint: &Checkpoint, audit: &LogAudit) -> anyhow::Result<()> {
        let text = match fs::read_to_string(&self.seen) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.seen.display())),
        };
        let seen = Checkpoint::parse(&text).with_context(|| format!("in {}", self.seen.display()))?;
        if seen.origin != checkpoint.origin || seen.size > checkpoint.size {
            return Err(refused(format!(
                "the log of {} has {} leaves, and this clock has signed {} of {}: the server was set back; restore \
                 it from a mirror that has the rest",
                checkpoint.origin, checkpoint.size, seen.size, seen.origin
            )));
        }
        let before = match &self.audit {
            Some(before) if before.edge().size() == seen.size => before.edge().root(),
            // After a restart the older root is computed from the leaves as they are now.
            _ => self.root_at(seen.size, checkpoint, audit).await?,
        };
        if before == seen.root {
            Ok(())
        } else {
            Err(refused("the log was rewritten; nothing is signed any more".to_owned()))
        }
    }

    async fn root_at(&self, size: u64, checkpoint: &Checkpoint, audit: &LogAudit) -> anyhow::Result<LogHash> {
        if size == audit.edge().size() {
            return Ok(audit.edge().root());
        }
        let older = Checkpoint { size, ..checkpoint.clone() };
        let mut again = LogAudit::new(checkpoint.origin.clone());
        while let Some(tile) = Tile::of_leaf(again.edge().size(), older.size) {
            // The tile as it is in the newest log: an old width may be gone.
            let Some(newest) = Tile::of_leaf(again.edge().size(), checkpoint.size) else { break };
            let bundle = self.get(&newest.to_string(), BUNDLE_BYTES_MAX).await?;
            let leaves = read_bundle(&bundle, newest.width()).map_err(refused)?;
            for leaf in leaves.into_iter().take(usize::from(tile.width())) {
                again.push(leaf).map_err(refused)?;
            }
        }
        Ok(again.edge().root())
    }

    async fn get(&self, path: &str, limit: usize) -> anyhow::Result<Vec<u8>> {
        let url = self.server.join(path)?;
        let asking = || format!("asking for {url}");
        let mut response = self.client.get(url.clone()).send().await.with_context(asking)?;
        ensure!(response.status().is_success(), "{url} was answered with {}", response.status());
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.with_context(asking)? {
            if bytes.len() + piece.len() > limit {
                bail!("{url} is longer than {limit} bytes");
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> anyhow::Result<()> {
        let url = self.server.join(path)?;
        let response = self.client.post(url.clone()).body(body).send().await;
        let response = response.with_context(|| format!("sending to {url}"))?;
        ensure!(response.status().is_success(), "{url} was answered with {}", response.status());
        Ok(())
    }
}

fn check_log_signature(note: &Note, root: &Root) -> anyhow::Result<()> {
    let by = note.verified_by(&root.log.keys).map_err(refused)?;
    if by.len() < root.log.threshold {
        return Err(refused("the checkpoint is not signed by the log key".to_owned()));
    }
    Ok(())
}

fn refused(why: impl std::fmt::Display) -> anyhow::Error {
    Failure::Refused(why.to_string()).into()
}
