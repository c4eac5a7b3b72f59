//! Manifests as their users see them: built, read, listed, compared, and agreed on with git.

#![cfg(test)]

mod build;
mod diff;
mod git_tree;
mod golden;
mod read;
mod tree;
