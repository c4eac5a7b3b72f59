//! Connections of rsync: each is handed to the rsync program, as inetd does it.
//!
//! So the number of transfers is bounded here, and a transfer ends with its connection, with the time that it may
//! take, or with the server. The program reads its configuration when it starts, and that names one version of each
//! tree.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::RsyncViews;
use crate::child::ChildGroup;
use crate::config::RsyncConfig;

/// The longest that a transfer may take.
const TRANSFER_MAX: Duration = Duration::from_secs(6 * 3600);
/// The log is begun anew when it is longer than this.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Hands connections to rsync until it is dropped.
pub(crate) struct Listener {
    views: Arc<RsyncViews>,
    connections: Arc<Semaphore>,
    per_address: usize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

impl Listener {
    /// For these views.
    pub(crate) fn new(views: Arc<RsyncViews>, config: &RsyncConfig) -> Self {
        let connections = Arc::new(Semaphore::new(config.connections.max(1)));
        Self {
            views,
            connections,
            per_address: config.connections_per_address.max(1),
            addresses: Mutex::default(),
        }
    }

    /// Accepts connections on these sockets. When this is dropped, the transfers are broken off.
    pub(crate) async fn serve(self: Arc<Self>, sockets: Vec<TcpListener>) {
        let mut accepting = JoinSet::new();
        for socket in sockets {
            accepting.spawn(Arc::clone(&self).accept(socket));
        }
        while accepting.join_next().await.is_some() {}
    }

    async fn accept(self: Arc<Self>, socket: TcpListener) {
        let mut transfers = JoinSet::new();
        loop {
            // Without a permit, connections wait in the kernel's queue.
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                // What has ended must not stay in the set.
                Some(_) = transfers.join_next(), if !transfers.is_empty() => continue,
            };
            match accepted {
                Ok((stream, address)) => {
                    let listener = Arc::clone(&self);
                    transfers.spawn(async move {
                        let _permit = permit;
                        listener.transfer(stream, address).await;
                    });
                }
                Err(error) => {
                    // Out of file descriptors, usually: accepting again at once would only burn the processor.
                    tracing::warn!(%error, "accepting a connection of rsync");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn transfer(&self, stream: TcpStream, address: SocketAddr) {
        let ip = address.ip().to_canonical();
        let Some(_slot) = self.take(ip) else {
            tracing::debug!(%address, "refused: too many transfers to this address");
            // What a client prints before it gives up.
            let _ = stream.try_write(b"@ERROR: too many connections from your address -- try again later\n");
            return;
        };
        let child = match self.start(stream) {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return tracing::error!(
                    "rsync is not installed\nhint: install it, on Debian with `apt-get install rsync`"
                );
            }
            Err(error) => return tracing::error!(%error, "starting rsync"),
        };
        match tokio::time::timeout(TRANSFER_MAX, child.ended()).await {
            Ok(Ok(status)) => tracing::info!(peer = %ip, status, "a transfer of rsync has ended"),
            Ok(Err(error)) => tracing::error!(%error, "waiting for rsync"),
            Err(_) => tracing::warn!(peer = %ip, "a transfer of rsync took too long, and was broken off"),
        }
    }

    fn start(&self, stream: TcpStream) -> io::Result<ChildGroup> {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        let log = self.views.log();
        if fs::metadata(&log).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
            // Nobody needs it but whoever looks for what has just happened.
            let _ = fs::remove_file(&log);
        }
        let mut command = Command::new("rsync");
        command.arg("--daemon").arg("--config").arg(self.views.config()).arg("--log-file").arg(log);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.current_dir("/").stdin(OwnedFd::from(stream)).stdout(Stdio::null()).stderr(Stdio::null());
        ChildGroup::start(&mut command)
    }

    fn take(&self, address: IpAddr) -> Option<Slot<'_>> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(address).or_default();
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        Some(Slot { addresses: &self.addresses, address })
    }
}

/// One transfer of an address, given back when it ends.
struct Slot<'a> {
    addresses: &'a Mutex<HashMap<IpAddr, usize>>,
    address: IpAddr,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}
