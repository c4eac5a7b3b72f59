//! Being told by a realm's servers that a ref has moved.

use std::time::Duration;

use tokio::sync::mpsc::Sender;

use super::pace::{before_listening, random};
use crate::realm::remote::{Remote, RemoteError};

/// A stream that lasted so long was a good one: the next one is begun at once.
const GOOD: Duration = Duration::from_secs(30);

/// Listens to a server about one ref for ever, and tells of each move. Ends where the server has no such streams, as
/// an export or an older server.
pub(super) async fn listen(remote: Remote, path: String, target: usize, news: Sender<usize>) {
    let mut known = None;
    let mut failures = 0;
    loop {
        let begun = tokio::time::Instant::now();
        match hear(&remote, &path, target, &news, &mut known).await {
            Ok(()) => {}
            Err(error) if error.is_of_static_files() => {
                tracing::debug!(server = %remote.base(), "this server tells nothing; it is asked from time to time");
                return;
            }
            Err(error) => tracing::debug!(%error, "listening"),
        }
        if news.is_closed() {
            return;
        }
        failures = if begun.elapsed() >= GOOD { 1 } else { failures + 1 };
        tokio::time::sleep(before_listening(failures, random())).await;
    }
}

/// Listens to one stream to its end.
async fn hear(
    remote: &Remote,
    path: &str,
    target: usize,
    news: &Sender<usize>,
    known: &mut Option<String>,
) -> Result<(), RemoteError> {
    let mut events = remote.events(path).await?;
    while let Some(number) = events.next().await? {
        // What moved while nobody listened is told of by the first number of the next stream.
        if known.as_ref() != Some(&number) && news.send(target).await.is_err() {
            return Ok(());
        }
        *known = Some(number);
    }
    Ok(())
}
