//! Trees for stock clients that speak neither HTTP nor smart-sync: git, rsync, and Portage with both.

mod git;
mod portage;
mod rsync;
mod scene;
mod signed;
