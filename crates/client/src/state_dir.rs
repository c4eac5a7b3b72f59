//! Where the client keeps what it must remember: trust, what was applied, journals, caches.
//!
//! One directory, private to its owner. Everything below it belongs to a module that says so; this one only
//! decides where it is and that nobody else can write there.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure};

/// What decides where the state directory is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `--state-dir`.
    pub argument: Option<PathBuf>,
    /// `SMART_SYNC_STATE_DIR`.
    pub variable: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// Whether the program runs as root.
    pub is_root: bool,
}

impl Surroundings {
    /// Looks at the process's own. `argument` already stands for the variable too where the command line reads it.
    pub fn of_process(argument: Option<PathBuf>) -> Self {
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            argument,
            variable: variable("SMART_SYNC_STATE_DIR"),
            xdg_state_home: variable("XDG_STATE_HOME"),
            home: variable("HOME"),
            is_root: rustix::process::geteuid().is_root(),
        }
    }
}

/// Why there is no usable state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Nothing says where it could be.
    #[error("there is no place for the state: neither HOME nor XDG_STATE_HOME is set")]
    Nowhere,
    /// A path that depends on where the program was started.
    #[error("the state directory {} is not an absolute path", .0.display())]
    Relative(PathBuf),
    /// Another user owns it or can write to it, and could make the client believe anything.
    #[error(
        "the state directory {} belongs to user {owner} with mode {mode:04o}: somebody else could change what is \
         believed here",
        path.display()
    )]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// It cannot be made or looked at.
    #[error("preparing the state directory {}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Decides where the state directory is.
pub fn locate(surroundings: &Surroundings) -> Result<PathBuf, StateDirError> {
    let path = if let Some(path) = surroundings.argument.as_ref().or(surroundings.variable.as_ref()) {
        path.clone()
    } else if surroundings.is_root {
        PathBuf::from("/var/lib/smart-sync")
    } else if let Some(base) = surroundings.xdg_state_home.as_ref().filter(|path| path.is_absolute()) {
        base.join("smart-sync")
    } else {
        surroundings.home.as_ref().ok_or(StateDirError::Nowhere)?.join(".local/state/smart-sync")
    };
    if path.is_absolute() { Ok(path) } else { Err(StateDirError::Relative(path)) }
}

/// Makes the state directory where it is missing, and refuses one that another user controls.
pub fn prepare(path: &Path) -> Result<(), StateDirError> {
    let io = |source| StateDirError::Io { path: path.to_owned(), source };
    make_private(path).map_err(io)?;
    let metadata = std::fs::metadata(path).map_err(io)?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user || metadata.mode() & 0o022 != 0 {
        return Err(StateDirError::Exposed {
            path: path.to_owned(),
            owner: metadata.uid(),
            mode: metadata.mode() & 0o7777,
        });
    }
    Ok(())
}

/// Makes a directory for its owner alone, and those above it that are missing; durably, so that what is kept in it
/// is not lost with its name.
pub fn make_private(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for made in missing.into_iter().rev() {
        if let Some(parent) = made.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

impl From<StateDirError> for Failure {
    fn from(error: StateDirError) -> Self {
        match &error {
            StateDirError::Nowhere | StateDirError::Relative(_) => Self::new(Exit::Arguments, error)
                .hint("name one with --state-dir DIR or SMART_SYNC_STATE_DIR"),
            StateDirError::Exposed { path, .. } => {
                let hint = format!(
                    "chmod 700 {}, if it is yours; else use another with --state-dir",
                    path.display()
                );
                Self::new(Exit::Permission, error).hint(hint)
            }
            StateDirError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Self::new(Exit::Permission, error)
            }
            StateDirError::Io { .. } => Self::new(Exit::General, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[track_caller]
    fn check(surroundings: &Surroundings, expected: &str) {
        assert_eq!(locate(surroundings).unwrap(), Path::new(expected));
    }

    #[test]
    fn the_nearest_wish_decides() {
        let path = |text: &str| Some(PathBuf::from(text));
        let mut surroundings = Surroundings { is_root: true, home: path("/root"), ..Default::default() };
        check(&surroundings, "/var/lib/smart-sync");
        surroundings.is_root = false;
        check(&surroundings, "/root/.local/state/smart-sync");
        surroundings.xdg_state_home = path("relative/is/ignored");
        check(&surroundings, "/root/.local/state/smart-sync");
        surroundings.xdg_state_home = path("/xdg");
        check(&surroundings, "/xdg/smart-sync");
        surroundings.variable = path("/variable");
        check(&surroundings, "/variable");
        surroundings.argument = path("/argument");
        check(&surroundings, "/argument");
        surroundings.argument = path("argument");
        assert!(matches!(locate(&surroundings), Err(StateDirError::Relative(_))));
        assert!(matches!(locate(&Surroundings::default()), Err(StateDirError::Nowhere)));
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state/smart-sync");
        prepare(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(prepare(&path), Err(StateDirError::Exposed { mode: 0o770, .. })));
    }
}
