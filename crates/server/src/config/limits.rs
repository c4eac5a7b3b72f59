//! What clients may ask of a server, and how it is spoken to.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the certificate lies.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TlsConfig {
    /// The chain, PEM.
    pub(crate) certificate: PathBuf,
    /// The private key, PEM.
    pub(crate) key: PathBuf,
}

/// What a client may ask of the server.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Limits {
    /// Connections at once.
    pub(crate) connections: usize,
    /// Connections at once from one address.
    pub(crate) connections_per_address: usize,
    /// Requests a second from one address, on average.
    pub(crate) requests_per_second: u32,
    /// Requests from one address before the average counts.
    pub(crate) requests_burst: u32,
    /// Seconds until the headers of a request must be there.
    pub(crate) header_seconds: u64,
    /// Seconds that a body may pause.
    pub(crate) body_idle_seconds: u64,
    /// Seconds that requests in progress get when the server stops.
    pub(crate) stop_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_address: 256,
            requests_per_second: 500,
            requests_burst: 5000,
            header_seconds: 10,
            body_idle_seconds: 30,
            stop_seconds: 30,
        }
    }
}
