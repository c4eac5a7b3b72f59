//! What the configuration says of other hosts.

use serde::Deserialize;
use smart_sync_sync::wire::report::HostName;

use super::name::{Destination, Group, ProgramPath};
use crate::config::{RealmName, optional_from_text};
use crate::server_url::ServerUrl;

/// Another host.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostConfig {
    /// What ssh calls it; its name where this is left out.
    pub ssh: Option<Destination>,
    /// Where smart-sync is there, or is to be; where a shell without login finds it, if this is left out.
    pub program: Option<ProgramPath>,
    /// The groups that it is in.
    #[serde(default)]
    pub groups: Vec<Group>,
}

/// To whom this host reports how it stands.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReportConfig {
    /// What this host is called there.
    pub name: HostName,
    /// The realm whose first server is told, where there are several realms.
    pub realm: Option<RealmName>,
    /// Another server than that.
    #[serde(default, deserialize_with = "optional_from_text")]
    pub server: Option<ServerUrl>,
}
