//! What there was on a day, of kinds whose trees are dated by their contents.
//!
//! When something came from elsewhere says nothing of what there was. So its history is followed back from the newest
//! publication, which is proven, to the newest one whose content is of the day; each names the one before it, so that no
//! server can pass one over. That one is proven like any other, as of a second at which it stood.

use smart_sync_sync::kinds;
use smart_sync_sync::name::{Channel, Kind, RefQuery};
use smart_sync_sync::time::UnixTime;

use super::ask::Asked;
use super::{Realm, Resolved};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::realm::history::History;
use crate::realm::remote::{OTHER_ANSWER_HINT, Remote};

/// The most bytes of an answer that is a time.
const TIME_BYTES_MAX: u64 = 32;

impl Realm {
    /// What a ref was on a day, where `stood` is what stood there then.
    pub(super) async fn resolve_by_content(
        &self,
        channel: &Channel,
        query: &RefQuery,
        at: UnixTime,
        kind: Option<&Kind>,
        stood: Result<Resolved, Asked>,
        output: &Output,
    ) -> Result<Resolved, Asked> {
        let may_be_by_content = match &stood {
            Ok(resolved) => is_dated_by_content(resolved),
            Err(asked) => asked.is_absence(),
        };
        if !may_be_by_content {
            return stood;
        }
        let current = RefQuery { at: None, ..query.clone() };
        let newest = match self.resolve_in_log(channel, &current, kind, None, output).await {
            Ok(newest) if is_dated_by_content(&newest) => newest,
            Ok(_) => return stood,
            // It says more of the ref than that nothing stood there.
            Err(asked) if stood.is_err() && asked.is_absence() => return stood,
            Err(asked) => return Err(asked),
        };
        let (reference, remotes) = (newest.reference.clone(), newest.remotes.clone());
        let history = History { remotes: &remotes, channel, reference: &reference };
        let end = (newest.verified.head.seq, newest.verified.publication.leaf());
        let found = history
            .find(end, |publication| publication.manifest.is_some() && publication.content_time <= at)
            .await?;
        let Some((seq, leaf)) = found else {
            let text = format!("{channel} {reference} has nothing that is of {at} or older");
            return Err(Failure::message(Exit::General, text)
                .hint("`smart-sync log --json` shows of which time the content of each publication is")
                .into());
        };
        if seq == end.0 {
            return Ok(newest);
        }
        let time = time_of(&remotes, &history, seq).await?;
        let then = RefQuery { at: Some(time), ..query.clone() };
        let resolved = self.resolve_in_log(channel, &then, kind, None, output).await?;
        if resolved.verified.publication.leaf() != leaf {
            let text = format!("{channel} {reference} was not number {seq} at {time}, as a server says");
            return Err(Failure::message(Exit::Network, text)
                .hint("try another mirror with --server")
                .into());
        }
        Ok(resolved)
    }
}

fn is_dated_by_content(resolved: &Resolved) -> bool {
    kinds::is_dated_by_content(&resolved.verified.publication.record().kind)
}

/// A second at which a publication stood at its ref, from the first server that says one.
async fn time_of(remotes: &[Remote], of: &History<'_>, seq: u64) -> Result<UnixTime, Failure> {
    let path = format!("v1/time/{}/{}/{seq}", of.channel.to_url_segment(), of.reference.to_url_segment());
    let mut last = None;
    for remote in remotes {
        match remote.get(&path, TIME_BYTES_MAX).await {
            Ok(bytes) => {
                if let Some(time) = parse_time(&bytes) {
                    return Ok(time);
                }
                let text = format!("{} does not answer as a smart-sync server does", remote.base());
                last = Some(Failure::message(Exit::Network, text).hint(OTHER_ANSWER_HINT));
            }
            Err(error) => last = Some(error.into()),
        }
    }
    Err(last.unwrap_or_else(|| Failure::message(Exit::Network, "no server could be asked")))
}

fn parse_time(bytes: &[u8]) -> Option<UnixTime> {
    UnixTime::new(str::from_utf8(bytes).ok()?.trim_end().parse().ok()?)
}
