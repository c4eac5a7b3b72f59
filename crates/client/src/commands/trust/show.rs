//! `trust show`: what is believed, in words.

use serde_json::{Value, json};
use smart_sync_sync::name::Origin;
use smart_sync_sync::note::Note;
use smart_sync_sync::record::{Role, Root, Signed, Unverified};
use smart_sync_sync::time::UnixTime;
use smart_sync_sync::trust::TrustState;

use crate::commands::{Listing, span};
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output};
use crate::realm::resolve::now;
use crate::realm::trust_store::TrustStore;

/// How long before the end of a root document it is warned of.
pub const EXPIRY_WARNING_SECONDS: u64 = 30 * 24 * 60 * 60;

/// Shows one realm, or all.
pub(super) fn run(only: Option<&Origin>, store: &TrustStore, output: &Output) -> Result<Exit, Failure> {
    let mut origins = store.origins()?;
    if let Some(only) = only {
        origins.retain(|origin| origin == only);
        if origins.is_empty() {
            return Err(Failure::message(Exit::Arguments, format!("{only} is not known here"))
                .hint("smart-sync trust add URL --root sha256:…"));
        }
    }
    if origins.is_empty() {
        output.info("no realm is trusted yet: smart-sync trust add URL --root sha256:…");
    }
    for origin in origins {
        show(&origin, store, output)?;
    }
    Ok(Exit::Success)
}

/// Warns when a root document ends soon, or has ended.
pub(super) fn warn_of_expiry(root: &Root, output: &Output) {
    let left = root.expires.seconds_since(now());
    let Root { origin, expires, .. } = root;
    if left == 0 {
        output
            .warning(&format!("the root document of {origin} expired at {expires}: nothing new is accepted"));
    } else if left < EXPIRY_WARNING_SECONDS {
        output.warning(&format!(
            "the root document of {origin} expires in {}, at {expires}; whoever runs the realm has to sign a new one",
            span(left)
        ));
    }
}

fn show(origin: &Origin, store: &TrustStore, output: &Output) -> Result<(), Failure> {
    let Some(state) = store.state(origin)? else {
        output.warning(&format!("{origin} was begun to be added, and is not trusted"));
        return Ok(());
    };
    // Before the first answer was verified, the document that was shown when the realm was added is what is known.
    let shown =
        || Unverified::<Root>::parse(&store.shown_root(origin)?).and_then(Unverified::verify_own).ok();
    let root = state.root().cloned().or_else(shown);
    let servers: Vec<String> = store.servers(origin)?.iter().map(ToString::to_string).collect();
    match output.format() {
        Format::Json => output.event(&as_json(&state, root.as_ref(), &servers)),
        Format::Text => as_text(&state, root.as_ref(), &servers).print(output)?,
    }
    if let Some(root) = &root {
        warn_of_expiry(root.record(), output);
    }
    if state.fork().is_some() {
        output.warning(&format!(
            "{origin} has shown two histories, both properly signed: nothing of it is accepted until `smart-sync trust reset {origin}`"
        ));
        for path in store.forks(origin) {
            output.warning(&format!("both checkpoints are in {}", path.display()));
        }
    }
    Ok(())
}

fn as_text(state: &TrustState, root: Option<&Signed<Root>>, servers: &[String]) -> Listing {
    let mut listing = Listing::default();
    listing.line(state.origin().as_str());
    let mut field = |name: &str, value: &str| listing.line(&format!("  {name:<14} {value}"));
    for server in servers {
        field("server", server);
    }
    if let Some(pin) = state.pin() {
        field("pinned", &format!("{pin}; nothing was verified with it yet"));
    }
    if let Some(root) = root {
        describe_root(root, &mut field);
    }
    if let (Some(checkpoint), Some(time)) = (state.checkpoint(), state.time_floor()) {
        let age = now().seconds_since(time);
        field("log", &format!("{} leaves, root {}", checkpoint.size, checkpoint.root));
        field("last proof", &format!("{time}, {} ago", span(age)));
    }
    for (channel, reference, seen) in state.references() {
        field(
            "ref",
            &format!("{channel} {reference}  number {}, manifest blake3:{}", seen.seq, seen.manifest),
        );
    }
    if let Some(fork) = state.fork() {
        for (name, note) in [("known", &fork.known), ("offered", &fork.offered)] {
            for line in note_lines(note) {
                field(name, &line);
            }
        }
    }
    listing
}

fn note_lines(note: &Note) -> Vec<String> {
    String::from_utf8_lossy(&note.to_bytes()).lines().map(str::to_owned).collect()
}

fn describe_root(root: &Signed<Root>, field: &mut impl FnMut(&str, &str)) {
    let Root { version, expires, max_age_seconds, .. } = root.record();
    let left = expires.seconds_since(now());
    field("root document", &format!("version {version}, {}", root.leaf()));
    field(
        "expires",
        &format!("{expires}, {}", if left == 0 { "gone".into() } else { format!("in {}", span(left)) }),
    );
    let root = root.record();
    field("root keys", &role(&root.root));
    field("log keys", &role(&root.log));
    field("clock keys", &role(&root.clock));
    if let Some(witness) = &root.witness {
        field("witness keys", &role(witness));
    }
    for publish in &root.publish {
        field(&format!("publish {}", publish.pattern), &role(&publish.role));
    }
    for revoked in &root.revoked {
        field("revoked", &format!("{} after leaf {}", revoked.key.name(), revoked.after));
    }
    let age = span(*max_age_seconds);
    field(
        "clock",
        &format!(
            "updates cannot be hidden for longer than {age}, if it runs on another machine than the log;"
        ),
    );
    field("", "on the same machine, whoever takes that over can hide them for as long as they like");
    if root.witness.is_some() {
        field("", "the witnesses vouch that all hosts are shown one history");
    }
}

fn role(role: &Role) -> String {
    let names: Vec<&str> = role.keys.iter().map(|key| key.name().as_str()).collect();
    format!("{} of {}: {}", role.threshold, role.keys.len(), names.join(", "))
}

fn as_json(state: &TrustState, root: Option<&Signed<Root>>, servers: &[String]) -> Value {
    let keys = |role: &Role| {
        let keys: Vec<String> = role.keys.iter().map(ToString::to_string).collect();
        json!({ "threshold": role.threshold, "keys": keys })
    };
    let root = root.map(|signed| {
        let root = signed.record();
        let publish: Vec<Value> = (root.publish.iter())
            .map(|publish| json!({ "channels": publish.pattern.to_string(), "role": keys(&publish.role) }))
            .collect();
        let revoked: Vec<Value> = (root.revoked.iter())
            .map(|revoked| json!({ "key": revoked.key.to_string(), "after": revoked.after }))
            .collect();
        json!({
            "version": root.version,
            "hash": signed.leaf().to_string(),
            "expires": root.expires.seconds(),
            "max_age": root.max_age_seconds,
            "root": keys(&root.root),
            "log": keys(&root.log),
            "clock": keys(&root.clock),
            "witness": root.witness.as_ref().map(keys),
            "publish": publish,
            "revoked": revoked,
        })
    });
    let refs: Vec<Value> = state
        .references()
        .map(|(channel, reference, seen)| {
            json!({
                "channel": channel.as_str(),
                "ref": reference.to_string(),
                "seq": seen.seq,
                "manifest": format!("blake3:{}", seen.manifest),
            })
        })
        .collect();
    json!({
        "event": "realm",
        "origin": state.origin().as_str(),
        "servers": servers,
        "pinned": state.pin().map(|pin| pin.to_string()),
        "root": root,
        "log_size": state.size(),
        "log_root": state.checkpoint().map(|checkpoint| checkpoint.root.to_string()),
        "last_proof": state.time_floor().map(UnixTime::seconds),
        "refs": refs,
        "forked": state.fork().is_some(),
    })
}
