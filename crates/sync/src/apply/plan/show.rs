//! A plan as a person reads it before saying yes.

use std::fmt;

use smart_sync_store::manifest::entry::Node;
use smart_sync_store::manifest::path::Shown;

use super::{ApplyPlan, Change, Displaced};
use crate::apply::stat::FileKind;

impl fmt::Display for ApplyPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut actions: Vec<_> = self.actions.iter().collect();
        actions.sort_by(|a, b| a.path.cmp(&b.path));
        for action in actions {
            let what = match (&action.change, &action.displaced) {
                (Change::Put(..) | Change::Link(_), Displaced::Nothing) => "create",
                (Change::Put(..) | Change::Link(_), _) => "replace",
                (Change::SetMetadata(..), _) => "set mode",
                (Change::Delete, _) if self.given_back.contains(&action.path) => "restore",
                (Change::Delete | Change::Clear, _) => "delete",
                // These follow from the others.
                (Change::MakeDirectory(_) | Change::MakeRoom | Change::RemoveDirectory, _) => continue,
            };
            write!(f, "{what:<9}{}", Shown(&action.path))?;
            match &action.change {
                Change::Put(Node::File(content), _) => {
                    write!(f, " ({}, {} bytes)", FileKind::File.name(), content.size)?;
                }
                Change::Put(Node::Symlink(content), _) => {
                    write!(f, " ({}, {} bytes)", FileKind::Symlink.name(), content.size)?;
                }
                _ => {}
            }
            match action.displaced {
                Displaced::Local => f.write_str(", local changes go to the backup")?,
                Displaced::Former => f.write_str(", what stands there is kept")?,
                Displaced::Nothing | Displaced::Ours(_) => {}
            }
            writeln!(f)?;
        }
        for path in &self.left_out {
            writeln!(f, "{:<9}{path} (excluded on this target)", "leave out")?;
        }
        for problem in &self.problems {
            writeln!(f, "{:<9}{problem}", "refuse")?;
        }
        let fetched: u64 = self.fetches().map(|need| need.content.size).sum();
        let count = self.fetches().count();
        let contents = if count == 1 { "content" } else { "contents" };
        write!(
            f,
            "{} unchanged, {count} {contents} to fetch ({fetched} bytes), {} already here",
            self.unchanged,
            self.needs.len() - count,
        )
    }
}
