//! `hosts forget`

use anyhow::bail;

use crate::args::HostsCommand;
use crate::data_dir::DataDir;
use crate::hosts::HostReports;

pub(super) fn run(command: &HostsCommand) -> anyhow::Result<()> {
    let HostsCommand::Forget { data, name } = command;
    let data = DataDir::open(&data.path)?;
    if !HostReports::new(data.hosts()).forget(name)? {
        bail!("no host has reported as {name}; `smart-sync hosts` shows those that have");
    }
    Ok(())
}
