//! Listening to a server: a stream of server-sent events, of which the data count.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Response;
use tokio::time::timeout;

use super::{RemoteError, Traffic};

/// The longest line of a stream.
const LINE_BYTES_MAX: usize = 4096;
/// A stream that says nothing for so long, not even that it is there, is not there any more.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A stream of events.
#[derive(Debug)]
pub struct Events {
    response: Response,
    url: String,
    traffic: Arc<Traffic>,
    lines: Lines,
}

impl Events {
    pub(super) fn new(response: Response, url: String, traffic: Arc<Traffic>) -> Self {
        Self { response, url, traffic, lines: Lines::default() }
    }

    /// The next event's data; nothing at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<String>, RemoteError> {
        loop {
            if let Some(data) = self.lines.next_event() {
                return Ok(Some(data));
            }
            let Ok(piece) = timeout(SILENCE_MAX, self.response.chunk()).await else {
                return Err(RemoteError::Unanswered {
                    url: self.url.clone(),
                    seconds: SILENCE_MAX.as_secs(),
                });
            };
            let broken = |source: reqwest::Error| RemoteError::Broken {
                url: self.url.clone(),
                source: source.without_url(),
            };
            let Some(piece) = piece.map_err(broken)? else { return Ok(None) };
            self.traffic.received.fetch_add(piece.len() as u64, Ordering::Relaxed);
            if !self.lines.push(&piece) {
                let limit = LINE_BYTES_MAX as u64;
                return Err(RemoteError::TooLong { url: self.url.clone(), limit });
            }
        }
    }
}

/// The lines of a stream that have come and were not looked at.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    data: Option<String>,
}

impl Lines {
    /// Takes what came next; false where a line has no end.
    fn push(&mut self, piece: &[u8]) -> bool {
        self.bytes.extend_from_slice(piece);
        let last_line = self.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.bytes.len() - last_line <= LINE_BYTES_MAX
    }

    /// The data of the next event that has come as a whole.
    fn next_event(&mut self) -> Option<String> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                if let Some(data) = self.data.take() {
                    return Some(data);
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data = Some(data.strip_prefix(' ').unwrap_or(data).to_owned());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&str]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in pieces {
            assert!(lines.push(piece.as_bytes()));
            found.extend(std::iter::from_fn(|| lines.next_event()));
        }
        found
    }

    #[test]
    fn data_come_out_once_their_event_is_whole() {
        assert_eq!(events(&["data: 1\n\n"]), ["1"]);
        assert_eq!(events(&["da", "ta:2\r\n", "\r\ndata: 3\n", "id: 7\n:\n\ndata: 4"]), ["2", "3"]);
        assert_eq!(events(&[":\n\n\n\nevent: x\n\n"]), [""; 0]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        assert!(lines.push(b"data: 1\n\n"));
        assert!(lines.push(&[b'x'; LINE_BYTES_MAX]));
        assert!(!lines.push(b"x"));
    }
}
