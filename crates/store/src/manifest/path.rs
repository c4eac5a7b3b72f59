//! Paths inside a tree.
//!
//! A path is bytes, as on Linux and in git, with `/` between its components. The rules here are those that hold
//! for every tree; whether a given file system can hold a name safely is asked where it is applied.

use std::fmt;

/// The longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;

/// Why a path was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// There is no name at all.
    #[error("the path is empty")]
    Empty,
    /// More bytes than [`PATH_BYTES_MAX`].
    #[error("the path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// Begins with `/`.
    #[error("the path is absolute")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("a component of the path is empty")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("a component of the path is `.` or `..`")]
    DotComponent,
    /// `.git` in any mix of upper and lower case.
    #[error("a component of the path is `.git`, which would be taken for a repository")]
    DotGit,
    /// A NUL byte.
    #[error("the path holds a NUL byte")]
    Nul,
}

/// A path inside a tree that keeps the rules of every tree.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Box<[u8]>);

impl TreePath {
    /// Checks a path that is not empty.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Err(PathError::Empty);
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        if bytes[0] == b'/' {
            return Err(PathError::Absolute);
        }
        bytes.split(|byte| *byte == b'/').try_for_each(check_component)?;
        Ok(Self(bytes))
    }

    /// The directory that the tree itself is: an empty path. Only `system` manifests have an entry for it.
    pub fn root() -> Self {
        Self(Box::default())
    }

    /// Whether this is the tree itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The names from the top down; none for the tree itself.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
    }

    /// The last name, or nothing for the tree itself.
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// The directory that holds this, or none where that is the tree itself.
    pub fn parent(&self) -> Option<&[u8]> {
        self.0.iter().rposition(|byte| *byte == b'/').map(|slash| &self.0[..slash])
    }
}

fn check_component(component: &[u8]) -> Result<(), PathError> {
    match component {
        b"" => Err(PathError::EmptyComponent),
        b"." | b".." => Err(PathError::DotComponent),
        name if name.contains(&0) => Err(PathError::Nul),
        name if name.eq_ignore_ascii_case(b".git") => Err(PathError::DotGit),
        _ => Ok(()),
    }
}

/// For people: what a terminal would act on is escaped, so that a name cannot forge a line or move the cursor.
impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        display_bytes(&self.0, f)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

fn display_bytes(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use fmt::Write;
    for part in bytes.utf8_chunks() {
        for character in part.valid().chars() {
            // Bidirectional controls reorder what is read around them.
            let reorders = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
            if character.is_control() || reorders {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        for byte in part.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// Bytes from outside as a person may safely see them.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display_bytes(self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &[u8], expected: Result<(), PathError>) {
        assert_eq!(TreePath::new(path).map(|_| ()), expected, "{}", Shown(path));
    }

    #[test]
    fn names_are_bytes_and_only_unsafe_ones_are_refused() {
        check(b"a", Ok(()));
        check(b"a/b c/[?]#|", Ok(()));
        check(b"caf\xe9", Ok(()));
        check(b"a\nb\x1b[31m", Ok(()));
        check(b".gitignore", Ok(()));
        check(b"...", Ok(()));
        check(b"a\\b", Ok(()));
        check(b"", Err(PathError::Empty));
        check(b"/a", Err(PathError::Absolute));
        check(b"a/", Err(PathError::EmptyComponent));
        check(b"a//b", Err(PathError::EmptyComponent));
        check(b"a/../b", Err(PathError::DotComponent));
        check(b".", Err(PathError::DotComponent));
        check(b"a\0b", Err(PathError::Nul));
        check(b".git/config", Err(PathError::DotGit));
        check(b"sub/.GiT", Err(PathError::DotGit));
        check(&[b'a'; PATH_BYTES_MAX], Ok(()));
        check(&[b'a'; PATH_BYTES_MAX + 1], Err(PathError::TooLong));
        check("a/".repeat(10_000).as_bytes(), Err(PathError::TooLong));
    }

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        let path = TreePath::new(*b"a\nb\x1b[31m\xff\xe2\x80\xaetxt").unwrap();
        assert_eq!(path.to_string(), r"a\nb\u{1b}[31m\xff\u{202e}txt");
    }
}
