//! `patched`: compares directories of patch files with what is installed.
//!
//! A directory of patch files lies over the system: `etc/hosts` in it stands for `/etc/hosts`. It is only looked at,
//! here and there; what brings a system to such a directory is a target of the kind overlay.

mod compare;
mod layers;
mod report;

use smart_sync_sync::name::Kind;

use super::{Listing, print, publish};
use crate::args::patched::PatchedArgs;
use crate::args::publish::{PublishArgs, TreeInput};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::interrupt::interrupted;
use crate::output::{Format, count};
use crate::sync::Surroundings;
use compare::{Difference, System};
use layers::Layers;
use report::{Line, Report};

/// What a report is published as.
const KIND: &str = "report";

/// Compares them, shows what differs, and publishes it where that is asked for.
pub fn run(args: &PatchedArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let layers = Layers::read(&args.directories, &args.mappings)?;
    let system = System::open(&args.root)?;
    let mut report = Report::default();
    let mut unread = Vec::new();
    for (path, file) in layers.files() {
        if surroundings.interrupt.is_requested() {
            return Err(interrupted());
        }
        match system.compare(path, file) {
            Ok(difference) => report.add(path, file, difference),
            Err(error) => unread.push(error.context(format!("comparing {path}"))),
        }
    }
    show(&report, args, surroundings)?;
    for left_out in layers.left_out() {
        output.warning(&format!("{left_out} is neither a file nor a symbolic link, and was passed over"));
    }
    let counted = count(report.compared(), "file", "files");
    output.info(&format!("{counted} compared: {}", report.summary()));
    // A report that lacks what could not be read would say that all of it is well.
    if let Some(failure) = unread.pop() {
        for failure in unread {
            output.failure(&failure);
        }
        return Err(failure);
    }
    if let Some(channel) = &args.publish {
        let directory = report.write(&surroundings.state_dir.join("patched"), channel)?;
        let kind: Kind = KIND.parse().map_err(|error| Failure::new(Exit::General, error))?;
        let tree = Some(TreeInput::Directory(directory));
        let mut published = PublishArgs::of(tree, channel.clone(), kind, args.keys.clone());
        published.server.clone_from(&args.server);
        published.exclude = vec![String::new()];
        publish::run(&published, config, surroundings)?;
    }
    Ok(if report.differs() { Exit::Drift } else { Exit::Success })
}

fn show(report: &Report, args: &PatchedArgs, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    let output = surroundings.output;
    if output.format() == Format::Json {
        for line in report.lines() {
            output.event(&line);
        }
        return Ok(());
    }
    let mut listing = Listing::default();
    // What is as it should be is of no interest to people.
    for line in report.lines().filter(Line::differs) {
        listing.line(&line.to_string());
    }
    listing.print(output)?;
    if args.diff {
        print(output, super::for_people(&report.texts(|_: &Difference| true)).as_bytes())?;
    }
    Ok(())
}
