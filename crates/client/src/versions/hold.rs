//! A target that somebody took back stays where it is until somebody says otherwise.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure};
use crate::realm::trust_store::write;

const NOTE: &str = "held";

/// Why a target does not follow its ref.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hold {
    /// The version that it was taken back to.
    pub generation: u64,
    /// When, in seconds since 1970.
    pub since: u64,
}

impl Hold {
    /// Whether a target is held.
    pub fn read(state: &Path) -> Result<Option<Self>, Failure> {
        let path = state.join(NOTE);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::from(error).context(format!("reading {}", path.display()))),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                Failure::new(Exit::General, error)
                    .context(format!("reading {}", path.display()))
                    .hint("`smart-sync resume` removes it, and the target follows its ref again")
            }),
        }
    }

    /// Holds a target.
    pub(crate) fn write(&self, state: &Path) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(self).expect("two numbers");
        write(&state.join(NOTE), &bytes)
    }

    /// Lets a target follow its ref again; false if it did already.
    pub(crate) fn remove(state: &Path) -> Result<bool, Failure> {
        match fs::remove_file(state.join(NOTE)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
