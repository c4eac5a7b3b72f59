//! The lines of a record: `key value`, in a fixed order.

use std::fmt::Display;
use std::str::FromStr;

use super::RecordError;
use crate::log::merkle::LogHash;
use crate::time::UnixTime;

/// Reads the lines of a record one after the other.
pub(super) struct Lines<'a> {
    record: &'static str,
    rest: &'a str,
    line: usize,
}

impl<'a> Lines<'a> {
    /// Checks the first line and begins after it.
    pub(super) fn open(record: &'static str, text: &'a str) -> Result<Self, RecordError> {
        check_header(record, text)?;
        let (_, rest) = text.split_once('\n').unwrap_or((text, ""));
        Ok(Self { record, rest, line: 1 })
    }

    /// Takes the next line, which has to be of this key.
    pub(super) fn value(&mut self, key: &'static str) -> Result<&'a str, RecordError> {
        self.value_if(key).ok_or_else(|| {
            self.line += 1;
            let found: String = self.rest.lines().next().unwrap_or("the end").chars().take(40).collect();
            self.refuse(format!("expected `{key} …`, found {found:?}"))
        })
    }

    /// Takes the next line if it is of this key.
    pub(super) fn value_if(&mut self, key: &str) -> Option<&'a str> {
        let (line, rest) = self.rest.split_once('\n')?;
        let value = line.strip_prefix(key)?.strip_prefix(' ')?;
        self.rest = rest;
        self.line += 1;
        Some(value)
    }

    /// Takes the next line, whose value is of a type that says itself what is wrong with it.
    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self, key: &'static str) -> Result<T, RecordError> {
        let value = self.value(key)?;
        value.parse().map_err(|error: T::Err| self.refuse(error.to_string()))
    }

    /// Takes the next line, whose value is a number.
    pub(super) fn number(&mut self, key: &'static str) -> Result<u64, RecordError> {
        let value = self.value(key)?;
        self.as_number(value)
    }

    /// Takes the next line, whose value is a time.
    pub(super) fn time(&mut self, key: &'static str) -> Result<UnixTime, RecordError> {
        let seconds = self.number(key)?;
        UnixTime::new(seconds).ok_or_else(|| self.refuse(format!("{seconds} is after the year 9999")))
    }

    /// Takes the next line, whose value is a hash or `none`.
    pub(super) fn hash_or_none(&mut self, key: &'static str) -> Result<Option<LogHash>, RecordError> {
        let value = self.value(key)?;
        match value {
            "none" => Ok(None),
            value => self.as_parsed(value).map(Some),
        }
    }

    /// Reads a number that has one spelling: decimal, without a sign or leading zeros, of at most 64 bits.
    pub(super) fn as_number(&self, text: &str) -> Result<u64, RecordError> {
        let is_plain =
            text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse().ok().filter(|_| is_plain).ok_or_else(|| {
            let text: String = text.chars().take(40).collect();
            self.refuse(format!("{text:?} is not a decimal number without leading zeros below 2^64"))
        })
    }

    /// Reads a part of a line.
    pub(super) fn as_parsed<T: FromStr<Err: Display>>(&self, text: &str) -> Result<T, RecordError> {
        text.parse().map_err(|error: T::Err| self.refuse(error.to_string()))
    }

    /// Reads exactly `N` parts between single spaces.
    pub(super) fn as_parts<const N: usize>(&self, text: &'a str) -> Result<[&'a str; N], RecordError> {
        let parts: Vec<&str> = text.splitn(N + 1, ' ').collect();
        parts.try_into().map_err(|_| self.refuse(format!("expected {N} values between single spaces")))
    }

    /// An error about the line that was taken last.
    pub(super) fn refuse(&self, reason: impl Into<String>) -> RecordError {
        RecordError::Line { record: self.record, line: self.line, reason: reason.into() }
    }

    /// Checks that no line is left.
    pub(super) fn finish(mut self) -> Result<(), RecordError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        self.line += 1;
        let found: String = self.rest.lines().next().unwrap_or_default().chars().take(40).collect();
        Err(self.refuse(format!("unexpected line {found:?}")))
    }
}

/// Checks the first line of a record, and tells another version from another kind.
pub(super) fn check_header(expected: &'static str, text: &str) -> Result<(), RecordError> {
    let found = text.split('\n').next().unwrap_or_default();
    if found == expected {
        return Ok(());
    }
    let stem = |header: &str| header.rsplit_once("/v").map(|(stem, _)| stem.to_owned());
    let is_version = stem(found).is_some() && stem(found) == stem(expected);
    let found = found.chars().take(60).collect();
    Err(if is_version {
        RecordError::OtherVersion { expected, found }
    } else {
        RecordError::OtherKind { expected, found }
    })
}

/// Writes a value, or `none`.
pub(super) fn or_none<T: Display>(value: Option<&T>) -> String {
    value.map_or_else(|| "none".to_owned(), ToString::to_string)
}
