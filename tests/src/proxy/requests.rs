//! Counting HTTP requests in the bytes that a client sends.
//!
//! It follows message framing (RFC 9112, RFC 9113) only as far as it must to tell where the next request begins: the
//! programs watched here are ours and well-known ones, so a stream that makes no sense is simply no longer counted.

/// Counts the requests of one connection; pieces may be cut anywhere.
#[derive(Debug, Default)]
pub struct RequestCounter {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Inside a request's head, with what has come of it.
    Head(Vec<u8>),
    /// Inside a body or a frame's payload of which so many bytes are still to come.
    Skip(u64, After),
    /// At a chunk's size line, with what has come of it.
    ChunkSize(Vec<u8>),
    /// After the last chunk, with what has come of the current trailer line.
    Trailer(Vec<u8>),
    /// At the header of an HTTP/2 frame.
    Frame(Vec<u8>),
    /// No longer counting.
    Lost,
}

/// What follows skipped bytes.
#[derive(Debug, Clone, Copy)]
enum After {
    Head,
    ChunkSize,
    Frame,
}

impl Default for State {
    fn default() -> Self {
        Self::Head(Vec::new())
    }
}

/// No request head or chunk line of the programs watched here is as long as this.
const LINE_LENGTH_MAX: usize = 256 * 1024;

impl RequestCounter {
    /// Takes the next bytes, and returns how many requests began to be complete in them.
    pub fn feed(&mut self, mut bytes: &[u8]) -> u64 {
        let mut requests = 0;
        while !bytes.is_empty() {
            if let State::Skip(left, after) = &mut self.state {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = &bytes[now..];
                *left -= now as u64;
                if *left == 0 {
                    self.state = after.state();
                }
            } else {
                requests += self.step(bytes[0]);
                bytes = &bytes[1..];
            }
        }
        requests
    }

    /// Takes one byte outside bodies.
    fn step(&mut self, byte: u8) -> u64 {
        let (State::Head(seen) | State::ChunkSize(seen) | State::Trailer(seen) | State::Frame(seen)) =
            &mut self.state
        else {
            return 0;
        };
        seen.push(byte);
        if seen.len() > LINE_LENGTH_MAX {
            self.state = State::Lost;
            return 0;
        }
        let (state, requests) = match &self.state {
            State::Head(head) if head.ends_with(b"\r\n\r\n") => after_head(head),
            State::ChunkSize(line) if line.ends_with(b"\r\n") => (after_chunk_size(line), 0),
            State::Trailer(line) if line == b"\r\n" => (State::default(), 0),
            State::Trailer(line) if line.ends_with(b"\r\n") => (State::Trailer(Vec::new()), 0),
            State::Frame(header) if header.len() == 9 => after_frame_header(header),
            _ => return 0,
        };
        self.state = state;
        requests
    }
}

impl After {
    fn state(self) -> State {
        match self {
            Self::Head => State::default(),
            Self::ChunkSize => State::ChunkSize(Vec::new()),
            Self::Frame => State::Frame(Vec::new()),
        }
    }
}

/// A state that skips, unless there is nothing to skip.
fn skip(length: u64, after: After) -> State {
    if length == 0 { after.state() } else { State::Skip(length, after) }
}

fn after_head(head: &[u8]) -> (State, u64) {
    if head.starts_with(b"PRI * HTTP/2.0\r\n") {
        // The rest of the preface is `SM`, a line end and an empty line.
        return (skip(6, After::Frame), 0);
    }
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let field = |name: &str| {
        let mut lines = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value.trim())
    };
    if field("transfer-encoding").is_some_and(|coding| coding.ends_with("chunked")) {
        return (After::ChunkSize.state(), 1);
    }
    match field("content-length").map(str::parse) {
        None => (State::default(), 1),
        Some(Ok(length)) => (skip(length, After::Head), 1),
        Some(Err(_)) => (State::Lost, 1),
    }
}

fn after_chunk_size(line: &[u8]) -> State {
    let line = String::from_utf8_lossy(line);
    let digits = line.split(';').next().unwrap_or_default().trim();
    match u64::from_str_radix(digits, 16) {
        Ok(0) => State::Trailer(Vec::new()),
        // Each chunk ends with a line end of its own.
        Ok(length) => skip(length.saturating_add(2), After::ChunkSize),
        Err(_) => State::Lost,
    }
}

fn after_frame_header(header: &[u8]) -> (State, u64) {
    const HEADERS: u8 = 1;
    let length = u64::from(header[0]) << 16 | u64::from(header[1]) << 8 | u64::from(header[2]);
    (skip(length, After::Frame), u64::from(header[3] == HEADERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the stream whole and byte by byte: both must find the same number of requests.
    fn check(stream: &[u8], requests: u64) {
        assert_eq!(RequestCounter::default().feed(stream), requests, "whole");
        let mut by_byte = RequestCounter::default();
        let found: u64 = stream.iter().map(|byte| by_byte.feed(&[*byte])).sum();
        assert_eq!(found, requests, "byte by byte");
    }

    #[test]
    fn requests_are_counted_whatever_their_bodies_hold() {
        let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice();
        check(get, 1);
        check(&get.repeat(3), 3);
        check(b"GET / HTTP/1.1\r\nHost: a\r\n", 0);
        let body = b"PUT / HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        check(&[body.as_slice(), get].concat(), 2);
        check(&[b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n".as_slice(), get].concat(), 2);
        let chunked =
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\n\r\n\r\n\r\n0\r\nT: 1\r\n\r\n";
        check(&[chunked.as_slice(), get].concat(), 2);
    }

    #[test]
    fn http2_requests_are_counted_by_their_headers_frames() {
        let mut stream = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        stream.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        stream.extend([0, 0, 2, 1, 5, 0, 0, 0, 1, 0x82, 0x87]);
        stream.extend([0, 0, 1, 0, 1, 0, 0, 0, 1, 1]);
        stream.extend([0, 0, 1, 1, 5, 0, 0, 0, 3, 0x82]);
        check(&stream, 2);
    }

    #[test]
    fn a_stream_that_makes_no_sense_is_not_counted_on() {
        check(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\nGET / HTTP/1.1\r\n\r\n", 1);
    }
}
