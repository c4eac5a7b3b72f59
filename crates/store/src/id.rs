//! The names of things: each kind of object has an id type of its own.
//!
//! An id is a digest and nothing else. Two ids of different kinds are different types, so that a chunk is
//! never looked up as a page by mistake; their text form is lower-case hexadecimal, parsed strictly.

use std::fmt;
use std::str::FromStr;

/// A text that is not the id it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind}: expected {digits} lower-case hexadecimal digits, found {found:?}")]
pub struct ParseIdError {
    kind: &'static str,
    digits: usize,
    found: String,
}

/// Reads exactly `N` bytes of lower-case hexadecimal.
///
/// Upper case is refused: an id has one spelling, so that equal ids are equal texts.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    fn digit(byte: u8) -> Option<u8> {
        match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        }
    }
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Writes bytes as lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($bytes:literal, $kind:literal);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The number of bytes of such an id.
            pub const LEN: usize = $bytes;

            /// Takes a digest as this id.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The digest.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                from_hex(text).map(Self).ok_or_else(|| ParseIdError {
                    kind: $kind,
                    digits: 2 * $bytes,
                    found: text.chars().take(80).collect(),
                })
            }
        }
    )*};
}

ids! {
    /// A file's content as git names it: SHA-1 over `blob <size>\0` and the bytes.
    BlobId(20, "git blob id");
    /// A directory as git names it.
    TreeId(20, "git tree id");
    /// A commit as git names it.
    CommitId(20, "git commit id");
    /// A file's content as trust names it: BLAKE3 of the bytes.
    ContentId(32, "content id");
    /// A whole tree: BLAKE3 of the root page of its manifest.
    ManifestId(32, "manifest id");
    /// Anything a pack holds (a chunk, a page, a recipe): BLAKE3 of its bytes.
    ObjectId(32, "object id");
    /// A pack: BLAKE3 of the whole file.
    PackId(32, "pack id");
}

impl ObjectId {
    /// The id of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl ContentId {
    /// The id of a content that is at hand as a whole.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The object of a content that is stored as one chunk: both are BLAKE3 of the same bytes.
    pub const fn as_chunk(self) -> ObjectId {
        ObjectId(self.0)
    }
}

/// The id of a content whose bytes come one after the other.
#[derive(Debug, Clone, Default)]
pub struct ContentIdHasher(blake3::Hasher);

impl ContentIdHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// How many bytes came.
    pub fn count(&self) -> u64 {
        self.0.count()
    }

    /// The id of what came.
    pub fn finish(&self) -> ContentId {
        ContentId(*self.0.finalize().as_bytes())
    }
}

impl ManifestId {
    /// The root page, as an object of a pack.
    pub const fn root_page(self) -> ObjectId {
        ObjectId(self.0)
    }

    /// The manifest whose root page this is.
    pub const fn from_root_page(page: ObjectId) -> Self {
        Self(page.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_lower_case_hexadecimal_of_exactly_the_right_length() {
        let id = BlobId::from_bytes([0xa5; 20]);
        assert_eq!(id.to_string(), "a5".repeat(20));
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["A5".repeat(20), "a5".repeat(19), "a5".repeat(21), "g5".repeat(20), String::new()] {
            assert!(wrong.parse::<BlobId>().is_err(), "{wrong:?} was taken for an id");
        }
    }
}
