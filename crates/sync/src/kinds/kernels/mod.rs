//! Kernels: a channel of versions, each with all that a host needs to boot it.

pub mod version;
