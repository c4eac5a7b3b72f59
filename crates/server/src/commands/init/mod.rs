//! `init`: a new realm.
//!
//! The first root document, the first heads leaf and the first checkpoint are made here, with keys that are made
//! here too. The keys that can publish and the ones that can replace all others are written beside those that the
//! server needs, and the last lines say that they belong somewhere else.

use anyhow::Context;
use smart_sync_store::count::counted;
use smart_sync_sync::key::{KeyName, KeyType, SecretKey, Signer as _};
use smart_sync_sync::log::checkpoint::Checkpoint;
use smart_sync_sync::log::heads::HeadsTable;
use smart_sync_sync::log::merkle::{Edge, LogHash};
use smart_sync_sync::name::{ChannelPattern, Origin};
use smart_sync_sync::note::Note;
use smart_sync_sync::record::{Heads, NoteRecord as _, PublishRole, Role, Root, RootRef};
use smart_sync_sync::time::UnixTime;

use super::print;
use crate::args::InitArgs;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::durable;
use crate::http::now;
use crate::realm::log_files::LogFiles;

const DAY: u64 = 24 * 60 * 60;
const HOUR: u64 = 60 * 60;

pub(super) fn run(args: &InitArgs) -> anyhow::Result<()> {
    let origin: Origin = args.origin.parse()?;
    let mut patterns: Vec<ChannelPattern> =
        args.publish.iter().map(|pattern| pattern.parse()).collect::<Result<_, _>>()?;
    patterns.sort_by_key(ToString::to_string);
    patterns.dedup();
    let mut config = Config::new(args.origin.clone());
    config.private.clone_from(&args.private);
    config.private_patterns().context("--private")?;

    let data = DataDir::create(&args.data.path)?;
    let time = UnixTime::new(now()).context("the clock of this machine is beyond the year 9999")?;
    let keys = Keys::make(&data, &origin)?;
    let root = Root {
        origin: origin.clone(),
        version: 1,
        prev: None,
        expires: time.plus(args.expires_days * DAY),
        max_age_seconds: args.max_age_hours * HOUR,
        root: role(&keys.root, KeyType::Ed25519),
        log: role(&keys.log, KeyType::Ed25519),
        clock: role(&keys.clock, KeyType::Cosignature),
        witness: None,
        publish: patterns
            .into_iter()
            .map(|pattern| PublishRole { pattern, role: role(&keys.publish, KeyType::Ed25519) })
            .collect(),
        revoked: Vec::new(),
    };
    let mut note = Note::new(root.to_text())?;
    note.sign(&keys.root)?;
    note.sort_signatures();
    let root_leaf = note.to_bytes();
    write_log(&data, &origin, &root_leaf, &keys, time)?;
    // Last: a directory is a server's only when it is whole.
    durable::write(&data.config(), toml::to_string(&config)?.as_bytes())?;
    report(args, &data, &origin, &LogHash::of_leaf(&root_leaf))
}

struct Keys {
    root: SecretKey,
    log: SecretKey,
    clock: SecretKey,
    publish: SecretKey,
}

impl Keys {
    fn make(data: &DataDir, origin: &Origin) -> anyhow::Result<Self> {
        let make = |file: &str, name: String| -> anyhow::Result<SecretKey> {
            let name: KeyName = name.parse().with_context(|| format!("naming the {file} key"))?;
            let key = SecretKey::generate(name).context("asking the system for random bytes")?;
            key.save(&data.keys().join(format!("{file}.key")), None)?;
            Ok(key)
        };
        Ok(Self {
            root: make("root", format!("{origin}/root"))?,
            // The name of the log's key is the origin, as tlog-checkpoint recommends.
            log: make("log", origin.to_string())?,
            clock: make("clock", format!("{origin}/clock"))?,
            publish: make("publish", format!("{origin}/publish"))?,
        })
    }
}

fn role(key: &SecretKey, key_type: KeyType) -> Role {
    Role { threshold: 1, keys: vec![key.verifier_key(key_type)] }
}

fn write_log(
    data: &DataDir,
    origin: &Origin,
    root_leaf: &[u8],
    keys: &Keys,
    time: UnixTime,
) -> anyhow::Result<()> {
    let table = HeadsTable::default();
    let heads = Heads {
        time,
        prev: None,
        root: RootRef { version: 1, leaf: LogHash::of_leaf(root_leaf) },
        table: table.root(),
        count: table.count(),
    };
    let files = LogFiles::new(data.log());
    let edge = files.write_leaves(&Edge::default(), &[root_leaf.to_vec(), heads.to_text().into_bytes()])?;
    let checkpoint = Checkpoint { origin: origin.clone(), size: edge.size(), root: edge.root() };
    let mut note = Note::new(checkpoint.to_text())?;
    note.sign(&keys.log)?;
    note.cosign(&keys.clock, time)?;
    files.write_checkpoint(&note.to_bytes())
}

fn report(args: &InitArgs, data: &DataDir, origin: &Origin, root: &LogHash) -> anyhow::Result<()> {
    let keys = data.keys();
    let keys = keys.display();
    print(format_args!("The realm {origin} is in {}.", data.root().display()))?;
    print(format_args!(""))?;
    print(format_args!("Clients trust it by its first root document:"))?;
    print(format_args!("    smart-sync trust add URL --root {root}"))?;
    print(format_args!(""))?;
    print(format_args!("{keys}/root.key     can replace every other key: move it to a disk in a drawer"))?;
    print(format_args!(
        "{keys}/publish.key  can publish {}: move it to whoever publishes",
        args.publish.join(", ")
    ))?;
    print(format_args!("{keys}/log.key, clock.key stay: they can publish nothing"))?;
    print(format_args!(""))?;
    if !args.private.is_empty() {
        print(format_args!("Invisible without a token: {}", args.private.join(", ")))?;
        print(format_args!(""))?;
    }
    print(format_args!(
        "The clock runs in this server: whoever takes over this machine can hide updates for as long as it lasts."
    ))?;
    print(format_args!(
        "With `smart-sync-server clock` on another machine, hosts notice after {}.",
        counted(args.max_age_hours, "hour", "hours")
    ))
}
