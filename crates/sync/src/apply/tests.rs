//! Applying on real directories.

mod attacks;
mod changes;
mod crash;
mod fixture;
mod fresh;
mod overlay;
mod scanning;
mod snapshots;
mod staging;
mod suite;
mod system;
mod together;
mod versions;
