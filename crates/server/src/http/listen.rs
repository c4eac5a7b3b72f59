//! Connections: accepting them, TLS, the limits on them, and a stop that lets requests finish.
//!
//! Whoever connects is unknown, so every wait has an end: the TLS handshake, the headers of a request, a write
//! that the other side does not read, and the requests that are in progress when the server stops.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use crate::config::{Limits, TlsConfig};

/// Connections between being accepted and being served.
const ACCEPTED_MAX: usize = 16;

/// The address that a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// A connection, and its share of the limits while it lasts.
struct Accepted {
    stream: TcpStream,
    address: SocketAddr,
    _permit: OwnedSemaphorePermit,
    _slot: AddressSlot,
}

/// What accepts connections and hands their requests to the router.
pub(crate) struct Listener {
    router: Router,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    connections: Arc<Semaphore>,
    per_address: Arc<AddressCounts>,
}

impl Listener {
    /// Prepares to serve this router.
    pub(crate) fn new(router: Router, tls: Option<&TlsConfig>, limits: &Limits) -> anyhow::Result<Self> {
        Ok(Self {
            router,
            tls: tls.map(load_tls).transpose()?,
            limits: limits.clone(),
            connections: Arc::new(Semaphore::new(limits.connections)),
            per_address: Arc::new(AddressCounts::default()),
        })
    }

    /// The scheme of the URLs of this server.
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Serves until `stop` is done; then accepts nothing new and lets requests finish for a bounded time.
    pub(crate) async fn serve(self: Arc<Self>, sockets: Vec<TcpListener>, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let (sender, mut accepted) = mpsc::channel(ACCEPTED_MAX);
        let mut accepting = tokio::task::JoinSet::new();
        for socket in sockets {
            accepting.spawn(Arc::clone(&self).accept(socket, sender.clone()));
        }
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(accepted) = accepted.recv() => {
                    let listener = Arc::clone(&self);
                    let watcher = graceful.watcher();
                    tokio::spawn(async move { listener.connection(accepted, watcher).await });
                }
            }
        }
        accepting.shutdown().await;
        let seconds = self.limits.stop_seconds;
        tracing::info!(connections = graceful.count(), "stopping; requests in progress get {seconds} s");
        if tokio::time::timeout(Duration::from_secs(seconds), graceful.shutdown()).await.is_err() {
            tracing::warn!("some requests were still in progress and were cut off");
        }
    }

    async fn accept(self: Arc<Self>, socket: TcpListener, sender: mpsc::Sender<Accepted>) {
        loop {
            // A permit is taken first: without one, connections wait in the kernel's queue.
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else { return };
            match socket.accept().await {
                Ok((stream, address)) => {
                    let slot = self.per_address.take(address.ip(), self.limits.connections_per_address);
                    let Some(slot) = slot else {
                        tracing::debug!(%address, "refused: too many connections from this address");
                        continue;
                    };
                    let accepted = Accepted { stream, address, _permit: permit, _slot: slot };
                    if sender.send(accepted).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // Out of file descriptors, usually: accepting again at once would only burn the processor.
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(&self, accepted: Accepted, watcher: Watcher) {
        let Accepted { stream, address, .. } = accepted;
        // Small answers must not wait for an acknowledgement that a delayed-ACK client holds back.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "setting TCP_NODELAY");
        }
        let Some(acceptor) = &self.tls else {
            return self.requests(stream, address, watcher).await;
        };
        let handshake = tokio::time::timeout(self.header_time(), acceptor.accept(stream)).await;
        match handshake {
            Ok(Ok(stream)) => self.requests(stream, address, watcher).await,
            Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake"),
            Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
        }
    }

    async fn requests(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        address: SocketAddr,
        watcher: Watcher,
    ) {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(Duration::from_secs(self.limits.body_idle_seconds)));
        let stream = Box::pin(stream);
        let router = self.router.clone();
        let has_asked = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&has_asked);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(Peer(address.ip().to_canonical()));
            router.clone().call(request)
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_time())
            .max_buf_size(256 * 1024)
            .max_headers(64);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(128)
            .max_header_list_size(32 * 1024)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(self.header_time());
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(watcher.watch(connection.into_owned()));
        // The timeout for headers begins when it is known which version of HTTP is spoken. Until then, nothing would
        // end the wait for the first bytes.
        let ended = match tokio::time::timeout(self.header_time(), &mut connection).await {
            Ok(ended) => ended,
            Err(_) if has_asked.load(Ordering::Relaxed) => connection.await,
            Err(_) => return tracing::debug!(%address, "no request came"),
        };
        if let Err(error) = ended {
            tracing::debug!(%address, error = %error, "connection ended");
        }
    }

    const fn header_time(&self) -> Duration {
        Duration::from_secs(self.limits.header_seconds)
    }
}

/// Opens the sockets, so that a port that is taken is an error before anything is announced.
pub(crate) async fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut sockets = Vec::with_capacity(addresses.len());
    for address in addresses {
        sockets.push(TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?);
    }
    Ok(sockets)
}

fn load_tls(config: &TlsConfig) -> anyhow::Result<TlsAcceptor> {
    fn reading(path: &Path) -> String {
        format!("reading {}", path.display())
    }
    let chain = CertificateDer::pem_file_iter(&config.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| reading(&config.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&config.key).with_context(|| reading(&config.key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and the key do not belong together")?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// How many connections each address has.
#[derive(Default)]
struct AddressCounts(Mutex<HashMap<IpAddr, usize>>);

impl AddressCounts {
    fn take(self: &Arc<Self>, address: IpAddr, limit: usize) -> Option<AddressSlot> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(AddressSlot { counts: Arc::clone(self), address })
    }
}

/// One connection of an address, given back when it ends.
struct AddressSlot {
    counts: Arc<AddressCounts>,
    address: IpAddr,
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_connections_back() {
        let counts = Arc::new(AddressCounts::default());
        let address = IpAddr::from([127, 0, 0, 1]);
        let first = counts.take(address, 2);
        let second = counts.take(address, 2);
        assert!(first.is_some() && second.is_some());
        assert!(counts.take(address, 2).is_none());
        drop(first);
        assert!(counts.take(address, 2).is_some());
        drop(second);
        assert!(counts.0.lock().unwrap().is_empty());
    }
}
