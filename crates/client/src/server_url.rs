//! The address of a server.
//!
//! Only `http` and `https`, with a host and without a user, a query or a fragment: an address that could read
//! a local file, or that carries a secret into a log, is refused where it is typed.

use std::fmt;
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
    #[error("`{0}:` cannot be read from; a server is reached over http: or https:")]
    Scheme(String),
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

    /// Whether nobody on the way can read what is sent there.
    pub fn is_confidential(&self) -> bool {
        self.0.scheme() == "https" || is_loopback(&self.0)
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
        let mut url = Url::parse(text).map_err(|error| ParseServerUrlError::Malformed(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
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
        check("file:///etc/passwd", Err(ParseServerUrlError::Scheme("file".into())));
        check("localhost:8080", Err(ParseServerUrlError::Scheme("localhost".into())));
        check("https://user:secret@example.org", Err(ParseServerUrlError::Secret));
        check("https://example.org/?token=1", Err(ParseServerUrlError::Extra));
        assert!(matches!("example.org".parse::<ServerUrl>(), Err(ParseServerUrlError::Malformed(_))));
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
        ] {
            assert_eq!(url.parse::<ServerUrl>().unwrap().is_confidential(), expected, "{url}");
        }
    }
}
