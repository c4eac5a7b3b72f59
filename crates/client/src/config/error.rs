//! Why a configuration is not used: the file, the line and the key, and never a value, which may be a secret.

use std::fmt;
use std::path::PathBuf;

use super::DEFAULT_PATH;
use crate::failure::{Exit, Failure};
use crate::token::TokenError;

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that `--config` names is not there.
    #[error("there is no configuration at {}", .0.display())]
    Absent(PathBuf),
    /// It cannot be read.
    #[error("reading the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds something wrong.
    #[error("{}, line {line}{key}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key in that line, for the message.
        key: KeyInLine,
        /// What is wrong.
        message: String,
    },
    /// It holds a token, and others can read it.
    #[error("the configuration holds a token")]
    Exposed(#[source] TokenError),
}

/// The key that stands in a line, where one does.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyInLine(Option<String>);

impl fmt::Display for KeyInLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |key| write!(f, ", `{key}`"))
    }
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exposed(error) => error.hint(),
            Self::Absent(_) => {
                Some(format!("without --config and SMART_SYNC_CONFIG, {DEFAULT_PATH} is read if it is there"))
            }
            _ => None,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let exit = match &error {
            ConfigError::Unreadable { source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Exit::Permission
            }
            ConfigError::Exposed(_) => Exit::Permission,
            _ => Exit::Configuration,
        };
        let hint = error.hint();
        hint.into_iter().fold(Self::new(exit, error), Self::hint)
    }
}

/// The line of an error in a text, from 1, and the key that stands there.
pub(crate) fn place_of(text: &str, error: &toml::de::Error) -> (usize, KeyInLine) {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    (line, KeyInLine(text.lines().nth(line - 1).and_then(key_of_line)))
}

/// What a line names; never its value, which may be a secret.
fn key_of_line(line: &str) -> Option<String> {
    let line = line.trim();
    let key = match line.strip_prefix('[') {
        Some(table) => table.split(']').next()?,
        None => line.split_once('=')?.0,
    };
    let key = key.trim();
    (!key.is_empty()).then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let error = Config::parse(Path::new("config.toml"), text).unwrap_err().to_string();
        assert_eq!(error, expected);
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_key() {
        check(
            "target = \"/etc\"\nchanel = \"x\"\n",
            "config.toml, line 2, `chanel`: unknown field `chanel`, expected one of `target`, `realms`, `targets`, `bytes-from`, `prefer`, `network`, `watch`, `validate-sets`, `validate`, `hosts`, `report`, `profiles`",
        );
        check(
            "\n[network]\nstall = \"soon\"",
            "config.toml, line 3, `stall`: a length of time is a number and s, m, h or d, such as 90s or 14d",
        );
        check(
            "[realms.a]\nservers = [\"ftp://a\"]",
            "config.toml, line 2, `servers`: `ftp://a`: `ftp:` cannot be read from; a server is reached over http: or https:, an export also in a directory",
        );
        check(
            "[network]\nconnections = 0",
            "config.toml, line 2, `connections`: connections are between 1 and 64",
        );
        check("target = \"etc\"", "config.toml, line 1, `target`: the path is not absolute");
    }

    #[test]
    fn no_error_shows_a_token() {
        let error =
            Config::parse(Path::new("c"), "[realms.a]\nservers = []\ntoken = \"sst secret\"").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
