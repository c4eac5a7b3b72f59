//! A web server that knows nothing but files, as any of the usual ones does with a directory.

use std::fs;
use std::path::Path;

use percent_encoding::percent_decode_str;

use crate::hostile::{Reply, Request};

/// Answers a request out of a directory: paths are decoded, questions are not looked at, and nothing is taken.
pub fn answer(directory: &Path, request: &Request) -> Reply {
    if request.method != "GET" {
        return Reply::Status(405, "not allowed");
    }
    let path = percent_decode_str(&request.path).decode_utf8_lossy().into_owned();
    let path = path.trim_start_matches('/');
    if path.split('/').any(|part| part == "..") {
        return Reply::Status(403, "forbidden");
    }
    match fs::read(directory.join(path)) {
        Ok(bytes) => Reply::Ok(bytes),
        Err(_) => Reply::Status(404, "not found"),
    }
}

/// The same by a server that does not know ranges, such as python's.
pub fn answer_whole(directory: &Path, request: &Request) -> Reply {
    match answer(directory, request) {
        Reply::Ok(bytes) => Reply::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}", bytes.len()), bytes),
        other => other,
    }
}
