//! Packages of all kinds, sound and not.

mod dependencies;
mod index;
