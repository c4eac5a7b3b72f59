//! Which packages have to be built.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::list::flags_of;
use super::wanted::{Builds, Built, Flags, Lack, Wanted, lack, of_emerge};
use super::{Package, Shelf};
use crate::args::packages::PackageMissingArgs;
use crate::commands::Listing;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Format, count};
use crate::sync::Surroundings;

/// The largest value in a database of installed packages that is read.
const VALUE_BYTES_MAX: u64 = 1 << 20;
/// The most that is read of what `emerge` has printed.
const PRINTED_BYTES_MAX: u64 = 64 << 20;

/// Shows them. There being some is no failure: it is what was asked.
pub(super) fn missing(
    args: &PackageMissingArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let wanted = match (&args.installed, &args.pretend) {
        (Some(database), _) => installed(database)?,
        (None, Some(path)) => of_emerge(&printed(path)?),
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

/// The packages of a database of Portage: a directory for each, with a file for each value.
fn installed(database: &Path) -> Result<Vec<Wanted>, Failure> {
    let mut found = Vec::new();
    for category in directories(database)? {
        for package in directories(&category)? {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Portage works in directories whose names are none of packages.
            let Ok(cpv) = format!("{}/{}", name(&category), name(&package)).parse() else { continue };
            let words = |key: &str| -> Result<Vec<String>, Failure> {
                let value = value(&package.join(key))?;
                Ok(value.split_ascii_whitespace().map(str::to_owned).collect())
            };
            let said: Vec<String> = words("IUSE")?;
            let said = said.into_iter().map(|flag| flag.trim_start_matches(['+', '-']).to_owned()).collect();
            let flags = Flags { enabled: words("USE")?.into_iter().collect(), said };
            let build_id = value(&package.join("BUILD_ID"))?.trim().parse().ok();
            found.push(Wanted { cpv, flags: Some(flags), build_id });
        }
    }
    Ok(found)
}

fn directories(path: &Path) -> Result<Vec<std::path::PathBuf>, Failure> {
    let wrong = |error: io::Error| Failure::from(error).context(format!("reading {}", path.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        if entry.file_type().map_err(wrong)?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A value; empty where there is none.
fn value(path: &Path) -> Result<String, Failure> {
    let read = File::open(path).and_then(|file| read_bounded(file, VALUE_BYTES_MAX));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| Failure::from(error).context(format!("reading {}", path.display()))),
    }
}

fn printed(path: &Path) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        read_bounded(io::stdin().lock(), PRINTED_BYTES_MAX)
    } else {
        File::open(path).and_then(|file| read_bounded(file, PRINTED_BYTES_MAX))
    };
    read.map_err(|error| Failure::from(error).context(format!("reading {}", path.display())))
}

/// Reads a text to its end, or refuses one that is larger: what is cut off would be missing without a word.
fn read_bounded(input: impl io::Read, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    input.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
