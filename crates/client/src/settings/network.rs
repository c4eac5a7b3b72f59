//! How the network is used.

use std::time::Duration;

use crate::config::{AllowedOnNetwork, Config};

/// How the network is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkSettings {
    /// How many files are downloaded at the same time.
    pub connections: usize,
    /// How long a connection may bring next to nothing.
    pub stall: Duration,
    /// How long a rate limit is waited for.
    pub rate_limit_wait: Duration,
    /// Where tokens are sent.
    pub token_way: TokenWay,
}

/// The ways on which a token is sent to a smart-sync server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenWay {
    /// Encrypted, or within this machine.
    Confidential,
    /// Over `http:` as well.
    Any,
}

/// Decides how the network is used.
pub fn network(config: &Config) -> NetworkSettings {
    let network = &config.network;
    NetworkSettings {
        connections: network.connections.map_or(8, |connections| connections.0),
        stall: network.stall.map_or(Duration::from_secs(30), |span| span.0),
        rate_limit_wait: network.rate_limit_wait.map_or(Duration::from_secs(60), |span| span.0),
        token_way: if network.allow.contains(&AllowedOnNetwork::TokenOverHttp) {
            TokenWay::Any
        } else {
            TokenWay::Confidential
        },
    }
}
