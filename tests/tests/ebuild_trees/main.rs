//! Trees for stock clients that speak neither HTTP nor smart-sync: git, and Portage with it.

mod git;
mod portage;
mod scene;
