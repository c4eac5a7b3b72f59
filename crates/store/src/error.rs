//! What can go wrong in a store, told apart by what a caller can do about it.

use std::io;

use crate::codec::DecodeError;
use crate::domain::Domain;
use crate::id::{ContentId, ObjectId, PackId};
use crate::object::{ObjectError, ObjectKey};
use crate::pack::PackError;
use crate::recipe::WalkError;
use crate::unpack::RebuildError;

/// A failed operation on a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The back end failed.
    #[error("{operation} {object}")]
    Backend {
        /// What was being done.
        operation: &'static str,
        /// The name of the stored file or of the place.
        object: String,
        /// What the back end says.
        source: object_store::Error,
    },
    /// A stored file is shorter than the catalogue says.
    #[error("{object} ends early: {found} bytes instead of {expected}")]
    Short {
        /// The stored file.
        object: String,
        /// The number of bytes asked for.
        expected: u64,
        /// The number of bytes that came.
        found: u64,
    },
    /// The catalogue failed.
    #[error("{operation}")]
    Catalogue {
        /// What was being done.
        operation: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The catalogue was written by a version that this one does not know.
    #[error(
        "the catalogue has format {found} and this version reads format {known}: use the newer version, or remove \
         the catalogue and rebuild it from the packs"
    )]
    CatalogueVersion {
        /// The format found.
        found: i64,
        /// The format that is read here.
        known: i64,
    },
    /// A place of the store could not be prepared or read.
    #[error("{operation} {path}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// Where.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A pack is not what it has to be.
    #[error("pack {pack} is corrupt")]
    Pack {
        /// The pack.
        pack: PackId,
        /// What is wrong with it.
        source: Box<PackError>,
    },
    /// A pack that was handed in is not one.
    #[error("the pack is refused")]
    Refused(#[source] Box<PackError>),
    /// A frame of a pack holds other bytes than the catalogue says.
    #[error("pack {pack} holds a wrong object")]
    Object {
        /// The pack.
        pack: PackId,
        /// Which object, and what is wrong with it.
        source: Box<ObjectError>,
    },
    /// There is no such object in the domain.
    #[error("{key} is not in domain {domain}")]
    Absent {
        /// The object.
        key: ObjectKey,
        /// Where it was looked for.
        domain: Domain,
    },
    /// There is no such content in the domain.
    #[error("content {content} is not in domain {domain}")]
    AbsentContent {
        /// The content.
        content: ContentId,
        /// Where it was looked for.
        domain: Domain,
    },
    /// A recipe does not lead to the chunks of its content.
    #[error("the recipe {recipe} of content {content} is wrong")]
    Recipe {
        /// The content.
        content: ContentId,
        /// The recipe.
        recipe: ObjectId,
        /// What is wrong with it.
        source: Box<RecipeError>,
    },
    /// A range that the content or pack does not have.
    #[error("bytes {start} to {end} were asked for, of {len}")]
    Range {
        /// The first byte asked for.
        start: u64,
        /// The byte after the last one.
        end: u64,
        /// The number of bytes there are.
        len: u64,
    },
    /// The pack that was being added was taken for abandoned and collected: it took longer than the grace period.
    #[error("pack {pack} took so long to be stored that it was taken for abandoned; send it again")]
    Abandoned {
        /// The pack.
        pack: PackId,
    },
    /// A page that is reachable could not be read for what it refers to.
    #[error("manifest page {page} is malformed")]
    Page {
        /// The page.
        page: ObjectId,
        /// What is wrong with it.
        source: DecodeError,
    },
}

/// Why a recipe is wrong.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// It is not well formed.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// Its pages do not fit together.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// It is the recipe of a content of another size.
    #[error("it makes {found} bytes instead of {expected}")]
    Size {
        /// The size of the content.
        expected: u64,
        /// The size that the recipe has.
        found: u64,
    },
    /// It is the recipe of another content.
    #[error("it is the recipe of content {0}")]
    OtherContent(ContentId),
    /// A chunk has another length than the recipe says.
    #[error("{chunk} has {found} bytes where the recipe says {expected}")]
    ChunkLength {
        /// The chunk.
        chunk: ObjectKey,
        /// What the recipe says.
        expected: u64,
        /// What the chunk has.
        found: u64,
    },
    /// The chunks make another content.
    #[error("its chunks make content {0}")]
    Digest(ContentId),
    /// The content cannot be rebuilt from its plain stream.
    #[error("rebuilding it from its plain stream")]
    Rebuild(#[from] RebuildError),
}

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// What was asked for is not there.
    Absent,
    /// Bytes are not what their name says: repair them from a mirror.
    Corrupt,
    /// What was handed in or asked for is wrong: the caller has to change it.
    Invalid,
    /// The system does not permit it.
    Denied,
    /// There is no space left.
    Full,
    /// It may work when it is tried again.
    Transient,
}

impl StoreError {
    /// What can be done about it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Absent { .. } | Self::AbsentContent { .. } => Fault::Absent,
            Self::Short { .. }
            | Self::Pack { .. }
            | Self::Object { .. }
            | Self::Recipe { .. }
            | Self::Page { .. } => Fault::Corrupt,
            Self::Refused(_) | Self::Range { .. } | Self::CatalogueVersion { .. } => Fault::Invalid,
            Self::Abandoned { .. } => Fault::Transient,
            Self::Io { source, .. } => fault_of_io(source),
            Self::Backend { source, .. } => fault_of_backend(source),
            Self::Catalogue { source, .. } => fault_of_sqlite(source),
        }
    }
}

fn fault_of_io(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound => Fault::Absent,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Fault::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full,
        _ => Fault::Transient,
    }
}

fn fault_of_backend(error: &object_store::Error) -> Fault {
    match error {
        object_store::Error::NotFound { .. } => return Fault::Absent,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            return Fault::Denied;
        }
        _ => {}
    }
    // A back end on a file system keeps the system's reason at the end of its chain.
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return fault_of_io(error);
        }
        source = error.source();
    }
    Fault::Transient
}

fn fault_of_sqlite(error: &rusqlite::Error) -> Fault {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Fault::Full,
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => Fault::Denied,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault::Corrupt,
        _ => Fault::Transient,
    }
}
