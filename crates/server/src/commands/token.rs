//! `token create|list|revoke`

use anyhow::bail;
use jiff::Timestamp;

use super::print;
use crate::args::{TokenCommand, TokenCreateArgs};
use crate::data_dir::DataDir;
use crate::http::now;
use crate::tokens::{TokenStore, Verb, check_prefix, path_in};

const DAY: u64 = 24 * 60 * 60;

pub(super) fn run(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create(args) => create(args),
        TokenCommand::List { data } => list(&store(&data.path)?),
        TokenCommand::Revoke { data, name } => store(&data.path)?.revoke(&name),
    }
}

fn store(data: &std::path::Path) -> anyhow::Result<TokenStore> {
    let data = DataDir::open(data)?;
    Ok(TokenStore::new(path_in(data.root())))
}

fn create(args: TokenCreateArgs) -> anyhow::Result<()> {
    check_prefix(&args.prefix)?;
    if args.host.is_some() && !args.verbs.iter().any(|verb| matches!(verb, Verb::Report | Verb::Hosts)) {
        bail!("--host says which host the verbs `report` and `hosts` are about, and neither is given");
    }
    let store = store(&args.data.path)?;
    let text = store.create(args.name, args.verbs, args.prefix, args.host, now() + args.days * DAY)?;
    print(format_args!("{text}"))
}

fn list(store: &TokenStore) -> anyhow::Result<()> {
    for token in store.list()? {
        let verbs: Vec<_> = token.verbs.iter().map(|verb| verb_name(*verb)).collect();
        let ends = i64::try_from(token.expires).ok().and_then(|at| Timestamp::from_second(at).ok());
        let ends = ends.map_or_else(|| token.expires.to_string(), |at| at.to_string());
        let prefix = if token.prefix.is_empty() { "every channel" } else { &token.prefix };
        let host = token.host.map_or_else(String::new, |host| format!("\thost {host}"));
        print(format_args!("{}\t{}\t{prefix}{host}\tuntil {ends}", token.name, verbs.join(",")))?;
    }
    Ok(())
}

const fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Read => "read",
        Verb::Publish => "publish",
        Verb::Admin => "admin",
        Verb::Report => "report",
        Verb::Hosts => "hosts",
    }
}
