//! The programs whose deltas the limit is the smallest of.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::bench::prepare;

/// bsdiff needs seventeen times the old file in memory.
const BSDIFF_BYTES_MAX: u64 = 192 << 20;
/// The window that xdelta3 takes at most for the old file.
const XDELTA_WINDOW_MAX: u64 = 2 << 30;

/// A way to make a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Zstd,
    Xdelta,
    Bsdiff,
}

impl Method {
    pub(super) const ALL: [Self; 3] = [Self::Zstd, Self::Xdelta, Self::Bsdiff];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Xdelta => "xdelta3",
            Self::Bsdiff => "bsdiff",
        }
    }
}

/// The smallest delta from one file to another.
pub(super) fn smallest(old: &Path, new: &Path, work: &Path) -> Result<(u64, Method)> {
    let mut sizes = Vec::new();
    for method in Method::ALL {
        if let Some(bytes) = delta(method, old, new, work)? {
            sizes.push((bytes, method));
        }
    }
    choose(&sizes).context("zstd takes files of any size")
}

/// The smallest, and of equals the first.
fn choose(sizes: &[(u64, Method)]) -> Option<(u64, Method)> {
    sizes.iter().copied().min_by_key(|(bytes, _)| *bytes)
}

/// The size of a delta; none where the program cannot be asked.
fn delta(method: Method, old: &Path, new: &Path, work: &Path) -> Result<Option<u64>> {
    let length = |path: &Path| {
        fs::metadata(path).map(|data| data.len()).with_context(|| format!("reading {}", path.display()))
    };
    let (old_size, new_size) = (length(old)?, length(new)?);
    let to = work.join("delta");
    let mut command = match method {
        Method::Zstd => {
            let mut command = zstd();
            if old_size > 0 {
                command.arg(format!("--patch-from={}", old.display()));
            }
            command.arg(new).arg("-o").arg(&to);
            command
        }
        Method::Xdelta => {
            if old_size > XDELTA_WINDOW_MAX {
                return Ok(None);
            }
            let mut command = Command::new("xdelta3");
            command.args(["-9", "-e", "-f", "-q"]);
            // The whole old file is to be seen, whatever the default.
            command.args(["-B", &old_size.next_power_of_two().clamp(1 << 20, XDELTA_WINDOW_MAX).to_string()]);
            command.arg("-s").arg(old).arg(new).arg(&to);
            command
        }
        Method::Bsdiff => {
            if old_size + new_size > BSDIFF_BYTES_MAX || old_size == 0 {
                return Ok(None);
            }
            let mut command = Command::new("bsdiff");
            command.arg(old).arg(new).arg(&to);
            command
        }
    };
    prepare(&mut command)?;
    let bytes = length(&to)?;
    fs::remove_file(&to)?;
    Ok(Some(bytes))
}

/// The size of a file compressed against nothing.
pub(super) fn compress(file: &Path, work: &Path) -> Result<u64> {
    let to = work.join("compressed");
    File::create(&to)?;
    prepare(zstd().arg(file).arg("-o").arg(&to))?;
    Ok(fs::metadata(&to)?.len())
}

fn zstd() -> Command {
    let mut command = Command::new("zstd");
    // More threads would cut the input, and compress it less.
    command.args(["-19", "--long=31", "--single-thread", "--quiet", "--force"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_wins() {
        let sizes = [(30, Method::Zstd), (20, Method::Xdelta), (20, Method::Bsdiff)];
        assert_eq!(choose(&sizes), Some((20, Method::Xdelta)));
        assert_eq!(choose(&[]), None);
    }
}
