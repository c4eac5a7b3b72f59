//! What a run says, and where: for people, or as JSON for programs.
//!
//! Every text that is shown passes through one place that escapes what a terminal would act on, so that no caller
//! has to remember which part of a message came from outside. Data goes to standard output and so do messages;
//! warnings, errors and progress go to standard error. With `--json` everything is one object per line on standard
//! output.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use smart_sync_store::manifest::path::Shown;

use crate::failure::{Exit, Failure};

/// How what is said is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Warnings and errors.
    Quiet,
    /// What happened.
    #[default]
    Normal,
    /// Also how.
    Verbose,
}

/// One line of `--json`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// Something worth knowing.
    Message {
        /// `info`, `detail` or `warning`.
        level: &'a str,
        /// The sentence.
        text: &'a str,
    },
    /// How far a long piece of work is.
    Progress {
        /// What is being done.
        work: &'a str,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Why the run ends without success; the last line.
    Error {
        /// The exit status.
        exit: u8,
        /// What failed.
        message: &'a str,
        /// Why, from the nearest cause to the first.
        causes: &'a [String],
        /// What to do about it.
        hints: &'a [String],
    },
}

/// Where a run says things. Clones share their streams.
#[derive(Clone)]
pub struct Output {
    format: Format,
    verbosity: Verbosity,
    streams: Arc<Mutex<Streams>>,
}

struct Streams {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// The bar that is on the terminal, which lines must be written above of.
    bar: Option<ProgressBar>,
    shows_bars: bool,
}

impl Output {
    /// The process's own streams; bars where standard error is a terminal.
    pub fn standard(format: Format, verbosity: Verbosity) -> Self {
        let shows_bars = format == Format::Text && verbosity > Verbosity::Quiet && io::stderr().is_terminal();
        Self::new(format, verbosity, Box::new(io::stdout()), Box::new(io::stderr()), shows_bars)
    }

    /// Streams of the caller's, without bars.
    pub fn to(
        format: Format,
        verbosity: Verbosity,
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
    ) -> Self {
        Self::new(format, verbosity, out, err, false)
    }

    fn new(
        format: Format,
        verbosity: Verbosity,
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
        shows_bars: bool,
    ) -> Self {
        let streams = Arc::new(Mutex::new(Streams { out, err, bar: None, shows_bars }));
        Self { format, verbosity, streams }
    }

    /// How what is said is written.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Says what happened.
    pub fn info(&self, text: &str) {
        self.message(Verbosity::Normal, "info", text);
    }

    /// Says how it happened, to those who asked for it.
    pub fn detail(&self, text: &str) {
        self.message(Verbosity::Verbose, "detail", text);
    }

    /// Says what should be looked at, though the run goes on.
    pub fn warning(&self, text: &str) {
        self.message(Verbosity::Quiet, "warning", text);
    }

    /// How a part of a run has ended; says why where it failed.
    pub fn ended(&self, ended: Result<Exit, Failure>) -> Exit {
        ended.unwrap_or_else(|failure| {
            self.failure(&failure);
            failure.exit()
        })
    }

    /// Says why the run ends.
    pub fn failure(&self, failure: &Failure) {
        let messages: Vec<String> = failure.messages().collect();
        let (message, causes) = messages.split_first().map_or(("failed", [].as_slice()), |(m, c)| (m, c));
        if self.format == Format::Json {
            return self.event(&Event::Error {
                exit: failure.exit().code(),
                message,
                causes,
                hints: failure.hints(),
            });
        }
        let line = |label: &str, text: &str| format!("[smart-sync ERROR] {label}{}", Shown(text.as_bytes()));
        let mut lines = vec![line("", message)];
        lines.extend(causes.iter().map(|cause| line("  because: ", cause)));
        lines.extend(failure.hints().iter().map(|hint| line("  hint: ", hint)));
        self.with(|streams| streams.line_on_err(&lines.join("\n")));
    }

    /// Writes one object of `--json`; nothing in the format for people.
    pub fn event(&self, event: &impl Serialize) {
        if self.format == Format::Json {
            let line = serde_json::to_string(event).expect("events hold texts and numbers alone");
            self.with(|streams| streams.line_on_out(&line));
        }
    }

    /// Writes bytes that were asked for, as they are.
    pub fn data(&self, bytes: &[u8]) -> io::Result<()> {
        self.with(|streams| streams.out.write_all(bytes).and_then(|()| streams.out.flush()))
    }

    /// Begins to show how far a long piece of work is.
    pub fn progress(&self, work: &str, total: u64) -> Progress {
        let bar = self.with(|streams| {
            if !streams.shows_bars {
                return None;
            }
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            bar.set_style(bar_style());
            bar.set_message(Shown(work.as_bytes()).to_string());
            streams.bar = Some(bar.clone());
            Some(bar)
        });
        Progress { output: self.clone(), work: work.to_owned(), total, done: 0, said: 0, bar }
    }

    fn message(&self, at_least: Verbosity, level: &str, text: &str) {
        if self.verbosity < at_least {
            return;
        }
        if self.format == Format::Json {
            return self.event(&Event::Message { level, text });
        }
        let text = Shown(text.as_bytes());
        self.with(|streams| match level {
            "info" => streams.line_on_out(&format!("[smart-sync] {text}")),
            "warning" => streams.line_on_err(&format!("[smart-sync] warning: {text}")),
            _ => streams.line_on_err(&format!("[smart-sync] {text}")),
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Streams) -> T) -> T {
        // A panic while a line was written leaves nothing behind that a next line would need.
        act(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How far a long piece of work is. On a terminal a bar, else a line for every fifth of it.
pub struct Progress {
    output: Output,
    work: String,
    total: u64,
    done: u64,
    said: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// So many bytes more are done.
    pub fn advance(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            return;
        }
        let fifth = self.done.min(self.total).saturating_mul(5).checked_div(self.total).unwrap_or(5);
        if fifth > self.said {
            self.said = fifth;
            self.say();
        }
    }

    fn say(&self) {
        if self.output.format == Format::Json {
            self.output.event(&Event::Progress { work: &self.work, done: self.done, total: self.total });
        } else if self.output.verbosity > Verbosity::Quiet {
            let (work, done, total) =
                (Shown(self.work.as_bytes()), HumanBytes(self.done), HumanBytes(self.total));
            self.output
                .with(|streams| streams.line_on_err(&format!("[smart-sync] {work}: {done} of {total}")));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            self.output.with(|streams| streams.bar = None);
        }
    }
}

impl Streams {
    // That nobody can be told is no reason to stop: a timer's output may go nowhere.
    fn line_on_out(&mut self, line: &str) {
        let _ = self.above_the_bar(|streams| writeln!(streams.out, "{line}"));
    }

    fn line_on_err(&mut self, line: &str) {
        let _ = self.above_the_bar(|streams| writeln!(streams.err, "{line}"));
    }

    fn above_the_bar<T>(&mut self, write: impl FnOnce(&mut Self) -> T) -> T {
        match self.bar.clone() {
            Some(bar) => bar.suspend(|| write(self)),
            None => write(self),
        }
    }
}

/// A count of things: `1 entry`, `2 entries`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("[smart-sync] {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(format: Format, verbosity: Verbosity) -> String {
        let (out, err) = (Kept::default(), Kept::default());
        let output = Output::to(format, verbosity, Box::new(out.clone()), Box::new(err.clone()));
        output.info("updated a\x1b[2Jb\nto v2");
        output.detail("3 requests");
        output.warning("the log is old");
        let mut progress = output.progress("downloading", 10);
        progress.advance(1);
        progress.advance(4);
        progress.advance(5);
        drop(progress);
        output.failure(
            &Failure::message(Exit::Network, "connection refused\x07")
                .context("reading https://example.org/")
                .hint("is the server up?"),
        );
        let text = |kept: &Kept| String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        format!("out:\n{}err:\n{}", text(&out), text(&err))
    }

    #[test]
    fn people_get_one_prefixed_line_each_and_no_control_characters() {
        insta::assert_snapshot!(said(Format::Text, Verbosity::Verbose), @r"
        out:
        [smart-sync] updated a\u{1b}[2Jb\nto v2
        err:
        [smart-sync] 3 requests
        [smart-sync] warning: the log is old
        [smart-sync] downloading: 5 B of 10 B
        [smart-sync] downloading: 10 B of 10 B
        [smart-sync ERROR] reading https://example.org/
        [smart-sync ERROR]   because: connection refused\u{7}
        [smart-sync ERROR]   hint: is the server up?
        ");
    }

    #[test]
    fn one_thing_is_no_plural() {
        let counted = [0, 1, 2].map(|number| count(number, "request", "requests"));
        assert_eq!(counted, ["0 requests", "1 request", "2 requests"]);
    }

    #[test]
    fn quiet_leaves_warnings_and_errors() {
        insta::assert_snapshot!(said(Format::Text, Verbosity::Quiet), @r"
        out:
        err:
        [smart-sync] warning: the log is old
        [smart-sync ERROR] reading https://example.org/
        [smart-sync ERROR]   because: connection refused\u{7}
        [smart-sync ERROR]   hint: is the server up?
        ");
    }

    #[test]
    fn programs_get_one_object_per_line_on_standard_output_alone() {
        insta::assert_snapshot!(said(Format::Json, Verbosity::Normal), @r#"
        out:
        {"event":"message","level":"info","text":"updated a\u001b[2Jb\nto v2"}
        {"event":"message","level":"warning","text":"the log is old"}
        {"event":"progress","work":"downloading","done":5,"total":10}
        {"event":"progress","work":"downloading","done":10,"total":10}
        {"event":"error","exit":5,"message":"reading https://example.org/","causes":["connection refused\u0007"],"hints":["is the server up?"]}
        err:
        "#);
    }
}
