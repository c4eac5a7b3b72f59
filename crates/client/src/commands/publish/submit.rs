//! Handing in a publication, and seeing it in the log.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use smart_sync_sync::evidence::EVIDENCE_BYTES_MAX;
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::record::Publication;
use smart_sync_sync::wire::submission::{Sidecar, Submission};

use super::Publisher;
use crate::commands::wait_for;
use crate::failure::{Exit, Failure};
use crate::realm::history::History;
use crate::realm::remote::RemoteError;
use crate::realm::resolve::RefStanding;

/// How long a server may take to look at everything that a publication refers to.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long, in seconds, is waited for a clock on another machine.
const CLOCK_SECONDS: u64 = 30;

/// Whether the log was seen to hold a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// It was proven.
    Proven,
    /// The server has taken it, and does not show it yet.
    NotYet,
}

/// Somebody else has published in between.
#[derive(Debug)]
pub(super) struct Overtaken(String);

impl fmt::Display for Overtaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Overtaken {}

impl Publisher<'_> {
    /// Hands in a publication, and looks for it in the log.
    pub(super) fn submit(
        &self,
        note: Vec<u8>,
        sidecars: Vec<Sidecar>,
        publication: &Publication,
    ) -> Result<Shown, Failure> {
        let leaf = LogHash::of_leaf(&note);
        let body = Submission { note, sidecars }.encode();
        let remote = self.remote();
        let limit = EVIDENCE_BYTES_MAX as u64;
        let sending =
            async { Ok(remote.upload(Method::POST, "v1/publish", body.into(), PATIENCE, limit).await) };
        match wait_for(self.surroundings, sending)? {
            // The answer is for a reader who knows nothing. Evidence that goes on from what is known here is asked
            // for like any other.
            Ok(_) => self.wait_until_shown(publication, leaf),
            // It may have been taken all the same, and only the answer lost.
            Err(error) if error.is_passing() && self.is_shown(publication, leaf)? => Ok(Shown::Proven),
            Err(error) => Err(refused(error, publication)),
        }
    }

    fn wait_until_shown(&self, publication: &Publication, leaf: LogHash) -> Result<Shown, Failure> {
        for _ in 0..CLOCK_SECONDS {
            if self.is_shown(publication, leaf)? {
                return Ok(Shown::Proven);
            }
            let waiting = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(())
            };
            wait_for(self.surroundings, waiting)?;
        }
        Ok(Shown::NotYet)
    }

    fn is_in_history(
        &self,
        newest: (u64, LogHash),
        own: (u64, LogHash),
        publication: &Publication,
    ) -> Result<bool, Failure> {
        let Publication { channel, reference, .. } = publication;
        let history = History { remotes: std::slice::from_ref(self.remote()), channel, reference };
        wait_for(self.surroundings, history.holds(newest, own))
    }

    /// Whether the evidence shows this publication at its ref. Another one of the same number is a failure.
    fn is_shown(&self, publication: &Publication, leaf: LogHash) -> Result<bool, Failure> {
        let (seq, found) = match self.standing(&publication.reference)? {
            RefStanding::Absent => return Ok(false),
            RefStanding::Published(found) => (found.head.seq, found.publication.leaf()),
            RefStanding::Withdrawn { seq, leaf } | RefStanding::Void { seq, leaf } => (seq, leaf),
        };
        match seq.cmp(&publication.seq) {
            Ordering::Less => Ok(false),
            Ordering::Equal if found == leaf => Ok(true),
            Ordering::Greater
                if self.is_in_history((seq, found), (publication.seq, leaf), publication)? =>
            {
                self.output().warning("somebody else has published since, and theirs is the newest now");
                Ok(true)
            }
            _ => Err(overtaken(publication)),
        }
    }
}

fn refused(error: RemoteError, publication: &Publication) -> Failure {
    match error.status() {
        Some(StatusCode::CONFLICT) => overtaken(publication),
        _ => Failure::from(error).context(format!(
            "publishing {} {} as number {}",
            publication.channel, publication.reference, publication.seq
        )),
    }
}

fn overtaken(publication: &Publication) -> Failure {
    let text = format!(
        "somebody else published {} {} in between: number {} is taken",
        publication.channel, publication.reference, publication.seq
    );
    Failure::new(Exit::General, Overtaken(text)).hint("look at it with `smart-sync log`, and run this again if yours is still to be the newest; nothing is sent twice")
}
