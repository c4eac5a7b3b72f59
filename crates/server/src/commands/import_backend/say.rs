//! What is said of a backend: what becomes of it, and what does not. Never what stands in a line that is left out.

use smart_sync_store::count::counted;
use smart_sync_store::manifest::Shown;
use smart_sync_sync::name::Channel;

use super::super::print;
use super::Looked;
use crate::import::host_cfg;
use crate::import::plan::{Made, Plan, Planned};
use crate::import::scan::Found;

/// The most things of one kind that are said one by one.
const SHOWN_MAX: usize = 100;

/// Says what becomes of a directory.
pub(super) fn planned(planned: &Planned, looked: &Looked) -> anyhow::Result<()> {
    let Planned { place, channel, kind, made } = planned;
    let what = match made {
        Made::Directory(_) => {
            format!("{}, {}", counted(looked.files, "file", "files"), counted(looked.bytes, "byte", "bytes"))
        }
        Made::Git(refs) => counted(refs.len() as u64, "branch or tag", "branches and tags").to_string(),
    };
    print(format_args!("{} becomes {channel} (kind {kind}): {what}", shown(place)))?;
    few(&looked.left_out, |line| format!("  {}/{line}", shown(place)))?;
    left_out(planned, &looked.found)
}

/// Says whose signatures nobody looks at.
pub(super) fn not_judged(plan: &Plan) -> anyhow::Result<()> {
    let channels: Vec<&str> = plan
        .channels
        .iter()
        .filter(|planned| planned.is_signed_elsewhere())
        .map(|planned| planned.channel.as_str())
        .collect();
    if channels.is_empty() {
        return Ok(());
    }
    print(format_args!(
        "signatures are not judged without --keyring, and what is not signed is taken over, of:"
    ))?;
    few(&channels, |channel| format!("  {channel}"))
}

/// Says what of a directory is left out.
pub(super) fn left_out(planned: &Planned, found: &[Found]) -> anyhow::Result<()> {
    few(found, |Found { path, why, instead }| {
        let what = if instead.is_some() { "without some lines" } else { "left out" };
        format!("  {}/{path} is {what}: {why}", shown(&planned.place))
    })
}

/// Says what to type for upstreams that are not configured here.
pub(super) fn mirror(of: &str, channel: &str, urls: &[String]) -> anyhow::Result<()> {
    print(format_args!("upstreams of {of}, for `smart-sync-server mirror add {of} --channel {channel}`:"))?;
    sources(urls)
}

/// Shows upstreams.
pub(super) fn sources(urls: &[String]) -> anyhow::Result<()> {
    few(urls, |url| format!("  --source {}", Shown(url.as_bytes())))
}

/// Says what hosts were said to follow.
pub(super) fn hosts(plan: &Plan) -> anyhow::Result<()> {
    let channels: Vec<Channel> = plan.channels.iter().map(|planned| planned.channel.clone()).collect();
    for (place, text) in &plan.hosts {
        let nodes = match str::from_utf8(text) {
            Ok(text) => host_cfg::parse(text),
            Err(_) => Err("it is not UTF-8".to_owned()),
        };
        let place = shown(place);
        let proposal = match nodes {
            Ok(nodes) => host_cfg::propose(&nodes, &channels),
            Err(error) => {
                print(format_args!("{place} is not understood: {error}"))?;
                continue;
            }
        };
        if !proposal.profile.is_empty() {
            print(format_args!("{place} as a profile, to be read and published by hand:"))?;
            few(&proposal.profile.lines().collect::<Vec<_>>(), |line| format!("    {line}"))?;
        }
        let lines: Vec<String> =
            proposal.not_understood.iter().take(SHOWN_MAX).map(usize::to_string).collect();
        if !lines.is_empty() {
            print(format_args!("{place}, lines that no profile says: {}", lines.join(", ")))?;
        }
    }
    Ok(())
}

/// Says what is not taken over.
pub(super) fn not_taken(plan: &Plan) -> anyhow::Result<()> {
    few(&plan.not_taken, |(place, why)| format!("{} is not taken over: {why}", shown(place)))
}

fn few<T>(things: &[T], line: impl Fn(&T) -> String) -> anyhow::Result<()> {
    for thing in things.iter().take(SHOWN_MAX) {
        print(format_args!("{}", line(thing)))?;
    }
    match things.len().saturating_sub(SHOWN_MAX) {
        0 => Ok(()),
        more => print(format_args!("  and {more} more")),
    }
}

fn shown(path: &std::path::Path) -> String {
    Shown(path.as_os_str().as_encoded_bytes()).to_string()
}
