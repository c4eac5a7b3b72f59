//! Which paths belong to the host and not to the tree.
//!
//! Patterns are written as in a gitignore file, with one rule made simpler: a slash anywhere in a pattern, its end
//! included, ties it to the top of the tree. `target/` is the directory at the top and not every directory of that
//! name, because a tree may well hold a `modules/var/` of its own; `**/target/` means all of them.
//!
//! | pattern | excludes |
//! |---|---|
//! | `*.socket` | everything with such a name, at any depth |
//! | `var/` | the directory `var` at the top, and what is below it |
//! | `tools/target` | that file or directory |
//! | `**/target/` | directories of that name at any depth |

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use smart_sync_store::manifest::TreePath;

/// What is excluded where nothing else is said.
pub const DEFAULT_PATTERNS: [&str; 6] = [".git/", "result/", "target/", "tools/target/", "var/", "*.socket"];

/// The most patterns of a target.
const PATTERNS_MAX: usize = 1000;

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExclusionError {
    /// The pattern is not well-formed.
    #[error("exclusion pattern {pattern:?}: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There are too many of them.
    #[error("there are {0} exclusion patterns, more than {PATTERNS_MAX}")]
    TooMany(usize),
}

/// Patterns, ready to be asked.
#[derive(Debug, Clone)]
pub struct Exclusions {
    any: GlobSet,
    directories: GlobSet,
}

impl Default for Exclusions {
    fn default() -> Self {
        Self::new(DEFAULT_PATTERNS).expect("the default patterns are well-formed")
    }
}

impl Exclusions {
    /// The patterns that a publisher names in place of the usual ones, if any; an empty one alone excludes nothing.
    pub fn in_place<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, ExclusionError> {
        let mut patterns = patterns.into_iter().peekable();
        if patterns.peek().is_none() { Ok(Self::default()) } else { Self::new(patterns) }
    }

    /// Takes patterns from a configuration file. Empty ones are left out.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, ExclusionError> {
        let mut any = GlobSetBuilder::new();
        let mut directories = GlobSetBuilder::new();
        let patterns: Vec<&str> =
            patterns.into_iter().map(str::trim).filter(|pattern| !pattern.is_empty()).collect();
        if patterns.len() > PATTERNS_MAX {
            return Err(ExclusionError::TooMany(patterns.len()));
        }
        for pattern in patterns {
            let refused = |reason: String| ExclusionError::Pattern { pattern: pattern.to_owned(), reason };
            if pattern.starts_with('!') {
                return Err(refused("an exclusion cannot be taken back; write narrower patterns".into()));
            }
            let glob = GlobBuilder::new(&glob_text(pattern))
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| refused(error.kind().to_string()))?;
            if pattern.ends_with('/') {
                directories.add(glob)
            } else {
                any.add(glob)
            };
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| ExclusionError::Pattern {
                pattern: error.glob().unwrap_or_default().to_owned(),
                reason: error.kind().to_string(),
            })
        };
        Ok(Self { any: build(any)?, directories: build(directories)? })
    }

    /// No patterns.
    pub fn none() -> Self {
        Self { any: GlobSet::empty(), directories: GlobSet::empty() }
    }

    /// Whether a pattern names this path itself. Whoever walks a tree and does not enter excluded directories needs
    /// to ask nothing else.
    pub fn names(&self, path: &[u8], is_directory: bool) -> bool {
        let candidate = Candidate::from_bytes(path);
        self.any.is_match_candidate(&candidate)
            || is_directory && self.directories.is_match_candidate(&candidate)
    }

    /// Whether a pattern names this path or a directory that it lies in.
    pub fn excludes(&self, path: &TreePath, is_directory: bool) -> bool {
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.map(|(slash, _)| &bytes[..slash]).any(|parent| self.names(parent, true))
            || !path.is_root() && self.names(bytes, is_directory)
    }
}

/// The glob over whole paths that a pattern stands for.
fn glob_text(pattern: &str) -> String {
    let name = pattern.strip_suffix('/').unwrap_or(pattern);
    if pattern.contains('/') {
        name.strip_prefix('/').unwrap_or(name).to_owned()
    } else {
        format!("**/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(patterns: &[&str], path: &str, is_directory: bool, expected: bool) {
        let exclusions = Exclusions::new(patterns.iter().copied()).unwrap();
        let found = exclusions.excludes(&TreePath::new(path.as_bytes()).unwrap(), is_directory);
        assert_eq!(found, expected, "{patterns:?} and {path:?}");
    }

    #[test]
    fn the_defaults_keep_what_belongs_to_the_host() {
        let defaults = DEFAULT_PATTERNS;
        check(&defaults, "var", true, true);
        check(&defaults, "var/lib/state", false, true);
        check(&defaults, "tools/target/debug/x", false, true);
        check(&defaults, "run/agent.socket", false, true);
        check(&defaults, "result/bin", false, true);
        // A file or link of that name is not the directory that the pattern means.
        check(&defaults, "result", false, false);
        check(&defaults, "modules/var/default.nix", false, false);
        check(&defaults, "src/target/mod.rs", false, false);
        check(&defaults, "various", true, false);
    }

    #[test]
    fn patterns_mean_what_the_table_says() {
        check(&["*.log"], "a/b/c.log", false, true);
        check(&["*.log"], "a.log/b", false, true);
        check(&["**/target/"], "a/target/x", false, true);
        check(&["**/target/"], "target/x", false, true);
        check(&["/top"], "top", false, true);
        check(&["/top"], "a/top", false, false);
        check(&["a/*/c"], "a/b/c", false, true);
        check(&["a/*/c"], "a/b/b/c", false, false);
        check(&["a/**"], "a/b/c", false, true);
        check(&["[ab]?"], "x/b1", false, true);
        check(&["x\\*"], "x*", false, true);
        check(&["x\\*"], "xy", false, false);
        check(&["", "  "], "anything", false, false);
    }

    #[test]
    fn names_are_bytes() {
        let exclusions = Exclusions::new(["*.tmp"]).unwrap();
        assert!(exclusions.names(b"caf\xe9.tmp", false));
        assert!(exclusions.names(b"a\nb.tmp", false));
    }

    #[test]
    fn bad_patterns_are_refused_by_name() {
        for pattern in ["!keep", "[a", "{a"] {
            let error = Exclusions::new([pattern]).unwrap_err();
            assert!(error.to_string().contains(pattern), "{error}");
        }
    }
}
