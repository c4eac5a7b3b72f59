//! What packs hold: chunks, manifest pages, recipes and recipe pages.
//!
//! An object is named by its type and the digest of its bytes. The type is part of the name because the same
//! bytes can be two things: a published file may well be a copy of somebody's manifest page, and whoever asks
//! for a page must not be told that it is there because a chunk is.

use std::fmt;

use bytes::Bytes;

use crate::codec::DecodeError;
use crate::id::ObjectId;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// A piece of a content.
    Chunk,
    /// A page of a manifest.
    Page,
    /// The layout of a content.
    Recipe,
    /// A part of a long layout.
    RecipePage,
}

impl ObjectKind {
    /// The number that stands for this kind in a pack.
    pub const fn code(self) -> u8 {
        match self {
            Self::Chunk => 0,
            Self::Page => 1,
            Self::Recipe => 2,
            Self::RecipePage => 3,
        }
    }

    /// The kind that this number stands for.
    pub fn from_code(code: u8) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Self::Chunk),
            1 => Ok(Self::Page),
            2 => Ok(Self::Recipe),
            3 => Ok(Self::RecipePage),
            _ => Err(DecodeError::invalid(format!("{code} is not the type of an object"))),
        }
    }

    /// The largest number of bytes of such an object.
    pub const fn len_max(self) -> usize {
        match self {
            Self::Chunk | Self::Page => 1 << 20,
            Self::Recipe | Self::RecipePage => 1 << 16,
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chunk => "chunk",
            Self::Page => "manifest page",
            Self::Recipe => "recipe",
            Self::RecipePage => "recipe page",
        })
    }
}

/// The full name of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// What it is.
    pub kind: ObjectKind,
    /// BLAKE3 of its bytes.
    pub id: ObjectId,
}

impl ObjectKey {
    /// Names an object of any kind.
    pub const fn new(kind: ObjectKind, id: ObjectId) -> Self {
        Self { kind, id }
    }

    /// Names a chunk.
    pub const fn chunk(id: ObjectId) -> Self {
        Self::new(ObjectKind::Chunk, id)
    }

    /// Names a manifest page.
    pub const fn page(id: ObjectId) -> Self {
        Self::new(ObjectKind::Page, id)
    }

    /// Names a recipe.
    pub const fn recipe(id: ObjectId) -> Self {
        Self::new(ObjectKind::Recipe, id)
    }

    /// Names a recipe page.
    pub const fn recipe_page(id: ObjectId) -> Self {
        Self::new(ObjectKind::RecipePage, id)
    }

    /// Compares bytes that are said to be this object with its name.
    pub(crate) fn check(self, bytes: &[u8]) -> Result<(), ObjectError> {
        if bytes.is_empty() || bytes.len() > self.kind.len_max() {
            return Err(ObjectError::Length { key: self, len: bytes.len() });
        }
        let found = ObjectId::of(bytes);
        if found == self.id { Ok(()) } else { Err(ObjectError::Digest { expected: self, found }) }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

/// Bytes that are not what their name says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The digest of the bytes is another one.
    #[error("{expected} is corrupt: its bytes have the digest {found}")]
    Digest {
        /// What was asked for.
        expected: ObjectKey,
        /// The digest of what was found.
        found: ObjectId,
    },
    /// No object of this kind has this many bytes.
    #[error("{key} has {len} bytes; such an object has between 1 and {}", key.kind.len_max())]
    Length {
        /// The object.
        key: ObjectKey,
        /// Its number of bytes.
        len: usize,
    },
}

/// An object whose bytes have been compared with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedObject {
    key: ObjectKey,
    bytes: Bytes,
}

impl VerifiedObject {
    /// Accepts bytes that are said to be this object, if they are.
    pub fn verify(key: ObjectKey, bytes: Bytes) -> Result<Self, ObjectError> {
        key.check(&bytes)?;
        Ok(Self { key, bytes })
    }

    /// Its full name.
    pub const fn key(&self) -> ObjectKey {
        self.key
    }

    /// What it is.
    pub const fn kind(&self) -> ObjectKind {
        self.key.kind
    }

    /// The digest of its bytes.
    pub const fn id(&self) -> ObjectId {
        self.key.id
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same object in memory of its own: one that is kept does not keep the frame that it came in.
    #[must_use]
    pub(crate) fn detached(&self) -> Self {
        Self { key: self.key, bytes: Bytes::copy_from_slice(&self.bytes) }
    }

    /// Its bytes, without the name.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_what_their_name_says_are_refused() {
        let key = ObjectKey::chunk(ObjectId::of(b"right"));
        assert!(VerifiedObject::verify(key, Bytes::from_static(b"right")).is_ok());
        assert!(matches!(
            VerifiedObject::verify(key, Bytes::from_static(b"wrong")),
            Err(ObjectError::Digest { .. })
        ));
        let empty = ObjectKey::chunk(ObjectId::of(b""));
        assert_eq!(
            VerifiedObject::verify(empty, Bytes::new()),
            Err(ObjectError::Length { key: empty, len: 0 })
        );
        let long = vec![0; 65_537];
        let recipe = ObjectKey::recipe(ObjectId::of(&long));
        assert!(VerifiedObject::verify(recipe, long.into()).is_err());
    }
}
