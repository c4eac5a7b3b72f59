//! `cost`: what a host pays to go from one version to another, counted and not estimated.
//!
//! The bodies are what the server would send now. The headers are those of HTTP/1.1 between this program and the client
//! of this version, without a token, for a server that is reached by the realm's name; a proxy or HTTP/2 changes them.

mod chunks;
mod headers;
mod point;

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};
use smart_sync_sync::name::Channel;
use smart_sync_sync::wire::update::BUNDLE_BYTES_MAX;

use super::{Failure, print};
use crate::args::CostArgs;
use crate::bundles::{self, FromText, Refusal, Step};
use crate::data_dir::DataDir;
use crate::http::now;
use crate::realm::Realm;
use crate::realm::evidence::{Question, evidence, short_evidence};
use crate::realm::view::View;
use headers::Exchange;
use point::Point;

pub(super) async fn run(args: &CostArgs) -> anyhow::Result<()> {
    let realm = Arc::new(Realm::open(DataDir::open(&args.data.path)?, now()).await?);
    let channel: Channel = args.channel.parse()?;
    let view = realm.view();
    let from = Point::find(&realm, &view, &channel, &args.from)?;
    let to = Point::find(&realm, &view, &channel, &args.to)?;
    let Some(wanted) = to.manifest else {
        return Err(Failure::Arguments("a host goes to a version, not to none".to_owned()).into());
    };
    let step = Step { domain: realm.domain(&channel)?, from: from.manifest, to: wanted };
    let (bundles, no_bundle) = bundles_of(&realm, &step, args.stored_only).await?;
    let (working, walked) = (Arc::clone(&realm), step.clone());
    let chunks = tokio::task::spawn_blocking(move || chunks::of(&working, &walked)).await??;
    let evidence = evidence_of(&realm, &view, &channel, &from, &to)?;
    let along =
        bundles.first().and_then(|(_, bundle)| along(&realm, &channel, &from, &to, &evidence, bundle));
    let cost = Cost { channel, step, evidence, along, bundles, no_bundle, chunks };
    if args.json {
        print(format_args!("{}", cost.to_json()))
    } else {
        print(format_args!("{}", cost.to_text()))
    }
}

/// What a step costs.
struct Cost {
    channel: Channel,
    step: Step,
    /// By what the host knows of the log; nothing where the step does not end at a ref.
    evidence: Vec<(&'static str, Exchange)>,
    /// The evidence with the bundle behind it, where that is short enough.
    along: Option<Exchange>,
    /// The one with which the step is answered first.
    bundles: Vec<(String, Exchange)>,
    /// Why there is none.
    no_bundle: Option<&'static str>,
    chunks: Vec<(&'static str, Exchange)>,
}

const NOTHING_NEW: &str = "nothing-new";
const MOVED: &str = "log-moved";
const FIRST: &str = "first-contact";

async fn bundles_of(
    realm: &Realm,
    step: &Step,
    stored_only: bool,
) -> anyhow::Result<(Vec<(String, Exchange)>, Option<&'static str>)> {
    let Some(bundles) = bundles::open(realm).await? else {
        return Ok((Vec::new(), Some("this server makes no bundles")));
    };
    let mut why = Some("none is stored");
    if bundles.variants(step).is_empty() && !stored_only {
        why = bundles.store(step).await.err().map(|refusal| match refusal {
            Refusal::NotFound => "not all of the step is here",
            Refusal::TooLarge => "the step is too large to be computed on demand",
            Refusal::Busy | Refusal::Failed => "computing it failed; the log says why",
        });
    }
    let variants = bundles.variants(step).into_iter();
    let priced = variants.map(|file| (file.variant.to_string(), headers::bundle(realm, &file)));
    let priced: Vec<_> = priced.collect();
    bundles.stop();
    let why = why.filter(|_| priced.is_empty());
    Ok((priced, why))
}

fn evidence_of(
    realm: &Realm,
    view: &View,
    channel: &Channel,
    from: &Point,
    to: &Point,
) -> anyhow::Result<Vec<(&'static str, Exchange)>> {
    let Some(reference) = &to.reference else { return Ok(Vec::new()) };
    let have = from.manifest.as_ref();
    let known = known_size(view, from);
    let bytes_from = |base| -> anyhow::Result<u64> {
        let question = Question { channel, is_visible: true, reference, base, at: None };
        Ok(evidence(realm, view, question)?.encode().len() as u64)
    };
    let unchanged = short_evidence(view).encode().len() as u64;
    let ask = |have, size, bytes| headers::update(realm, channel, reference, have, size, bytes);
    Ok(vec![
        (NOTHING_NEW, ask(have, Some(view.size), unchanged)),
        (MOVED, ask(have, Some(known), bytes_from(Some(known))?)),
        (FIRST, ask(None, None, bytes_from(None)?)),
    ])
}

fn along(
    realm: &Realm,
    channel: &Channel,
    from: &Point,
    to: &Point,
    evidence: &[(&'static str, Exchange)],
    bundle: &Exchange,
) -> Option<Exchange> {
    let (have, reference) = (from.manifest.as_ref()?, to.reference.as_ref()?);
    let moved = evidence.iter().find(|(name, _)| *name == MOVED)?.1;
    let bytes = moved.received + bundle.received;
    let is_short = bundle.received <= BUNDLE_BYTES_MAX as u64;
    let size = known_size(&realm.view(), from);
    is_short.then(|| headers::update(realm, channel, reference, Some(have), Some(size), bytes))
}

/// The log that a host has verified which updated when its version was the newest one.
fn known_size(view: &View, from: &Point) -> u64 {
    let known = from.leaf.map_or_else(|| view.size.saturating_sub(2), |leaf| leaf + 2);
    known.clamp(1, view.size)
}

impl Cost {
    /// The evidence that a host asks for that makes this step.
    fn evidence(&self) -> Exchange {
        let name = if self.step.from.is_some() { MOVED } else { FIRST };
        self.evidence.iter().find(|(found, _)| *found == name).map_or_else(Exchange::default, |found| found.1)
    }

    fn totals(&self) -> Vec<(&'static str, Exchange)> {
        let bundle = self.bundles.first().map(|(_, bundle)| self.along.unwrap_or(self.evidence() + *bundle));
        let bundle = bundle.map(|bundle| ("with-bundle", bundle));
        let chunks = self.chunks.iter().fold(self.evidence(), |total, (_, exchange)| total + *exchange);
        bundle.into_iter().chain([("in-chunks", chunks)]).collect()
    }

    fn to_json(&self) -> Value {
        fn table<'a>(rows: impl IntoIterator<Item = (&'a str, Exchange)>) -> Value {
            rows.into_iter().map(|(name, exchange)| (name.to_owned(), exchange.to_json())).collect()
        }
        json!({
            "channel": self.channel.to_string(),
            "from": self.step.from.map(|from| from.to_string()),
            "to": self.step.to.to_string(),
            "evidence": table(self.evidence.iter().copied()),
            "bundles": table(self.bundles.iter().map(|(name, exchange)| (name.as_str(), *exchange))),
            "no_bundle": self.no_bundle,
            "chunks": table(self.chunks.iter().copied()),
            "total": table(self.totals()),
        })
    }

    fn to_text(&self) -> String {
        let from = FromText(&self.step.from).to_string();
        let (from, to) = (short(&from), self.step.to.to_string());
        let mut text = format!("{}: {from} to {}\n", self.channel, short(&to));
        let mut row = |name: &str, cost: Exchange| {
            let Exchange { requests, received, received_headers, sent } = cost;
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{name:<32} {requests:>8} {received:>12} {received_headers:>8} {sent:>8} {:>12}",
                cost.total()
            );
        };
        let group = |group: &str, name: &str| format!("{group}, {name}");
        for (name, exchange) in &self.evidence {
            row(&group("evidence", &name.replace('-', " ")), *exchange);
        }
        for (name, exchange) in &self.bundles {
            row(&group("bundle", name), *exchange);
        }
        for (name, exchange) in &self.chunks {
            row(&group("chunks", name), *exchange);
        }
        for (name, exchange) in self.totals() {
            row(&group("all", &name.replace('-', " ")), exchange);
        }
        if let Some(why) = self.no_bundle {
            let _ = writeln!(text, "no bundle: {why}");
        }
        let heading = format!(
            "{:<32} {:>8} {:>12} {:>8} {:>8} {:>12}",
            "", "requests", "bodies", "headers", "sent", "bytes"
        );
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        format!("{first}\n{heading}\n{}", rest.trim_end())
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
