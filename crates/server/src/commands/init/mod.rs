//! `init`: a new realm.
//!
//! Its first root document is made here, with keys that are made here too, or it was assembled elsewhere and is given.
//! In both cases the document is verified like one that came from outside before anything is written; then the first
//! heads leaf and the first checkpoint follow from it.

mod given;
mod made;

use anyhow::Context;
use smart_sync_store::count::counted;
use smart_sync_sync::key::SecretKey;
use smart_sync_sync::log::checkpoint::Checkpoint;
use smart_sync_sync::log::heads::HeadsTable;
use smart_sync_sync::log::merkle::Edge;
use smart_sync_sync::note::Note;
use smart_sync_sync::record::{Heads, Root, RootRef, Signed};
use smart_sync_sync::time::UnixTime;

use super::print;
use crate::args::InitArgs;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::durable;
use crate::http::now;
use crate::realm::log_files::LogFiles;

const HOUR: u64 = 60 * 60;

/// What a realm begins with.
struct Founding {
    root: Signed<Root>,
    log: SecretKey,
    /// Where it is not here, the clock runs on another machine.
    clock: Option<SecretKey>,
    /// Keys that were made here and belong somewhere else.
    others: Option<OtherKeys>,
}

struct OtherKeys {
    root: SecretKey,
    publish: SecretKey,
}

pub(super) fn run(args: &InitArgs) -> anyhow::Result<()> {
    let time = UnixTime::new(now()).context("the clock of this machine is beyond the year 9999")?;
    let founding = match &args.root {
        Some(root) => given::found(args, root, time)?,
        None => made::found(args, time)?,
    };
    let mut config = Config::new(founding.root.record().origin.to_string());
    config.private.clone_from(&args.private);
    config.private_patterns().context("--private")?;
    if founding.clock.is_none() {
        config.clock_interval_seconds = 0;
    }
    let data = DataDir::create(&args.data.path)?;
    founding.save_keys(&data)?;
    founding.write_log(&data, time)?;
    // Last: a directory is a server's only when it is whole.
    durable::write(&data.config(), toml::to_string(&config)?.as_bytes())?;
    founding.report(args, &data)
}

impl Founding {
    fn save_keys(&self, data: &DataDir) -> anyhow::Result<()> {
        let keys = [
            ("log", Some(&self.log)),
            ("clock", self.clock.as_ref()),
            ("root", self.others.as_ref().map(|others| &others.root)),
            ("publish", self.others.as_ref().map(|others| &others.publish)),
        ];
        for (file, key) in keys {
            if let Some(key) = key {
                key.save(&data.keys().join(format!("{file}.key")), None)?;
            }
        }
        Ok(())
    }

    fn write_log(&self, data: &DataDir, time: UnixTime) -> anyhow::Result<()> {
        let table = HeadsTable::default();
        let heads = Heads {
            time,
            prev: None,
            root: RootRef { version: self.root.record().version, leaf: self.root.leaf() },
            table: table.root(),
            count: table.count(),
        };
        let leaves = [self.root.to_bytes(), heads.to_text().into_bytes()];
        let files = LogFiles::new(data.log());
        let edge = files.write_leaves(&Edge::default(), &leaves)?;
        let origin = self.root.record().origin.clone();
        let checkpoint = Checkpoint { origin, size: edge.size(), root: edge.root() };
        let mut note = Note::new(checkpoint.to_text())?;
        note.sign(&self.log)?;
        if let Some(clock) = &self.clock {
            note.cosign(clock, time)?;
        }
        files.write_checkpoint(&note.to_bytes())
    }

    fn report(&self, args: &InitArgs, data: &DataDir) -> anyhow::Result<()> {
        let root = self.root.record();
        let keys = data.keys();
        let keys = keys.display();
        print(format_args!("The realm {} is in {}.", root.origin, data.root().display()))?;
        print(format_args!(""))?;
        print(format_args!("Clients trust it by its first root document:"))?;
        print(format_args!("    smart-sync trust add URL --root {}", self.root.leaf()))?;
        print(format_args!(""))?;
        if self.others.is_some() {
            print(format_args!(
                "{keys}/root.key     can replace every other key: move it to a disk in a drawer"
            ))?;
            let publish = args.publish.join(", ");
            print(format_args!("{keys}/publish.key  can publish {publish}: move it to whoever publishes"))?;
        }
        match self.clock {
            Some(_) => print(format_args!("{keys}/log.key, clock.key stay: they can publish nothing"))?,
            None => print(format_args!("{keys}/log.key stays: it can publish nothing"))?,
        }
        print(format_args!(""))?;
        if !args.private.is_empty() {
            print(format_args!("Invisible without a token: {}", args.private.join(", ")))?;
            print(format_args!(""))?;
        }
        self.report_clock()
    }

    fn report_clock(&self) -> anyhow::Result<()> {
        let root = self.root.record();
        let hours = counted(root.max_age_seconds.div_ceil(HOUR), "hour", "hours");
        if self.clock.is_none() {
            print(format_args!(
                "The clock runs on another machine, and nobody believes anything here before it has signed:"
            ))?;
            return print(format_args!(
                "    smart-sync-server clock --server URL --key FILE --state DIR --root {}",
                self.root.leaf()
            ));
        }
        print(format_args!(
            "The clock runs in this server: whoever takes over this machine can hide updates for as long as it lasts."
        ))?;
        print(format_args!("With `smart-sync-server clock` on another machine, hosts notice after {hours}."))
    }
}
