//! Packages of all kinds, sound and not.

mod dependencies;
mod draft;
mod golden;
mod hostile;
mod image;
mod index;
mod parts;
mod signatures;
