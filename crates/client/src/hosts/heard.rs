//! What smart-sync says on another host: its events, one JSON object on each line.
//!
//! Anything may come: text of a login shell, lines without end, objects with other members. Of each line a bounded part
//! is looked at, of each text a bounded part is kept, and what is not understood is left out.

use serde::Deserialize;

/// The longest line that is looked at.
const LINE_BYTES_MAX: usize = 64 << 10;
/// What is kept of a text.
const TEXT_CHARS_MAX: usize = 400;
/// The causes of an error that are kept.
const CAUSES_MAX: usize = 8;
/// The messages of one host that are shown.
const MESSAGES_MAX: usize = 1000;
/// Lines that are no events, and are kept: the last ones.
const OTHERS_MAX: usize = 3;

/// What a run on another host has said.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The beginning of a line whose end did not come yet; nothing of one that is too long.
    line: Vec<u8>,
    is_too_long: bool,
    messages: usize,
    /// Whether an event came: the program runs there.
    pub(super) is_running: bool,
    /// What was applied last.
    pub(super) applied: Option<Applied>,
    /// Paths that were changed, in all targets together.
    pub(super) changes: u64,
    /// Why a version was taken back.
    pub(super) unhealthy: Option<String>,
    /// Why the run failed.
    pub(super) error: Option<String>,
    /// What it advises then.
    pub(super) hint: Option<String>,
    /// What was said last of what went well.
    pub(super) last: Option<String>,
    /// The last lines that were no events.
    pub(super) others: Vec<String>,
}

/// What a target holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) channel: String,
    pub(super) reference: String,
    pub(super) seq: u64,
    pub(super) manifest: String,
}

/// Something to be shown while the run goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) level: Level,
    pub(super) text: String,
}

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Info,
    Warning,
    #[serde(other)]
    Detail,
}

/// The members that are known, of all events together.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event {
    Message {
        level: Level,
        text: String,
    },
    Error {
        message: String,
        #[serde(default)]
        causes: Vec<String>,
        #[serde(default)]
        hints: Vec<String>,
    },
    Applied {
        #[serde(default)]
        origin: String,
        #[serde(default)]
        channel: String,
        #[serde(default, rename = "ref")]
        reference: String,
        #[serde(default)]
        seq: u64,
        manifest: String,
        #[serde(default)]
        changes: u64,
    },
    #[serde(alias = "set-unhealthy")]
    Unhealthy {
        reason: String,
    },
    #[serde(other)]
    Other,
}

impl Heard {
    /// Takes what came, and says what is to be shown of it.
    pub(super) fn feed(&mut self, bytes: &[u8], mut show: impl FnMut(Message)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, is_end) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            if self.line.len() + piece.len() > LINE_BYTES_MAX {
                self.is_too_long = true;
                self.line.clear();
            } else if !self.is_too_long {
                self.line.extend_from_slice(piece);
            }
            if is_end {
                let line = std::mem::take(&mut self.line);
                if !std::mem::take(&mut self.is_too_long) {
                    self.line(&line, &mut show);
                }
            }
        }
    }

    /// What came last, if it did not end as a line.
    pub(super) fn end(&mut self, mut show: impl FnMut(Message)) {
        self.feed(b"\n", &mut show);
    }

    fn line(&mut self, line: &[u8], show: &mut impl FnMut(Message)) {
        let Ok(event) = serde_json::from_slice::<Event>(line) else {
            let text = String::from_utf8_lossy(line);
            if !text.trim().is_empty() {
                self.others.push(shortened(text.trim()));
                self.others.drain(..self.others.len().saturating_sub(OTHERS_MAX));
            }
            return;
        };
        self.is_running = true;
        match event {
            Event::Message { level, text } => {
                let text = shortened(&text);
                if level == Level::Info {
                    self.last = Some(text.clone());
                }
                self.messages += 1;
                match self.messages {
                    ..=MESSAGES_MAX => show(Message { level, text }),
                    number if number == MESSAGES_MAX + 1 => {
                        let text = format!("it says more than these {MESSAGES_MAX} things");
                        show(Message { level: Level::Info, text });
                    }
                    _ => {}
                }
            }
            Event::Error { message, causes, hints } => {
                // The first one may be followed by those of other targets.
                if self.error.is_none() {
                    self.hint = hints.first().map(|hint| shortened(hint));
                }
                let all = [message].into_iter().chain(causes).take(CAUSES_MAX).collect::<Vec<_>>().join(": ");
                self.error.get_or_insert(shortened(&all));
            }
            Event::Applied { origin, channel, reference, seq, manifest, changes } => {
                let channel = if channel.is_empty() { origin } else { channel };
                let (channel, reference) = (shortened(&channel), shortened(&reference));
                self.applied = Some(Applied { channel, reference, seq, manifest: shortened(&manifest) });
                self.changes = self.changes.saturating_add(changes);
            }
            Event::Unhealthy { reason } => self.unhealthy = Some(shortened(&reason)),
            Event::Other => {}
        }
    }
}

/// The beginning of a text that may be of any length.
pub(super) fn shortened(text: &str) -> String {
    let mut characters = text.chars();
    let mut short: String = characters.by_ref().take(TEXT_CHARS_MAX).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(bytes: &[u8], piece: usize) -> (Heard, Vec<Message>) {
        let (mut heard, mut shown) = (Heard::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            heard.feed(piece, |message| shown.push(message));
        }
        heard.end(|message| shown.push(message));
        (heard, shown)
    }

    #[test]
    fn events_come_in_pieces_and_among_other_lines() {
        let text = concat!(
            "Last login: today\r\n",
            "{\"event\":\"message\",\"level\":\"info\",\"text\":\"downloading\"}\n",
            "{\"event\":\"progress\",\"work\":\"downloading\",\"done\":1,\"total\":2}\n",
            "{\"event\":\"message\",\"level\":\"warning\",\"text\":\"old\"}\n",
            "{\"event\":\"applied\",\"target\":\"/t\",\"origin\":\"o\",\"channel\":\"repos/a\",\"ref\":\"branch:main\",",
            "\"seq\":7,\"commit\":null,\"manifest\":\"blake3:ba64\",\"changes\":2,\"new\":[{}]}\n",
            "{\"event\":\"something\",\"new\":1}\n",
            "{\"event\":\"error\",\"exit\":5,\"message\":\"reading\",\"causes\":[\"no way\"],\"hints\":[\"try\"]}",
        );
        for piece in [1, 7, text.len()] {
            let (heard, shown) = heard(text.as_bytes(), piece);
            let levels: Vec<Level> = shown.iter().map(|message| message.level).collect();
            assert_eq!(levels, [Level::Info, Level::Warning]);
            let applied = heard.applied.unwrap();
            assert_eq!((applied.channel.as_str(), applied.seq, heard.changes), ("repos/a", 7, 2));
            assert_eq!(heard.error.as_deref(), Some("reading: no way"));
            assert_eq!(heard.hint.as_deref(), Some("try"));
            assert_eq!(heard.others, ["Last login: today"]);
            assert!(heard.is_running);
        }
    }

    #[test]
    fn what_comes_without_end_takes_no_room() {
        let long =
            [b"{\"event\":\"message\",\"text\":\"".as_slice(), &vec![b'x'; 1 << 20], b"\"}\n"].concat();
        let (heard, shown) = heard(&[long.as_slice(), b"after\n"].concat(), 1000);
        assert_eq!(
            (heard.others.as_slice(), shown.len(), heard.is_running),
            (&["after".to_owned()][..], 0, false)
        );
        let text = "y".repeat(50_000);
        let line = format!("{{\"event\":\"message\",\"level\":\"info\",\"text\":\"{text}\"}}\n").repeat(2000);
        let (mut heard, mut shown) = (Heard::default(), Vec::new());
        heard.feed(line.as_bytes(), |message| shown.push(message.text.chars().count()));
        assert_eq!(shown.len(), MESSAGES_MAX + 1);
        assert!(shown.iter().all(|length| *length <= TEXT_CHARS_MAX + 1));
        heard.feed("other\n".repeat(100).as_bytes(), |_| {});
        assert_eq!(heard.others.len(), OTHERS_MAX);
    }

    #[test]
    fn what_is_no_event_is_none() {
        let deep = format!("{}{}\n", "[".repeat(30_000), "]".repeat(30_000));
        for wrong in [
            "{}",
            "[]",
            "null",
            "{\"event\":3}",
            "{\"event\":\"applied\",\"manifest\":7}",
            "{\"event\":\"applied\",\"manifest\":\"a\",\"seq\":-1}",
            "\u{1b}[2J",
            deep.as_str(),
        ] {
            let (heard, shown) = heard(wrong.as_bytes(), 100);
            assert!(heard.applied.is_none() && shown.is_empty() && !heard.is_running, "{wrong}");
        }
    }
}
