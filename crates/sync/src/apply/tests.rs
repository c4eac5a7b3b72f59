//! Applying on real directories.

mod attacks;
mod changes;
mod crash;
mod fixture;
mod fresh;
mod refusals;
mod scanning;
mod staging;
mod system;
mod together;
mod versions;
