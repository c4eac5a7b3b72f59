//! Lists of packages that somebody has or wants: databases of Portage, what `emerge` has printed, and atoms.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use smart_sync_sync::kinds::binpkgs::atom::Atom;

use super::atom;
use super::wanted::{Flags, Wanted, of_emerge};
use crate::failure::{Exit, Failure};

/// The largest value in a database of installed packages that is read.
const VALUE_BYTES_MAX: u64 = 1 << 20;
/// The most that is read of a list.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// The packages of a database of Portage: a directory for each, with a file for each value.
pub(super) fn installed(database: &Path) -> Result<Vec<Wanted>, Failure> {
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

fn directories(path: &Path) -> Result<Vec<PathBuf>, Failure> {
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

/// The packages that `emerge --pretend --verbose` has printed.
pub(super) fn pretended(path: &Path) -> Result<Vec<Wanted>, Failure> {
    Ok(of_emerge(&text(path)?))
}

/// The atoms of a file, one on each line; `#` begins a comment. A set of packages stands for others that are not there, so
/// it is refused.
pub(super) fn atoms(path: &Path) -> Result<Vec<Atom>, Failure> {
    let text = text(path)?;
    let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(line, _)| line).trim());
    let read = lines.filter(|line| !line.is_empty()).map(|line| {
        if line.starts_with('@') {
            let text = format!("{line} is a set of packages, and only Portage knows what is in it");
            return Err(Failure::message(Exit::Arguments, text)
                .hint("name what `emerge --pretend --verbose --emptytree @world` prints with --pretend"));
        }
        atom(line)
    });
    read.collect::<Result<_, _>>().map_err(|failure| failure.context(format!("reading {}", path.display())))
}

/// A list that somebody has written into a file, or that comes on standard input.
fn text(path: &Path) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        read_bounded(io::stdin().lock(), LIST_BYTES_MAX)
    } else {
        File::open(path).and_then(|file| read_bounded(file, LIST_BYTES_MAX))
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
