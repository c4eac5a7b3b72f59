//! What the configuration says of other hosts.

use serde::Deserialize;

use super::name::{Destination, Group};

/// Another host.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostConfig {
    /// What ssh calls it; its name where this is left out.
    pub ssh: Option<Destination>,
    /// The groups that it is in.
    #[serde(default)]
    pub groups: Vec<Group>,
}
