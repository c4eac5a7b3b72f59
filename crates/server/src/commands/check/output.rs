//! What a check says: lines for people, or one JSON object on each line for programs, and nothing else.

use std::fmt::Display;

use serde_json::Value;

use super::super::print;

/// How it is said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) is_json: bool,
}

impl Output {
    /// Says one thing.
    pub(super) fn say(self, text: &dyn Display, event: &Value) -> anyhow::Result<()> {
        if self.is_json { print(format_args!("{event}")) } else { print(format_args!("{text}")) }
    }

    /// Says what people learn otherwise.
    pub(super) fn say_to_programs(self, event: &Value) -> anyhow::Result<()> {
        if self.is_json { print(format_args!("{event}")) } else { Ok(()) }
    }
}
