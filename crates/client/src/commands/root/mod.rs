//! `root`: the ceremony that makes a root document.
//!
//! A draft is the text that will be signed, and nothing else, so that it can be read and edited before anybody signs
//! it. From the first signature on it is a note. Every step works on files alone and can be done without a network.

mod draft;
mod file;
mod show;

use std::sync::Arc;

use reqwest::Method;
use smart_sync_sync::key::KeyType;
use smart_sync_sync::note::Note;
use smart_sync_sync::record::{NoteRecord as _, Root, Unverified};
use smart_sync_sync::trust::pin_of;

use super::wait_for;
use crate::args::trust::{RootAssembleArgs, RootCommand, RootPublishArgs, RootSignArgs};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::realm::remote::{Remote, Traffic};
use crate::realm::resolve::now;
use crate::realm::trust_store::TrustStore;
use crate::signing;
use crate::sync::Surroundings;
use crate::token::Tokens;
use file::{read, read_signed, refused, write};

/// Runs a subcommand that works on files alone.
pub fn run(command: &RootCommand, output: &Output) -> Result<Exit, Failure> {
    match command {
        RootCommand::New(args) => draft::new(args, output),
        RootCommand::Edit(args) => draft::edit(args, output),
        RootCommand::Sign(args) => sign(args, output),
        RootCommand::Assemble(args) => assemble(args, output),
        RootCommand::Show(args) => show::run(&args.file, output),
        RootCommand::Publish(_) => Err(Failure::message(Exit::General, "a server is needed")),
    }
}

fn sign(args: &RootSignArgs, output: &Output) -> Result<Exit, Failure> {
    let mut note = read(&args.draft)?;
    let root = Root::parse(note.text()).map_err(|error| refused(&args.draft, error))?;
    for key in &args.keys {
        let key = signing::load(key)?;
        let own = key.verifier_key(KeyType::Ed25519);
        if !root.root.keys.contains(&own) {
            output.warning(&format!(
                "{} is not a root key of version {}: its signature counts only if it is one of the version before",
                own.name(),
                root.version
            ));
        }
        note.sign(key.as_ref())?;
        output.info(&format!("{} has signed version {} of {}", own.name(), root.version, root.origin));
    }
    note.sort_signatures();
    write(&args.draft, &note.to_bytes())?;
    output.info(&format!(
        "{} is signed now; when enough have signed: smart-sync root assemble FILE…",
        args.draft.display()
    ));
    Ok(Exit::Success)
}

fn assemble(args: &RootAssembleArgs, output: &Output) -> Result<Exit, Failure> {
    let mut whole: Option<Note> = None;
    for path in &args.signed {
        let note = read(path)?;
        let whole = whole.get_or_insert_with(|| note.clone());
        if whole.text() != note.text() {
            let text = format!("{} is another draft than {}", path.display(), args.signed[0].display());
            return Err(Failure::message(Exit::Refused, text)
                .hint("everybody has to sign the same text; `smart-sync root show` shows it"));
        }
        whole.merge(&note);
    }
    let mut note = whole.ok_or_else(|| Failure::message(Exit::Arguments, "no file is named"))?;
    note.sort_signatures();
    let bytes = note.to_bytes();
    let path = &args.signed[0];
    let root = Root::parse(note.text()).map_err(|error| refused(path, error))?;
    let unverified = || Unverified::<Root>::parse(&bytes).map_err(|error| refused(path, error));
    let missing = |error| {
        Failure::new(Exit::Refused, error)
            .context(format!("version {} of {} is not signed by enough keys", root.version, root.origin))
            .hint(format!("smart-sync root show {} says who has signed", path.display()))
    };
    unverified()?.verify_own().map_err(missing)?;
    match (&args.current, root.version) {
        (None, 1) => {}
        (None, _) => {
            return Err(Failure::message(
                Exit::Arguments,
                "the keys of the version before have to sign too, and its file is not named",
            )
            .hint("name it with --current FILE"));
        }
        (Some(current), _) => {
            let current = read_signed(current)?;
            unverified()?.verify_next(&current).map_err(missing)?;
            draft::warn_of_what_is_withdrawn(current.record(), &root, output);
        }
    }
    if root.expires <= now() {
        return Err(Failure::message(Exit::Refused, format!("the document expired at {}", root.expires)));
    }
    write(&args.output, &bytes)?;
    output.info(&format!("{} is version {} of {}", args.output.display(), root.version, root.origin));
    output.info(&format!("its fingerprint is {}", pin_of(&bytes)));
    let file = args.output.display();
    output.info(&match root.version {
        1 => format!("next, where the server will be: smart-sync-server init --root {file} --log-key FILE"),
        _ => format!("next: smart-sync root publish {file}"),
    });
    output.event(&serde_json::json!({
        "event": "root", "origin": root.origin.as_str(), "version": root.version,
        "hash": pin_of(&bytes).to_string(), "file": args.output.display().to_string(),
    }));
    Ok(Exit::Success)
}

/// Hands a signed root document to a server.
pub fn publish(
    args: &RootPublishArgs,
    config: &Config,
    surroundings: &Surroundings<'_>,
) -> Result<Exit, Failure> {
    let output = surroundings.output;
    let signed = read_signed(&args.file)?;
    let root = signed.record();
    let configured = config.realms.iter().find(|(name, _)| name.0 == root.origin).map(|(_, realm)| realm);
    let store = TrustStore::new(surroundings.state_dir);
    let known = store.servers(&root.origin)?;
    let server = args
        .server
        .clone()
        .or_else(|| configured?.servers.first().cloned())
        .or_else(|| known.first().cloned());
    let server = server.ok_or_else(|| {
        Failure::message(Exit::Arguments, format!("no server of {} is known", root.origin))
            .hint("name it with --server URL")
    })?;
    let tokens = Tokens::of_servers()?;
    let token = tokens.choose(configured.and_then(|realm| realm.token.as_ref())).cloned();
    let remote = Remote::new(server, token, surroundings.network, Arc::new(Traffic::default()))?;
    wait_for(surroundings, async {
        remote.send(Method::POST, "v1/root", signed.to_bytes(), 4096).await.map_err(|error| {
            Failure::from(error).context(format!("handing in version {} of {}", root.version, root.origin))
        })?;
        let newest = remote.get("v1/root/latest", smart_sync_sync::note::NOTE_BYTES_MAX as u64).await?;
        if pin_of(&newest) == signed.leaf() {
            return Ok(());
        }
        output.warning(
            "the server has taken it, but shows it only when the clock has signed the newest checkpoint",
        );
        Ok(())
    })?;
    output.info(&format!("version {} of {} is in force, {}", root.version, root.origin, signed.leaf()));
    Ok(Exit::Success)
}
