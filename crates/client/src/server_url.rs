//! The address of a server, or the directory of an export.
//!
//! `http` and `https`, with a host and without a user, a query or a fragment: an address that carries a secret into a
//! log is refused where it is typed. A directory of this machine, such as a disk that was carried here, is written as
//! its absolute path or as `file:///…`; only who types an address can name one, since no answer of a server leads to
//! one.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;

/// The address of a server; its path ends in `/`, so that paths are joined below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl(Url);

/// Why a text is not the address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseServerUrlError {
    /// No URL at all.
    #[error("not a URL: {0}")]
    Malformed(String),
    /// Another scheme.
    #[error(
        "`{0}:` cannot be read from; a server is reached over http: or https:, an export also in a directory"
    )]
    Scheme(String),
    /// A directory of another machine.
    #[error("a directory is written as file:///PATH, and is one of this machine")]
    Directory,
    /// A user or a password.
    #[error("a user or a password in an address ends up in logs; put a token into the configuration instead")]
    Secret,
    /// A query or a fragment.
    #[error("an address of a server has no `?` and no `#`")]
    Extra,
}

impl ServerUrl {
    /// The URL.
    pub const fn as_url(&self) -> &Url {
        &self.0
    }

    /// Takes what was typed. A path that begins with a dot is one from where it is typed.
    pub fn typed(text: &str) -> Result<Self, ParseServerUrlError> {
        if matches!(text.split('/').next(), Some("." | "..")) {
            let path = std::path::absolute(text).map_err(|_| ParseServerUrlError::Directory)?;
            return path.to_str().ok_or(ParseServerUrlError::Directory)?.parse();
        }
        text.parse()
    }

    /// The directory, if it is one of this machine.
    pub fn directory(&self) -> Option<PathBuf> {
        if self.0.scheme() == "file" { self.0.to_file_path().ok() } else { None }
    }

    /// Whether nobody on the way can read what is sent there.
    pub fn is_confidential(&self) -> bool {
        matches!(self.0.scheme(), "https" | "file") || is_loopback(&self.0)
    }
}

/// Whether what is sent there does not leave this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost" | "[::1]") => true,
        // A host of digits is an address already: a name cannot look like one.
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

impl FromStr for ServerUrl {
    type Err = ParseServerUrlError;

    fn from_str(text: &str) -> Result<Self, ParseServerUrlError> {
        if text.starts_with('/') {
            let directory = Url::from_directory_path(text).map_err(|()| ParseServerUrlError::Directory)?;
            // The same way as it is read again where it was written down.
            return directory.as_str().parse();
        }
        let mut url = Url::parse(text).map_err(|error| ParseServerUrlError::Malformed(error.to_string()))?;
        if url.scheme() == "file" && url.to_file_path().is_err() {
            return Err(ParseServerUrlError::Directory);
        }
        if !matches!(url.scheme(), "http" | "https" | "file") {
            return Err(ParseServerUrlError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ParseServerUrlError::Secret);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ParseServerUrlError::Extra);
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, ParseServerUrlError>) {
        let found = text.parse::<ServerUrl>();
        assert_eq!(found.map(|url| url.as_url().to_string()), expected.map(ToOwned::to_owned), "{text}");
    }

    #[test]
    fn only_addresses_of_servers_are_taken() {
        check("https://sync.example.org", Ok("https://sync.example.org/"));
        check("http://[::1]:8080/mirror", Ok("http://[::1]:8080/mirror/"));
        check("file:///media/usb", Ok("file:///media/usb/"));
        check("/media/a b/../usb", Ok("file:///media/usb/"));
        check("file://host/media/usb", Err(ParseServerUrlError::Directory));
        check("ftp://example.org", Err(ParseServerUrlError::Scheme("ftp".into())));
        check("localhost:8080", Err(ParseServerUrlError::Scheme("localhost".into())));
        check("https://user:secret@example.org", Err(ParseServerUrlError::Secret));
        check("https://example.org/?token=1", Err(ParseServerUrlError::Extra));
        assert!(matches!("example.org".parse::<ServerUrl>(), Err(ParseServerUrlError::Malformed(_))));
    }

    #[test]
    fn a_directory_is_named_by_its_path() {
        let directory = |text: &str| ServerUrl::typed(text).unwrap().directory();
        assert_eq!(directory("/media/a b"), Some("/media/a b/".into()));
        assert_eq!(directory("file:///media/a%20b/"), Some("/media/a b/".into()));
        assert_eq!(directory("./export"), Some(std::env::current_dir().unwrap().join("export")));
        assert_eq!(directory("http://127.0.0.1"), None);
        assert!(ServerUrl::typed("export").is_err());
    }

    #[test]
    fn what_is_sent_over_http_is_confidential_only_on_this_machine() {
        for (url, expected) in [
            ("https://sync.example.org", true),
            ("http://sync.example.org", false),
            ("http://192.168.1.2:8080", false),
            ("http://127.0.0.1:8080", true),
            ("http://127.8.9.10", true),
            // Another spelling of the first one.
            ("http://2130706433", true),
            ("http://[::1]:8080/mirror", true),
            ("http://[::2]", false),
            ("http://LOCALHOST:8080", true),
            ("http://localhost.example.org", false),
            ("http://127.0.0.1.example.org", false),
            ("/media/usb", true),
        ] {
            assert_eq!(url.parse::<ServerUrl>().unwrap().is_confidential(), expected, "{url}");
        }
    }
}
