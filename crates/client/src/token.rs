//! Tokens: secrets that open a server, and the files they are kept in.
//!
//! A token has no way to be shown: its `Debug` says that there is one, and only the line of a request that
//! carries it takes it out. A file that others can read is refused, because by then the token is no secret.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure};

/// The longest token that is taken.
const TOKEN_BYTES_MAX: usize = 1024;

/// A secret that opens a server.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

/// Why a token was not taken. None of these messages holds any of it.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Nothing, or only white space.
    #[error("the token in {0} is empty")]
    Empty(String),
    /// Too long, or with characters that no token has.
    #[error(
        "what is in {0} is no token: it must be one word of at most {TOKEN_BYTES_MAX} visible ASCII characters"
    )]
    Malformed(String),
    /// Somebody else can read the file.
    #[error("{} can be read by others (mode {mode:04o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file cannot be read.
    #[error("reading the token from {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Token {
    /// Takes a token from a place that is named in errors.
    pub fn parse(text: &str, place: &str) -> Result<Self, TokenError> {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(TokenError::Empty(place.to_owned()));
        }
        if text.len() > TOKEN_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Malformed(place.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// Reads a token from a file that only its owner can read. No file is no token.
    pub fn read(path: &Path) -> Result<Option<Self>, TokenError> {
        let unreadable = |source| TokenError::Unreadable { path: path.to_owned(), source };
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(unreadable)?,
        };
        // The file that was opened is the one whose mode counts: a name could be exchanged in between.
        check_private(path, file.metadata().map_err(unreadable)?.mode())?;
        let mut text = String::new();
        file.take(TOKEN_BYTES_MAX as u64 * 2).read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text, &path.display().to_string()).map(Some)
    }

    /// The secret itself, for the line of the request that carries it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// The tokens of the surroundings, for one kind of server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// From the environment; goes before the configuration.
    pub environment: Option<Token>,
    /// From the user's own file; comes last.
    pub file: Option<Token>,
}

impl Tokens {
    /// Looks for tokens. A variable that is set but empty is one that is not set, as in most programs.
    ///
    /// A file that is exposed is an error only when it would be used.
    pub fn find(variable: &str, value: Option<&str>, file: Option<&Path>) -> Result<Self, TokenError> {
        match (value.filter(|value| !value.is_empty()), file) {
            (Some(value), _) => Ok(Self { environment: Some(Token::parse(value, variable)?), file: None }),
            (None, Some(file)) => Ok(Self { environment: None, file: Token::read(file)? }),
            (None, None) => Ok(Self::default()),
        }
    }

    /// Those for smart-sync servers: `SMART_SYNC_TOKEN`, `~/.config/smart-sync/token`.
    pub fn of_servers() -> Result<Self, TokenError> {
        Self::of_process("SMART_SYNC_TOKEN", ".config/smart-sync/token")
    }

    /// Those for GitHub's API: `GITHUB_TOKEN`, `~/.config/github/token`.
    pub fn of_github() -> Result<Self, TokenError> {
        Self::of_process("GITHUB_TOKEN", ".config/github/token")
    }

    fn of_process(variable: &str, file: &str) -> Result<Self, TokenError> {
        let value = match std::env::var(variable) {
            Err(std::env::VarError::NotUnicode(_)) => return Err(TokenError::Malformed(variable.to_owned())),
            value => value.ok(),
        };
        let file = std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(file));
        Self::find(variable, value.as_deref(), file.as_deref())
    }

    /// The one to use where a configuration may hold another.
    pub fn choose<'a>(&'a self, configured: Option<&'a Token>) -> Option<&'a Token> {
        self.environment.as_ref().or(configured).or(self.file.as_ref())
    }
}

impl TokenError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exposed { path, .. } => Some(format!(
                "chmod 600 {}  # and have a new token made if others may have read it",
                path.display()
            )),
            _ => None,
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Refuses a file with secrets that its group or anybody else can read.
pub fn check_private(path: &Path, mode: u32) -> Result<(), TokenError> {
    if mode & 0o077 != 0 {
        return Err(TokenError::Exposed { path: path.to_owned(), mode: mode & 0o7777 });
    }
    Ok(())
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let exit = match &error {
            TokenError::Exposed { .. } | TokenError::Unreadable { .. } => Exit::Permission,
            TokenError::Empty(_) | TokenError::Malformed(_) => Exit::Configuration,
        };
        let hint = error.hint();
        hint.into_iter().fold(Self::new(exit, error), Self::hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file_with(mode: u32, content: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn a_file_that_only_the_owner_reads_is_taken() {
        let (_directory, path) = file_with(0o600, "sst_secret\n");
        assert_eq!(Token::read(&path).unwrap().unwrap().reveal(), "sst_secret");
        assert!(Token::read(&path.with_file_name("absent")).unwrap().is_none());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        for mode in [0o640, 0o604, 0o620, 0o644] {
            let (_directory, path) = file_with(mode, "sst_secret\n");
            let error = Token::read(&path).unwrap_err();
            assert!(error.hint().unwrap().starts_with(&format!("chmod 600 {}", path.display())));
            assert!(!format!("{error} {error:?}").contains("sst_secret"));
        }
    }

    #[test]
    fn the_environment_goes_before_the_configuration_and_the_file_comes_last() {
        let (_directory, path) = file_with(0o600, "from-file");
        let configured = Token::parse("from-config", "test").unwrap();
        let chosen = |value, configured| {
            let tokens = Tokens::find("SMART_SYNC_TOKEN", value, Some(&path)).unwrap();
            tokens.choose(configured).map(|token| token.reveal().to_owned())
        };
        assert_eq!(chosen(Some("from-variable"), Some(&configured)).as_deref(), Some("from-variable"));
        assert_eq!(chosen(None, Some(&configured)).as_deref(), Some("from-config"));
        assert_eq!(chosen(Some(""), None).as_deref(), Some("from-file"));
    }

    #[test]
    fn no_message_holds_any_of_the_token() {
        assert_eq!(format!("{:?}", Token::parse("sst_secret", "test").unwrap()), "Token(…)");
        for wrong in ["sst_se cret", "sst_secret\nX-Header: 1", "sst_sécret", ""] {
            let error = Token::parse(wrong, "SMART_SYNC_TOKEN").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("cret"), "{error}");
            assert!(error.to_string().contains("SMART_SYNC_TOKEN"));
        }
    }
}
