//! Manifests: canonical descriptions of whole trees.

pub mod entry;
pub mod path;
