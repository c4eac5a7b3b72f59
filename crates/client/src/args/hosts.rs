//! Arguments of the commands that are about other hosts.

use std::ffi::OsString;

use clap::Args;

use crate::config::Span;
use crate::hosts::name::Named;
use crate::server_url::ServerUrl;

/// Arguments of `deploy`: which hosts, in which order, and what they are to do.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct DeployArgs {
    /// A host of the configuration, all hosts of a group as @GROUP, or what ssh calls one, such as root@web.example.org.
    #[arg(value_name = "HOST", required = true)]
    pub hosts: Vec<Named>,

    /// The first so many hosts are tried one after the other; the others follow when all of these are well.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub canary: usize,

    /// How many of the others at the same time.
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = parallel)]
    pub parallel: usize,

    /// How long a host may take, such as 20m [default: 1h].
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Span>,

    /// Confirm what was applied from a new connection: `smart-sync confirm`, on each host where it went well.
    #[arg(long, conflicts_with = "dry_run")]
    pub confirm: bool,

    /// Show what each host would do; --dry-run is handed on.
    #[arg(long)]
    pub dry_run: bool,

    /// Carry this program to hosts that do not have it, or have another version of it.
    #[arg(long)]
    pub install: bool,

    /// Carry it also where a package of the host brings another version.
    #[arg(long, requires = "install")]
    pub replace: bool,

    /// Arguments of smart-sync on the hosts, behind `--`.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub arguments: Vec<OsString>,
}

/// Arguments of `hosts`: who is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct HostsArgs {
    /// The server that hosts report to [default: that of this host's own reports, else of its realm].
    #[arg(long, value_name = "URL")]
    pub server: Option<ServerUrl>,
}

fn parallel(text: &str) -> Result<usize, &'static str> {
    let number = text.parse().ok().filter(|number| (1..=256).contains(number));
    number.ok_or("between 1 and 256 hosts are updated at the same time")
}
