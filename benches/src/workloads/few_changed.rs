//! A sync after five files have changed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use smart_sync_tests::CountingProxy;
use smart_sync_tests::proxy::Protocol;

use super::sizes;
use crate::bench::{Bench, check_same, prepare};
use crate::daemon::Daemon;
use crate::data::{self, Edit};
use crate::measure::{Usage, measure};
use crate::ours::Ours;
use crate::peers::{casync, git, nginx, ostree, rsync};
use crate::report::{Bar, Row, Section};

/// How many files change.
const CHANGED: u32 = 5;
const BYTES_MAX: u64 = 40 * 1024;
const REQUESTS_MAX: u64 = 4;

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let small = data::few_files(bench)?;
    let large = data::many_files(bench)?;
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    for (tree, count) in [(&small, bench.scale.few_files), (&large, bench.scale.many_files)] {
        let measured = one_size(bench, tree, count)?;
        let ours = measured.iter().find(|row| row.what.starts_with("smart-sync")).and_then(|row| row.wire);
        bars.push(Bar::new(
            format!("{count} files: at most 40 KiB and 4 requests"),
            ours.map(|wire| wire.bytes() <= BYTES_MAX && wire.requests <= REQUESTS_MAX),
        ));
        rows.extend(measured);
    }
    let method = format!(
        "One line is replaced in the middle of each of {CHANGED} files; every program has the version before on both \
         sides. A: a tree of sources ({}); B: a tree of small files ({}). Sent and received are seen from the \
         client, through a proxy that counts. casync uses the target as a seed and ostree makes a new checkout, as \
         both are meant to be used.",
        sizes(&small),
        sizes(&large)
    );
    Ok(Section { title: "Five files changed".to_owned(), method, tables: Vec::new(), rows, bars })
}

/// A program that has the version before on both sides.
trait Follower {
    fn name(&self) -> &'static str;
    /// Makes the tree, as it is now, the newest version on the server.
    fn publish(&mut self, tree: &Path) -> Result<()>;
    /// Fetches the newest version.
    fn update(&mut self) -> Result<Usage>;
    /// Where the client has it.
    fn target(&self) -> &Path;
    fn proxy(&self) -> &CountingProxy;
}

fn one_size(bench: &Bench, tree: &Path, count: u32) -> Result<Vec<Row>> {
    let mut followers: Vec<Box<dyn Follower + '_>> = vec![
        Box::new(Rsync::new(bench, tree)?),
        Box::new(Git::new(bench)?),
        Box::new(Casync::new(bench)?),
        Box::new(Ostree::new(bench)?),
    ];
    if !bench.peers_only() {
        followers.push(Box::new(SmartSync::new(bench)?));
    }
    let mut rows = Vec::new();
    for follower in &mut followers {
        crate::say(&format!("  {} of {count} files", follower.name()));
        follower.publish(tree)?;
        follower.update()?;
        check_same(follower.name(), tree, follower.target())?;
    }
    let _edit = Edit::make(tree, count, CHANGED)?;
    for follower in &mut followers {
        follower.publish(tree)?;
        follower.proxy().take_totals();
        let mut row = Row::new(format!("{}, {count} files", follower.name()));
        row.usages.push(follower.update()?);
        row.wire = Some(follower.proxy().totals());
        check_same(follower.name(), tree, follower.target())?;
        crate::say(&format!("  {}: {:?}", row.what, row.wire));
        rows.push(row);
    }
    Ok(rows)
}

struct Rsync<'bench> {
    bench: &'bench Bench,
    _daemon: Daemon,
    proxy: CountingProxy,
    target: PathBuf,
}

impl<'bench> Rsync<'bench> {
    fn new(bench: &'bench Bench, tree: &Path) -> Result<Self> {
        let daemon = rsync::serve(bench, tree)?;
        let proxy = CountingProxy::start(&daemon.address(), Protocol::Other)?;
        Ok(Self { bench, _daemon: daemon, proxy, target: bench.scratch("changed/rsync")? })
    }
}

impl Follower for Rsync<'_> {
    fn name(&self) -> &'static str {
        "rsync -a"
    }

    fn publish(&mut self, _tree: &Path) -> Result<()> {
        Ok(())
    }

    fn update(&mut self) -> Result<Usage> {
        measure(self.bench, &rsync::sync(self.bench, &self.proxy.address().to_string(), &self.target))
    }

    fn target(&self) -> &Path {
        &self.target
    }

    fn proxy(&self) -> &CountingProxy {
        &self.proxy
    }
}

struct Git<'bench> {
    bench: &'bench Bench,
    base: PathBuf,
    _daemon: Daemon,
    proxy: CountingProxy,
    target: PathBuf,
}

impl<'bench> Git<'bench> {
    fn new(bench: &'bench Bench) -> Result<Self> {
        let base = bench.scratch("changed/git-server")?;
        fs::create_dir_all(&base)?;
        let daemon = git::serve(bench, &base)?;
        let proxy = CountingProxy::start(&daemon.address(), Protocol::Other)?;
        Ok(Self { bench, base, _daemon: daemon, proxy, target: bench.scratch("changed/git")? })
    }
}

impl Follower for Git<'_> {
    fn name(&self) -> &'static str {
        "git pull"
    }

    fn publish(&mut self, tree: &Path) -> Result<()> {
        git::commit(self.bench, &self.base, tree)
    }

    fn update(&mut self) -> Result<Usage> {
        if self.target.exists() {
            measure(self.bench, &git::pull(self.bench, &self.target))
        } else {
            measure(self.bench, &git::clone(self.bench, &self.proxy.address().to_string(), &self.target))
        }
    }

    fn target(&self) -> &Path {
        &self.target
    }

    fn proxy(&self) -> &CountingProxy {
        &self.proxy
    }
}

struct Casync<'bench> {
    bench: &'bench Bench,
    repository: PathBuf,
    _server: Daemon,
    proxy: CountingProxy,
    target: PathBuf,
}

impl<'bench> Casync<'bench> {
    fn new(bench: &'bench Bench) -> Result<Self> {
        let repository = bench.scratch("changed/casync-server")?;
        fs::create_dir_all(&repository)?;
        let server = nginx::serve(bench, &repository)?;
        let proxy = CountingProxy::start(&server.address(), Protocol::Http)?;
        Ok(Self { bench, repository, _server: server, proxy, target: bench.scratch("changed/casync")? })
    }
}

impl Follower for Casync<'_> {
    fn name(&self) -> &'static str {
        "casync extract"
    }

    fn publish(&mut self, tree: &Path) -> Result<()> {
        prepare(&mut casync::make(self.bench, &self.repository, tree))?;
        Ok(())
    }

    fn update(&mut self) -> Result<Usage> {
        measure(self.bench, &casync::extract(self.bench, &self.proxy.url(), &self.target))
    }

    fn target(&self) -> &Path {
        &self.target
    }

    fn proxy(&self) -> &CountingProxy {
        &self.proxy
    }
}

struct Ostree<'bench> {
    bench: &'bench Bench,
    repository: PathBuf,
    local: PathBuf,
    _server: Daemon,
    proxy: CountingProxy,
    target: PathBuf,
}

impl<'bench> Ostree<'bench> {
    fn new(bench: &'bench Bench) -> Result<Self> {
        let repository = bench.scratch("changed/ostree-server")?;
        let local = bench.scratch("changed/ostree-local")?;
        prepare(&mut ostree::init(bench, &repository, "archive"))?;
        prepare(&mut ostree::init(bench, &local, "bare-user"))?;
        let server = nginx::serve(bench, &repository)?;
        let proxy = CountingProxy::start(&server.address(), Protocol::Http)?;
        prepare(&mut ostree::add_remote(bench, &local, &proxy.url()))?;
        Ok(Self {
            bench,
            repository,
            local,
            _server: server,
            proxy,
            target: bench.scratch("changed/ostree")?,
        })
    }
}

impl Follower for Ostree<'_> {
    fn name(&self) -> &'static str {
        "ostree pull + checkout"
    }

    fn publish(&mut self, tree: &Path) -> Result<()> {
        prepare(&mut ostree::commit(self.bench, &self.repository, tree))?;
        Ok(())
    }

    fn update(&mut self) -> Result<Usage> {
        self.target = self.bench.scratch("changed/ostree")?;
        let pulled = measure(self.bench, &ostree::pull(self.bench, &self.local))?;
        let checkout = ostree::checkout(self.bench, &self.local, "origin:bench", &self.target);
        Ok(pulled.then(measure(self.bench, &checkout)?))
    }

    fn target(&self) -> &Path {
        &self.target
    }

    fn proxy(&self) -> &CountingProxy {
        &self.proxy
    }
}

struct SmartSync<'bench> {
    bench: &'bench Bench,
    realm: Ours<'bench>,
    proxy: CountingProxy,
    target: PathBuf,
    trusted: bool,
}

impl<'bench> SmartSync<'bench> {
    fn new(bench: &'bench Bench) -> Result<Self> {
        let realm = Ours::start(bench)?;
        let proxy = CountingProxy::start(realm.address(), Protocol::Http)?;
        Ok(Self { bench, realm, proxy, target: bench.scratch("changed/smart-sync")?, trusted: false })
    }
}

impl Follower for SmartSync<'_> {
    fn name(&self) -> &'static str {
        "smart-sync"
    }

    fn publish(&mut self, tree: &Path) -> Result<()> {
        self.realm.publish(tree)?;
        Ok(())
    }

    fn update(&mut self) -> Result<Usage> {
        if !self.trusted {
            self.realm.trust("host", &self.proxy.url())?;
            self.trusted = true;
        }
        measure(self.bench, &self.realm.sync("host", &self.proxy.url(), &self.target))
    }

    fn target(&self) -> &Path {
        &self.target
    }

    fn proxy(&self) -> &CountingProxy {
        &self.proxy
    }
}
