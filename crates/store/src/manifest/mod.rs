//! Manifests: canonical descriptions of whole trees.
//!
//! A manifest is a sorted table of entries, cut into pages where the paths themselves say so, with pages of pages
//! above. The same tree therefore has the same pages whatever its history, and what two trees have in common is
//! found by comparing the ids of pages. The bytes are in `docs/formats.md`.

pub mod build;
mod diff;
mod edit;
pub mod entry;
mod fields;
mod git_tree;
mod list;
mod order;
pub mod page;
pub mod path;
mod read;
mod shorten;
mod walk;

pub use build::{BuildError, ManifestBuilder, ManifestSummary};
pub use diff::{Change, Diff, diff};
pub use edit::{Edit, edited, put_edits, read_edits};
pub use entry::{
    Attributes, Content, DeviceKind, Entry, Fidelity, FileTime, GitMode, Node, SystemMetadata, Xattr,
};
pub use fields::{put_fields_with, read_fields_with};
pub use git_tree::{GitTreeError, GitTreeHasher, TreeSink};
pub use list::{Child, Children};
pub use order::{OrderChecker, OrderError};
pub use page::{Page, PageItem, references};
pub use path::{PathError, Shown, TreePath};
pub use read::{Entries, Found, Manifest, PageError, PageSource, ReadError};
pub use shorten::{put_path, read_path};
