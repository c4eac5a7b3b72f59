//! Where a repository is: its API, its raw files and its git address, from one text.
//!
//! `github:OWNER/REPO` is the short form. Any other server with the same API is named by the address of the repository
//! in that API, `https://HOST/api/v3/repos/OWNER/REPO`, or of the API with the repository behind it. What cannot be
//! said in the text is derived, never asked for: an answer does not decide where the next request goes.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reqwest::Url;
use smart_sync_store::id::CommitId;
use smart_sync_store::manifest::path::TreePath;

use crate::server_url::{ParseServerUrlError, ServerUrl};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The longest name of an owner or a repository.
const NAME_BYTES_MAX: usize = 100;

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) api: Url,
    pub(super) raw: Option<Url>,
    pub(super) git: Url,
    pub(super) shown: String,
}

/// Why a text is not the address of a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// Not of a form that is known.
    #[error("expected github:OWNER/REPO, or the address of the repository in an API like GitHub's")]
    Form,
    /// Letters, digits, `-`, `_` and `.` alone.
    #[error("`{0}` is not the name of an owner or a repository")]
    Name(String),
    /// Not the address of a server.
    #[error(transparent)]
    Url(#[from] ParseServerUrlError),
}

impl Address {
    /// The address of something below the repository in the API.
    pub(super) fn api(&self, path: &str) -> Url {
        below(&self.api, path)
    }

    /// The address of a file of a commit outside the API, where the server has one.
    pub(super) fn raw(&self, commit: CommitId, path: &TreePath) -> Option<Url> {
        Some(below(self.raw.as_ref()?, &format!("{commit}/{}", encode_path(path.as_bytes()))))
    }

    /// The address of the API, where the token may be sent.
    pub(super) const fn api_base(&self) -> &Url {
        &self.api
    }

    /// The address that git fetches from.
    pub(super) const fn git(&self) -> &Url {
        &self.git
    }

    /// A name for folders of this repository, stable and safe.
    pub fn folder_name(&self) -> String {
        let digest = smart_sync_store::id::ObjectId::of(self.api.as_str().as_bytes()).to_string();
        digest[..32].to_owned()
    }

    fn of_github(owner: &str, repository: &str) -> Result<Self, ParseAddressError> {
        let (owner, repository) =
            (name(owner)?, name(repository.strip_suffix(".git").unwrap_or(repository))?);
        let url = |text: String| Url::parse(&text).map_err(|_| ParseAddressError::Form);
        Ok(Self {
            api: url(format!("https://api.github.com/repos/{owner}/{repository}"))?,
            raw: Some(url(format!("https://raw.githubusercontent.com/{owner}/{repository}"))?),
            git: url(format!("https://github.com/{owner}/{repository}.git"))?,
            shown: format!("github:{owner}/{repository}"),
        })
    }

    fn of_api(server: &ServerUrl) -> Result<Self, ParseAddressError> {
        let url = server.as_url();
        let segments: Vec<&str> = url.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let [base @ .., owner, repository] = segments.as_slice() else { return Err(ParseAddressError::Form) };
        if matches!(url.host_str(), Some("github.com" | "www.github.com" | "api.github.com"))
            && url.scheme() == "https"
        {
            return Self::of_github(owner, repository);
        }
        let (owner, repository) = (name(owner)?, name(repository)?);
        let base = base.strip_suffix(&["repos"]).unwrap_or(base);
        // The two servers in wide use that speak this API put it below their own address.
        let site =
            base.strip_suffix(&["api", "v3"]).or_else(|| base.strip_suffix(&["api", "v1"])).unwrap_or(base);
        let join = |base: &[&str], rest: String| {
            let mut url = url.clone();
            url.set_path(&base.iter().copied().chain([rest.as_str()]).collect::<Vec<_>>().join("/"));
            url
        };
        let api = join(base, format!("repos/{owner}/{repository}"));
        let git = join(site, format!("{owner}/{repository}.git"));
        Ok(Self { shown: api.to_string(), api, raw: None, git })
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        if let Some(rest) = text.strip_prefix("github:") {
            let (owner, repository) = rest.split_once('/').ok_or(ParseAddressError::Form)?;
            return Self::of_github(owner, repository);
        }
        match text.parse::<ServerUrl>() {
            Ok(server) if text.starts_with('/') && server.directory().is_some() => {
                Err(ParseAddressError::Form)
            }
            Ok(server) if server.directory().is_some() => {
                Err(ParseServerUrlError::Scheme("file".to_owned()).into())
            }
            Ok(server) => Self::of_api(&server),
            Err(ParseServerUrlError::Malformed(_)) => Err(ParseAddressError::Form),
            Err(error) => Err(error.into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// A path as part of a URL: every byte that means something there is encoded, slashes excepted.
pub(super) fn encode_path(path: &[u8]) -> String {
    let components: Vec<String> = path
        .split(|byte| *byte == b'/')
        .map(|component| percent_encode(component, ENCODED).to_string())
        .collect();
    components.join("/")
}

fn below(base: &Url, path: &str) -> Url {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url.set_query(query);
    url
}

fn name(text: &str) -> Result<&str, ParseAddressError> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty()
        || text.len() > NAME_BYTES_MAX
        || matches!(text, "." | "..")
        || !text.bytes().all(is_name)
    {
        return Err(ParseAddressError::Name(text.escape_debug().to_string()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, api: &str, git: &str) {
        let address: Address = text.parse().unwrap();
        assert_eq!((address.api.as_str(), address.git.as_str()), (api, git), "{text}");
    }

    #[test]
    fn one_text_says_where_everything_is() {
        let github = ("https://api.github.com/repos/o/r.js", "https://github.com/o/r.js.git");
        for text in [
            "github:o/r.js",
            "github:o/r.js.git",
            "https://github.com/o/r.js.git",
            "https://github.com/o/r.js/",
        ] {
            check(text, github.0, github.1);
        }
        check("https://api.github.com/repos/o/r.js", github.0, github.1);
        check(
            "http://127.0.0.1:1234/repos/o/r",
            "http://127.0.0.1:1234/repos/o/r",
            "http://127.0.0.1:1234/o/r.git",
        );
        check(
            "http://127.0.0.1:1234/o/r",
            "http://127.0.0.1:1234/repos/o/r",
            "http://127.0.0.1:1234/o/r.git",
        );
        let enterprise = "https://git.example.org/sub/api/v3/repos/o/r";
        check(enterprise, enterprise, "https://git.example.org/sub/o/r.git");
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        for text in [
            "o/r",
            "github:o",
            "github:o/r/s",
            "github:../r",
            "github:o/ r",
            "github:/r",
            "https://example.org/r",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        let scheme = ParseAddressError::Url(ParseServerUrlError::Scheme("file".into()));
        assert_eq!("file:///srv/o/r".parse::<Address>(), Err(scheme));
    }

    #[test]
    fn a_path_keeps_its_meaning_in_a_url() {
        let address: Address = "github:o/r".parse().unwrap();
        let commit = CommitId::from_bytes([0; 20]);
        let zeros = "0".repeat(40);
        for (path, encoded) in [
            ("a b/[x]|?#%.txt", "a%20b/%5Bx%5D%7C%3F%23%25.txt"),
            ("caf\u{e9}", "caf%C3%A9"),
            ("%2e%2e/x", "%252e%252e/x"),
            ("a\\b", "a%5Cb"),
        ] {
            let url = address.raw(commit, &TreePath::new(path.as_bytes()).unwrap()).unwrap();
            assert_eq!(url.as_str(), format!("https://raw.githubusercontent.com/o/r/{zeros}/{encoded}"));
        }
    }
}
