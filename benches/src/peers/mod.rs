//! The programs that ours are compared with, each used as its manual says.

pub(crate) mod bita;
pub(crate) mod borg;
pub(crate) mod casync;
pub(crate) mod git;
pub(crate) mod nginx;
pub(crate) mod ostree;
pub(crate) mod restic;
pub(crate) mod rsync;
pub(crate) mod zsync;
