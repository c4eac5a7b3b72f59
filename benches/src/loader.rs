//! Plain GETs over several connections, the same for every server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Fetches a path from each of several connections, several times each, and returns how long all of it took.
pub(crate) fn load(
    address: &str,
    path: &str,
    connections: usize,
    times: usize,
    size: u64,
) -> Result<Duration> {
    let start = Instant::now();
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let (address, path) = (address.to_owned(), path.to_owned());
            std::thread::spawn(move || fetch_repeatedly(&address, &path, times, size))
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))??;
    }
    Ok(start.elapsed())
}

/// A file that is fetched.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) size: u64,
}

/// Fetches many files, shared out among several connections, and returns how long all of it took.
pub(crate) fn load_many(address: &str, requests: &[Request], connections: usize) -> Result<Duration> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|number| {
                scope.spawn(move || {
                    let mut connection = BufReader::new(TcpStream::connect(address)?);
                    for request in requests.iter().skip(number).step_by(connections) {
                        fetch(&mut connection, address, &request.path, request.size, |_| ())?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(start.elapsed())
}

/// Fetches files one after the other over one connection, and returns for each how long its first byte took.
pub(crate) fn first_bytes(address: &str, requests: &[Request]) -> Result<Vec<Duration>> {
    let mut connection = BufReader::new(TcpStream::connect(address)?);
    let mut times = Vec::with_capacity(requests.len());
    for request in requests {
        let start = Instant::now();
        let mut first = None;
        fetch(&mut connection, address, &request.path, request.size, |_| {
            first.get_or_insert_with(|| start.elapsed());
        })?;
        times.push(first.unwrap_or_else(|| start.elapsed()));
    }
    Ok(times)
}

/// Fetches a path once and returns BLAKE3 of the content.
pub(crate) fn digest(address: &str, path: &str, size: u64) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut connection = BufReader::new(TcpStream::connect(address)?);
    fetch(&mut connection, address, path, size, |piece| {
        hasher.update(piece);
    })?;
    Ok(hasher.finalize())
}

fn fetch_repeatedly(address: &str, path: &str, times: usize, size: u64) -> Result<()> {
    let mut connection = BufReader::new(TcpStream::connect(address)?);
    for _ in 0..times {
        fetch(&mut connection, address, path, size, |_| ())?;
    }
    Ok(())
}

fn fetch(
    connection: &mut BufReader<TcpStream>,
    address: &str,
    path: &str,
    size: u64,
    mut each: impl FnMut(&[u8]),
) -> Result<()> {
    // In one piece: what comes in several waits for the other side to say that it has the first.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    connection.read_line(&mut line).context("reading the status line")?;
    if line.split(' ').nth(1) != Some("200") {
        bail!("GET {path} answered {}", line.trim_end());
    }
    let mut length = None;
    loop {
        line.clear();
        connection.read_line(&mut line).context("reading a header line")?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok();
            }
            Some(_) => {}
            None => break,
        }
    }
    if length != Some(size) {
        bail!("GET {path} announced {length:?} bytes instead of {size}");
    }
    let mut buffer = vec![0; 256 * 1024];
    let mut left = size;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = connection.read(&mut buffer[..want]).context("reading the body")?;
        if read == 0 {
            bail!("GET {path} ended {left} bytes early");
        }
        each(&buffer[..read]);
        left -= read as u64;
    }
    Ok(())
}
