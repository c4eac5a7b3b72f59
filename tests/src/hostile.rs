//! A server that does what no honest one does, and a host that follows it with the real client.
//!
//! The one decision: a server here is a function from a request to a [`Reply`], and a reply may be any bytes, at any
//! pace, without an end. What is attacked is the program as it is installed; what it is told is signed by the keys of
//! [`smart_sync_sync::testing`], so that every lie can also be a properly signed one.

mod host;
mod log;
mod tree;

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use host::{Host, Servers};
pub use log::{at, evidence, honest_realm, lasting, name_tree, publish, question, tiles};
pub use tree::{RawEntry, Tree, TreeBuilder, World, page};

/// Nobody asks for more.
const REQUEST_BYTES_MAX: u64 = 1 << 20;
/// How long a trickling server waits for the client to go away before it sends its next byte.
const TRICKLE_PAUSE: Duration = Duration::from_secs(1);

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query; empty if there is none.
    pub query: String,
    /// The range of bytes that is asked for.
    pub range: Option<Range<usize>>,
    /// The headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a server does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Sends the body, or the range of it that was asked for.
    Ok(Vec<u8>),
    /// Refuses with a status and a line of text.
    Status(u16, &'static str),
    /// Sends these bytes, the head of an answer included, and closes the connection.
    Whole(Vec<u8>),
    /// Sends a head, without the empty line at its end, and a body, and closes the connection.
    Raw(String, Vec<u8>),
    /// Sends a head, or the beginning of one, and then the same letter until the client goes away.
    Endless(String),
    /// Sends a head, or the beginning of one, and then a letter now and then until the client goes away.
    Trickle(String),
    /// Closes the connection without a word.
    Close,
}

impl Reply {
    /// A body, with a head that says whatever these lines say.
    pub fn raw(head: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::Raw(head.to_owned(), body.into())
    }

    /// Sends the client elsewhere.
    pub fn redirect(to: &str) -> Self {
        Self::Raw(format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0"), Vec::new())
    }
}

/// Asks the real server at `address`, `HOST:PORT`, and passes its answer on.
pub fn forward(address: &str, request: &Request) -> io::Result<Reply> {
    let mut server = TcpStream::connect(address)?;
    let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    let range = request
        .range
        .as_ref()
        .map_or_else(String::new, |range| format!("Range: bytes={}-{}\r\n", range.start, range.end - 1));
    let (method, length) = (&request.method, request.body.len());
    let head = format!(
        "{method} {}{query} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{range}\r\n",
        request.path
    );
    server.write_all(&[head.as_bytes(), &request.body].concat())?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(Reply::Whole(answer))
}

type Behaviour = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server on loopback that behaves as it is told; it stops when dropped.
pub struct HostileServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    behaviour: Arc<Behaviour>,
    requests: Vec<Request>,
    is_stopping: bool,
}

impl HostileServer {
    /// Starts a server on a free port.
    pub fn start(behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = State { behaviour: Arc::new(behaviour), requests: Vec::new(), is_stopping: false };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let accepting = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// From now on it behaves like this.
    pub fn set(&self, behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.shared.with(|state| state.behaviour = Arc::new(behaviour));
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked for since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        self.shared.with(|state| std::mem::take(&mut state.requests))
    }
}

impl Drop for HostileServer {
    fn drop(&mut self) {
        self.shared.with(|state| state.is_stopping = true);
        // The acceptor looks at the flag after each connection: this is its last one.
        if TcpStream::connect(self.address).is_ok()
            && let Some(acceptor) = self.acceptor.take()
        {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.with(|state| state.is_stopping) {
            return;
        }
        let Ok(client) = client else { continue };
        let shared = Arc::clone(shared);
        // A client that goes away in the middle of an answer is what most behaviours here lead to.
        std::thread::spawn(move || drop(serve(&client, &shared)));
    }
}

/// Answers one request and closes the connection.
fn serve(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let Some(request) = read_request(client)? else { return Ok(()) };
    let behaviour = shared.with(|state| {
        state.requests.push(request.clone());
        Arc::clone(&state.behaviour)
    });
    send(client, &request, behaviour(&request))?;
    client.shutdown(Shutdown::Write)?;
    // A connection that is closed with something unread is reset, and the client might lose the end of the answer.
    io::copy(&mut client.take(REQUEST_BYTES_MAX), &mut io::sink()).map(drop)
}

fn read_request(client: &TcpStream) -> io::Result<Option<Request>> {
    let mut reader = BufReader::new(client.take(REQUEST_BYTES_MAX));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut body)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let range = headers.get("range").and_then(|range| {
        let (start, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        // A range without an end reaches to that of the body.
        let end = if last.is_empty() { usize::MAX } else { last.parse::<usize>().ok()? + 1 };
        Some(start.parse().ok()?..end)
    });
    Ok(Some(Request { method, path: path.to_owned(), query: query.to_owned(), range, headers, body }))
}

fn send(mut client: &TcpStream, request: &Request, reply: Reply) -> io::Result<()> {
    match reply {
        Reply::Ok(body) => match &request.range {
            Some(range) if range.end <= body.len() => {
                let bounds = format!("bytes {}-{}/{}", range.start, range.end - 1, body.len());
                let head = format!("HTTP/1.1 206 Partial Content\r\nContent-Range: {bounds}");
                send_whole(client, &head, &body[range.clone()])
            }
            _ => send_whole(client, "HTTP/1.1 200 OK", &body),
        },
        Reply::Status(status, text) => send_whole(client, &format!("HTTP/1.1 {status} x"), text.as_bytes()),
        Reply::Whole(answer) => client.write_all(&answer),
        Reply::Raw(head, body) => {
            client.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes())?;
            client.write_all(&body)
        }
        Reply::Endless(head) => {
            client.write_all(head.as_bytes())?;
            let letters = vec![b'x'; 64 * 1024];
            loop {
                client.write_all(&letters)?;
            }
        }
        Reply::Trickle(head) => {
            client.write_all(head.as_bytes())?;
            trickle(client)
        }
        Reply::Close => Ok(()),
    }
}

fn send_whole(mut client: &TcpStream, head: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    client
        .write_all(format!("{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes())?;
    client.write_all(body)
}

/// Sends a letter whenever the client has waited for a while, until it goes away.
fn trickle(mut client: &TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(TRICKLE_PAUSE))?;
    loop {
        client.write_all(b"x")?;
        match client.read(&mut [0]) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            _ => return Ok(()),
        }
    }
}
