//! Taking over a backend of the older kind: a directory as `/var/lib/portage`, with everything that hosts were given.
//!
//! What becomes which channel is decided before anything is published ([`plan`]), and shown. What is published is the
//! directory as it is, but for [`secrets`](scan). Nothing of it is ever run, no link in it is followed, and what was not
//! understood is said.

pub(crate) mod host_cfg;
pub(crate) mod mirror_files;
pub(crate) mod plan;
pub(crate) mod scan;
mod secrets;
