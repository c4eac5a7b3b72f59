//! Which files that came from upstream may go: those that no kept tree names, and that no list has named for a while.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, OptionalExtension as _, params};
use smart_sync_sync::name::Channel;

use super::kept_trees::names_in_kept;
use super::mirror::{Mirror, NamesFrom};
use super::upstreams::Turns;
use super::{Kept, database, kept, learn, names};
use crate::config::MirrorConfig;
use crate::realm::Realm;

const DAY_SECONDS: u64 = 86_400;

/// The files of a mirror that may go. On a thread of the runtime that may block.
pub(crate) fn forgettable(
    realm: &Arc<Realm>,
    config: &MirrorConfig,
    days: u64,
    now: u64,
) -> anyhow::Result<Vec<Kept>> {
    let mirror = Mirror::new(config, realm.config.upstream.connections_per_host, &mut Turns::new())?;
    let db = open(realm)?;
    let key = mirror.names.key();
    ensure!(
        learn::is_up_to_date(realm, &mirror.names, &db)? && names::version(&db, &key)?.is_some(),
        "it is not known yet what {key} names: the server learns it while it runs"
    );
    let needed = match &mirror.names {
        NamesFrom::Channel(channel) => names_in_kept(realm, channel, mirror.pull)?,
        NamesFrom::Directory(_) => BTreeSet::new(),
    };
    let since = now.saturating_sub(days.saturating_mul(DAY_SECONDS));
    let mut found = Vec::new();
    for file in kept::of_channel(&db, &mirror.channel)? {
        let is_needed =
            needed.contains(&file.name) || file.time > since || is_named_since(&db, &key, &file, since)?;
        if !is_needed {
            found.push(file);
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// Forgets files. Their contents go with the next collection of garbage, unless something else needs them.
pub(crate) fn forget_files(realm: &Realm, channel: &Channel, files: &[Kept]) -> anyhow::Result<()> {
    let db = open(realm)?;
    files.iter().try_for_each(|file| kept::forget(&db, channel, file))
}

fn open(realm: &Realm) -> anyhow::Result<Connection> {
    let path = realm.data.upstream_db();
    database::open(&path).with_context(|| format!("opening {}", path.display()))
}

/// Whether a list names the file, or has until then: by its name, or as the same content.
fn is_named_since(db: &Connection, tree: &str, file: &Kept, since: u64) -> anyhow::Result<bool> {
    let mut statement = db.prepare_cached(
        "SELECT 1 FROM named WHERE tree = ?1 AND (name = ?2 OR sha512 = ?3) AND (gone IS NULL OR gone > ?4) LIMIT 1",
    )?;
    let found = statement.query_row(params![tree, file.name, file.expected.sha512, since], |_| Ok(()));
    Ok(found.optional()?.is_some())
}
