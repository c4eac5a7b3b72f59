//! A TCP proxy on loopback that counts what passes: bytes both ways, connections, HTTP requests.
//!
//! It copies bytes and changes none, so that what it counts is what the two programs would have sent each other.

mod requests;

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use requests::RequestCounter;

/// What has passed a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Connections that clients opened.
    pub connections: u64,
    /// HTTP requests; 0 for another protocol.
    pub requests: u64,
    /// Bytes from clients to the server.
    pub sent: u64,
    /// Bytes from the server to clients.
    pub received: u64,
}

impl Totals {
    /// Bytes in both directions.
    pub fn bytes(self) -> u64 {
        self.sent + self.received
    }
}

/// What the proxied programs speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 or, without TLS, HTTP/2.
    Http,
    /// Anything else: bytes and connections are counted.
    Other,
}

/// A running proxy; it stops accepting when dropped.
#[derive(Debug)]
pub struct CountingProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    protocol: Protocol,
    stopping: AtomicBool,
    connections: AtomicU64,
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    sent_gate: Gate,
    received_gate: Gate,
}

/// Lets bytes pass up to a number of them.
#[derive(Debug)]
struct Gate {
    max: Mutex<u64>,
    raised: Condvar,
}

impl Gate {
    fn open() -> Self {
        Self { max: Mutex::new(u64::MAX), raised: Condvar::new() }
    }

    fn set(&self, max: u64) {
        *self.max.lock().unwrap_or_else(PoisonError::into_inner) = max;
        self.raised.notify_all();
    }

    /// Waits until this many bytes may have passed.
    fn pass(&self, total: u64) {
        let max = self.max.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.raised.wait_while(max, |max| total > *max).unwrap_or_else(PoisonError::into_inner));
    }
}

impl CountingProxy {
    /// Starts a proxy on a free port in front of `upstream`, which is `HOST:PORT`.
    pub fn start(upstream: &str, protocol: Protocol) -> io::Result<Self> {
        let upstream = upstream
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no address for {upstream}")))?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            protocol,
            stopping: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent_gate: Gate::open(),
            received_gate: Gate::open(),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has passed so far. Whatever a client has received is in it.
    pub fn totals(&self) -> Totals {
        Totals {
            connections: self.shared.connections.load(Ordering::SeqCst),
            requests: self.shared.requests.load(Ordering::SeqCst),
            sent: self.shared.sent.load(Ordering::SeqCst),
            received: self.shared.received.load(Ordering::SeqCst),
        }
    }

    /// Holds everything back from the server once clients have sent this much in all.
    pub fn hold_sent_after(&self, bytes: u64) {
        self.shared.sent_gate.set(bytes);
    }

    /// Holds everything back from clients once the server has sent this much in all.
    pub fn hold_received_after(&self, bytes: u64) {
        self.shared.received_gate.set(bytes);
    }

    /// Holds nothing back any longer.
    pub fn release(&self) {
        self.shared.sent_gate.set(u64::MAX);
        self.shared.received_gate.set(u64::MAX);
    }

    /// Returns the totals and begins again at zero.
    pub fn take_totals(&self) -> Totals {
        Totals {
            connections: self.shared.connections.swap(0, Ordering::SeqCst),
            requests: self.shared.requests.swap(0, Ordering::SeqCst),
            sent: self.shared.sent.swap(0, Ordering::SeqCst),
            received: self.shared.received.swap(0, Ordering::SeqCst),
        }
    }
}

impl Drop for CountingProxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.release();
        // The acceptor looks at the flag after each connection: this is its last one.
        if TcpStream::connect(self.address).is_ok()
            && let Some(acceptor) = self.acceptor.take()
        {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        // A connection that the server refuses is closed, which is what the client would have seen without a proxy.
        let _ = relay(client, shared);
    }
}

/// Starts the two threads that carry one connection.
fn relay(client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let server = TcpStream::connect(shared.upstream)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_back, server_back) = (client.try_clone()?, server.try_clone()?);
    let up = Arc::clone(shared);
    std::thread::spawn(move || {
        let mut requests = (up.protocol == Protocol::Http).then(RequestCounter::default);
        copy(client, server, |bytes| {
            let before = up.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            if let Some(requests) = &mut requests {
                up.requests.fetch_add(requests.feed(bytes), Ordering::SeqCst);
            }
            up.sent_gate.pass(before + bytes.len() as u64);
        });
    });
    let down = Arc::clone(shared);
    std::thread::spawn(move || {
        copy(server_back, client_back, |bytes| {
            let before = down.received.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            down.received_gate.pass(before + bytes.len() as u64);
        });
    });
    Ok(())
}

/// Copies one direction to its end. Bytes are counted before they are passed on.
fn copy(mut from: TcpStream, mut to: TcpStream, mut count: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                count(&buffer[..length]);
                if to.write_all(&buffer[..length]).is_err() {
                    // Nobody listens any longer: the sender must learn of it.
                    let _ = from.shutdown(Shutdown::Read);
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every connection with `pong` once it has read `ping`.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut request = [0; 4];
                client.read_exact(&mut request).unwrap();
                client.write_all(b"pong!").unwrap();
            }
        });
        address
    }

    #[test]
    fn bytes_pass_unchanged_and_are_counted_by_direction() {
        let proxy = CountingProxy::start(&echo().to_string(), Protocol::Other).unwrap();
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client.write_all(b"ping").unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"pong!");
        let expected = Totals { connections: 1, requests: 0, sent: 4, received: 5 };
        assert_eq!(proxy.take_totals(), expected);
        assert_eq!(proxy.totals(), Totals::default());
    }

    #[test]
    fn what_is_held_back_passes_when_it_is_released() {
        let proxy = CountingProxy::start(&echo().to_string(), Protocol::Other).unwrap();
        proxy.hold_received_after(2);
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        client.write_all(b"ping").unwrap();
        while proxy.totals().received < 5 {
            std::thread::yield_now();
        }
        client.set_nonblocking(true).unwrap();
        assert_eq!(client.read(&mut [0; 5]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        client.set_nonblocking(false).unwrap();
        proxy.release();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"pong!");
    }

    #[test]
    fn a_server_that_is_not_there_closes_the_connection() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let proxy = CountingProxy::start(&address.to_string(), Protocol::Http).unwrap();
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}
