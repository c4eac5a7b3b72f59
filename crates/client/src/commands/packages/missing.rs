//! Which packages have to be built.

use super::list::flags_of;
use super::lists::{installed, pretended};
use super::wanted::{Builds, Built, Lack, Wanted, lack};
use super::{Package, Shelf};
use crate::args::packages::PackageMissingArgs;
use crate::commands::Listing;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Format, count};
use crate::sync::Surroundings;

/// Shows them. There being some is no failure: it is what was asked.
pub(super) fn missing(
    args: &PackageMissingArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let wanted = match (&args.installed, &args.pretend) {
        (Some(database), _) => installed(database)?,
        (None, Some(path)) => pretended(path)?,
        (None, None) => Vec::new(),
    };
    if wanted.is_empty() {
        return Err(Failure::message(Exit::Arguments, "there are no packages to compare with the index").hint(
            "--installed names a database such as /var/db/pkg, --pretend what `emerge --pretend --verbose` has printed",
        ));
    }
    let shelf = Shelf::open(&args.tree, config, surroundings)?;
    let built: Vec<Built> = shelf.packages().map(|package| built(&package)).collect();
    let builds = if args.any_build { Builds::Any } else { Builds::Same };
    let lacking: Vec<(&Wanted, Lack)> =
        wanted.iter().filter_map(|wanted| Some((wanted, lack(wanted, &built, builds)?))).collect();
    let mut listing = Listing::default();
    for (wanted, lack) in &lacking {
        if output.format() == Format::Json {
            output.event(&serde_json::json!({
                "event": "missing",
                "cpv": wanted.cpv.to_string(),
                "reason": shown(lack),
            }));
        } else {
            listing.line(&format!("{:<44} {}", wanted.cpv.to_string(), shown(lack)));
        }
    }
    listing.print(output)?;
    let there = (wanted.len() - lacking.len()) as u64;
    output.info(&format!(
        "{} of {} to be built",
        lacking.len(),
        count(wanted.len() as u64, "package has", "packages have"),
    ));
    output.detail(&format!("{} in the index", count(there, "package is", "packages are")));
    Ok(Exit::Success)
}

fn built(package: &Package<'_>) -> Built {
    let enabled = flags_of(package).into_iter().map(str::to_owned).collect();
    Built { cpv: package.cpv.clone(), enabled, build_id: package.build_id }
}

fn shown(lack: &Lack) -> String {
    match lack {
        Lack::Package => "is not in the index".to_owned(),
        Lack::Version(newest) => format!("the index has {newest}"),
        Lack::Flags(flags) => format!("the index has it without {}", flags.join(" ")),
        Lack::Build(builds) => {
            let builds: Vec<String> = builds.iter().map(u64::to_string).collect();
            format!("the index has build {}", builds.join(", "))
        }
    }
}
