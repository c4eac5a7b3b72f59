//! Which packages of an index are not needed, and an index without them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use indicatif::HumanBytes;
use smart_sync_store::manifest::TreePath;
use smart_sync_sync::kinds::ArtifactKind as _;
use smart_sync_sync::kinds::KindError;
use smart_sync_sync::kinds::binpkgs::Binpkgs;
use smart_sync_sync::kinds::binpkgs::index::Index;
use smart_sync_sync::kinds::binpkgs::redundant::{Need, Needs, Plan, PlanError, Policy, Redundant, plan};
use smart_sync_sync::kinds::binpkgs::take_out::take_out;

use super::lists::{atoms, installed, pretended};
use super::wanted::Wanted;
use super::{Shelf, title};
use crate::args::packages::PackageRedundantArgs;
use crate::args::publish::PublishArgs;
use crate::args::sync::ChannelArgs;
use crate::commands::{Listing, publish as publishing};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output, count};
use crate::realm::resolve::now;
use crate::sync::Surroundings;

/// Shows them, and publishes an index without them when told to.
pub(super) fn redundant(
    args: &PackageRedundantArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let policy = Policy { needs: needs(args)?, one_set_of_flags: args.other_use };
    let tree = ChannelArgs {
        channel: Some(args.channel.clone()),
        servers: args.server.iter().cloned().collect(),
        ..ChannelArgs::default()
    };
    let shelf = Shelf::open(&tree, config, surroundings)?;
    let planned = plan(&shelf.index, &policy).map_err(undecided)?;
    show(&planned, &shelf.index, output)?;
    if planned.redundant.is_empty() {
        return Ok(Exit::Success);
    }
    if !args.yes {
        output.info("nothing was changed; add --yes and --key KEY to publish an index without them");
        return Ok(Exit::Success);
    }
    let rearranged: publishing::Rearranged<'_> = &|before| {
        let prepared = take_out(before, |index| paths_now(index, &policy, &planned, output), now());
        prepared.map_err(|error| match error {
            NotTaken::Failed(failure) => failure,
            NotTaken::Kind(error) => Failure::new(Exit::General, error),
        })
    };
    publishing::rearrange(&publish_args(args)?, &Binpkgs, rearranged, config, surroundings)
}

/// What is taken out of the index as it is published now. The plan is made anew of it: nothing goes that is needed since.
fn paths_now(
    index: &Index,
    policy: &Policy,
    shown: &Plan,
    output: &Output,
) -> Result<BTreeSet<TreePath>, NotTaken> {
    let planned = plan(index, policy).map_err(undecided)?;
    if planned.redundant != shown.redundant {
        output.info("somebody has published meanwhile, and this is not needed now:");
        show(&planned, index, output)?;
    }
    let paths = planned.redundant.iter().map(|package| TreePath::new(package.path.as_bytes()));
    let paths: Result<_, _> = paths.collect();
    paths.map_err(|error| NotTaken::Failed(Failure::new(Exit::General, error)))
}

/// Why packages are not taken out.
enum NotTaken {
    Failed(Failure),
    Kind(KindError),
}

impl From<Failure> for NotTaken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<KindError> for NotTaken {
    fn from(error: KindError) -> Self {
        Self::Kind(error)
    }
}

fn undecided(error: PlanError) -> Failure {
    match error {
        PlanError::NothingNeeded => Failure::new(Exit::Arguments, error)
            .hint("name what the hosts of this index have or want with --needed, --installed or --pretend"),
        error @ PlanError::Dependencies { .. } => Failure::new(Exit::General, error)
            .hint("leave the lists out: only packages that were built again are judged then"),
    }
}

/// What the lists name; none where there are no lists.
fn needs(args: &PackageRedundantArgs) -> Result<Option<Needs>, Failure> {
    let is_stdin = |path: &&PathBuf| path.as_os_str() == "-";
    if args.needed.iter().chain(&args.pretend).filter(is_stdin).count() > 1 {
        return Err(Failure::message(Exit::Arguments, "standard input is one list, and - names it twice"));
    }
    let mut named = Vec::new();
    for path in &args.needed {
        named.extend(atoms(path)?.into_iter().map(Need::Atom));
    }
    let has = |wanted: Wanted| Need::From(wanted.cpv);
    for database in &args.installed {
        named.extend(installed(database)?.into_iter().map(has));
    }
    for path in &args.pretend {
        named.extend(pretended(path)?.into_iter().map(has));
    }
    if args.needed.is_empty() && args.installed.is_empty() && args.pretend.is_empty() {
        if args.with_bdeps || args.versions.is_some() {
            let text = "--with-bdeps and --versions say what lists need, and there are no lists";
            return Err(Failure::message(Exit::Arguments, text)
                .hint("name some with --needed, --installed or --pretend"));
        }
        return Ok(None);
    }
    let versions = args.versions.map(|versions| versions as usize);
    Ok(Some(Needs { named, to_build: args.with_bdeps, versions }))
}

fn publish_args(args: &PackageRedundantArgs) -> Result<PublishArgs, Failure> {
    let kind = Binpkgs.name().parse().map_err(|error| Failure::new(Exit::General, error))?;
    Ok(PublishArgs {
        server: args.server.clone(),
        minisign_key: args.minisign_key.clone(),
        ssh_key: args.ssh_key.clone(),
        ..PublishArgs::of(None, args.channel.clone(), kind, args.keys.clone())
    })
}

fn show(planned: &Plan, index: &Index, output: &Output) -> Result<(), Failure> {
    let mut listing = Listing::default();
    for package in &planned.redundant {
        if output.format() == Format::Json {
            output.event(&as_json(package));
        } else {
            let (title, size) = (title(&package.cpv, package.build_id), HumanBytes(package.size).to_string());
            listing.line(&format!("{title:<44} {size:>11}  {}", package.reason));
        }
    }
    listing.print(output)?;
    if planned.unknown > 0 {
        let unknown = count(planned.unknown as u64, "package is", "packages are");
        output.detail(&format!("{unknown} named by lists and not in the index"));
    }
    let bytes: u64 = planned.redundant.iter().map(|package| package.size).sum();
    output.info(&format!(
        "{} of {} not needed, with {}",
        planned.redundant.len(),
        count(index.packages.len() as u64, "package is", "packages are"),
        HumanBytes(bytes)
    ));
    Ok(())
}

fn as_json(package: &Redundant) -> serde_json::Value {
    serde_json::json!({
        "event": "redundant",
        "cpv": package.cpv,
        "build_id": package.build_id,
        "path": package.path,
        "size": package.size,
        "reason": package.reason.word(),
        "text": package.reason.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::output::Verbosity;

    /// What was said.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn index(builds: &[u64]) -> Index {
        let mut text = format!("PACKAGES: {}\nTIMESTAMP: 1\nVERSION: 0\n\n", builds.len());
        for build in builds {
            write!(text, "BUILD_ID: {build}\nCPV: c/a-1\nPATH: c/a-1-{build}.gpkg.tar\nSIZE: 1\n\n").unwrap();
        }
        Index::parse(&text).unwrap()
    }

    #[test]
    fn what_somebody_has_published_meanwhile_is_planned_for_anew_and_said() {
        let policy = Policy::default();
        let shown = plan(&index(&[1, 2]), &policy).unwrap();
        for (builds, gone, is_said) in [(&[1, 2][..], &["c/a-1-1.gpkg.tar"][..], false), (&[2], &[], true)] {
            let said = Said::default();
            let output =
                Output::to(Format::Text, Verbosity::Normal, Box::new(said.clone()), Box::new(io::sink()));
            let Ok(paths) = paths_now(&index(builds), &policy, &shown, &output) else {
                panic!("it is planned")
            };
            assert_eq!(paths.iter().map(ToString::to_string).collect::<Vec<_>>(), gone);
            let said = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
            assert_eq!(said.contains("somebody has published meanwhile"), is_said, "{said}");
            assert_eq!(said.contains("0 of 1 package"), is_said, "{said}");
        }
    }
}
