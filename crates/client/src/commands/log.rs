//! `log`: what a ref was.
//!
//! What each publication was is proven by the one after it; where in the log each stands, by the log's tiles.

use indicatif::HumanBytes;
use smart_sync_sync::log::merkle::LogHash;
use smart_sync_sync::record::Publication;

use super::{Listing, count, open_realm, wait_for};
use crate::args::inspect::LogArgs;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output};
use crate::realm::history::{Chain, History};
use crate::realm::log_tiles::LogTiles;
use crate::realm::remote::Remote;
use crate::sync::Surroundings;

/// Lists the publications of a ref, newest first.
pub fn run(args: &LogArgs, config: &Config, surroundings: &Surroundings<'_>) -> Result<Exit, Failure> {
    let (realm, settings) = open_realm(&args.tree, config, surroundings)?;
    let output = surroundings.output;
    let head = realm.head(&settings.channel, &settings.reference, output);
    let head = wait_for(surroundings, head)?;
    let get = |remote: &Remote, path: &str, limit: u64| {
        wait_for(surroundings, async { Ok(remote.get(path, limit).await?) })
    };
    let tiles = LogTiles::new(&head.log, &head.remotes, get);
    let (channel, reference) = (&settings.channel, &head.reference);
    let history = History { remotes: &head.remotes, channel, reference };
    let mut chain = Chain::from((head.seq, head.leaf));
    let mut left = args.number;
    while left > 0 && chain.next.is_some() {
        let entries = wait_for(surroundings, history.up_to(chain.seq))?;
        let mut listing = Listing::default();
        for entry in entries.iter().take(left as usize) {
            let publication = chain.follow(entry)?;
            tiles.check(entry.index, &LogHash::of_leaf(&entry.leaf))?;
            say(&publication, entry.index, &mut listing, output);
            left -= 1;
        }
        listing.print(output)?;
    }
    Ok(Exit::Success)
}

fn say(publication: &Publication, index: u64, listing: &mut Listing, output: &Output) {
    let Publication { seq, time, content, .. } = publication;
    let manifest = publication.manifest.map(|manifest| format!("blake3:{}", manifest.id));
    let commit = publication.git.map(|git| git.commit.to_string());
    if output.format() == Format::Json {
        return output.event(&serde_json::json!({
            "event": "publication",
            "channel": publication.channel.as_str(),
            "ref": publication.reference.to_string(),
            "seq": seq,
            "leaf": index,
            "time": time.seconds(),
            "content_time": publication.content_time.seconds(),
            "kind": publication.kind.as_str(),
            "manifest": manifest,
            "entries": content.entries,
            "bytes": content.bytes,
            "commit": commit,
        }));
    }
    let Some(manifest) = manifest else {
        return listing.line(&format!("{seq:>5}  {time}  leaf {index}  withdrawn"));
    };
    let entries = count(content.entries, "entry", "entries");
    let commit = commit.map_or_else(String::new, |commit| format!("  commit {commit}"));
    let bytes = HumanBytes(content.bytes);
    listing.line(&format!("{seq:>5}  {time}  leaf {index}  {manifest}  {entries}, {bytes}{commit}"));
}
