//! Receiving contents: only the right bytes count, and what was received is not asked for again.

use std::fs;
use std::path::PathBuf;

use super::fixture::{Host, Spec, Stands, Tree};
use crate::apply::Stamp;
use crate::apply::error::ApplyError;
use crate::apply::plan::{ApplyPlan, Need};
use crate::apply::run::{ReadyTarget, Recovery};
use crate::apply::stage::Stage;
use crate::apply::step::Steps;

const SPECS: &[(&str, Spec)] = &[("a", Spec::File("some content")), ("b", Spec::File("other content"))];

fn begin(host: &Host) -> (ReadyTarget, ApplyPlan, Tree) {
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let tree = Tree::new(SPECS);
    let (_, plan) = host.plan(&ready, &Tree::default(), &tree).unwrap();
    (ready, plan, tree)
}

/// Where a content lies while a run receives it.
fn staged(host: &Host, need: &Need, suffix: &str) -> PathBuf {
    let id = need.content.id.to_string();
    host.root.join(".smart-sync-stage/contents").join(&id[..1]).join(format!("{id}{suffix}"))
}

fn received(stage: &Stage<'_>, need: &Need) -> Option<String> {
    let file = stage.received(need).unwrap();
    file.map(|file| std::io::read_to_string(file).unwrap())
}

fn stamp() -> Stamp {
    Stamp::new(b"stamp").unwrap()
}

#[test]
fn bytes_that_are_not_the_content_are_refused() {
    let host = Host::new();
    let (ready, plan, tree) = begin(&host);
    let run = ready.begin(plan.clone(), tree.version(), stamp()).unwrap();
    let need = &plan.needs[0];
    let check = |pieces: &[&str], message: &str| {
        let mut writer = run.stage().writer(need).unwrap();
        let outcome = pieces.iter().try_for_each(|piece| writer.write(piece.as_bytes()));
        let error = outcome.and_then(|()| writer.finish()).unwrap_err();
        assert!(matches!(error, ApplyError::WrongContent { .. }), "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert!(!run.stage().has(&need.content).unwrap());
    };
    check(&["some", " CONTENT"], "they are");
    check(&["some content", "!"], "go on after its 12 bytes");
    check(&["some"], "4 of 12 bytes came");
    let error = run.prepare().unwrap_err();
    // None has come, and the first that is missed is named.
    let is_needed = |id| plan.needs.iter().any(|need| need.content.id == id);
    assert!(matches!(error, ApplyError::MissingContent(id) if is_needed(id)));
    assert!(!host.root.join("a").exists());
}

#[test]
fn a_whole_content_is_staged_at_once_and_only_if_it_is_the_right_one() {
    let host = Host::new();
    let (ready, plan, tree) = begin(&host);
    let run = ready.begin(plan.clone(), tree.version(), stamp()).unwrap();
    for wrong in ["some CONTENT", "some content!", "some"] {
        let error = run.stage().put(&plan.needs[0], wrong.as_bytes()).unwrap_err();
        assert!(matches!(error, ApplyError::WrongContent { .. }), "{error}");
    }
    run.stage().put(&plan.needs[0], b"some content").unwrap();
    // What a crash left under a content's name makes way for the content.
    run.stage().put(&plan.needs[0], b"some content").unwrap();
    run.stage().put(&plan.needs[1], b"other content").unwrap();
    run.prepare().unwrap().abandon().unwrap();
}

#[test]
fn what_an_earlier_run_received_is_used_if_it_is_whole() {
    let host = Host::new();
    let (ready, plan, tree) = begin(&host);
    let run = ready.begin(plan.clone(), tree.version(), stamp()).unwrap();
    let mut writer = run.stage().writer(&plan.needs[0]).unwrap();
    writer.write(b"some content").unwrap();
    writer.finish().unwrap();
    let mut writer = run.stage().writer(&plan.needs[1]).unwrap();
    writer.write(b"other c").unwrap();
    drop(writer);
    drop(run);
    drop(ready);

    let (ready, recovery) = host.open(&Steps::default()).unwrap();
    assert_eq!(recovery, Recovery::RolledBack(tree.version()));
    let run = ready.begin(plan.clone(), tree.version(), stamp()).unwrap();
    assert!(run.stage().has(&plan.needs[0].content).unwrap());
    let need = &plan.needs[1];
    assert_eq!(received(run.stage(), need).as_deref(), Some("other c"));
    run.stage().keep_received(need, 5).unwrap();
    assert_eq!(received(run.stage(), need).as_deref(), Some("other"));
    let partial = run.stage().partial(need).unwrap();
    // In any order.
    partial.write_at(6, b"content").unwrap();
    partial.write_at(5, b" ").unwrap();
    run.stage().accept(need, partial.hash().unwrap()).unwrap();
    drop(run);
    drop(ready);

    let damaged = staged(&host, &plan.needs[0], "");
    fs::write(&damaged, "SOME content").unwrap();
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let run = ready.begin(plan.clone(), tree.version(), stamp()).unwrap();
    assert!(!run.stage().has(&plan.needs[0].content).unwrap());
    assert!(run.stage().has(&plan.needs[1].content).unwrap());
    drop(run);
    ready.discard_staged().unwrap();
    assert!(host.disk().is_empty());
}

#[test]
fn what_was_received_and_is_not_the_content_goes() {
    let host = Host::new();
    let (ready, plan, tree) = begin(&host);
    let run = ready.begin(plan.clone(), tree.version(), stamp()).unwrap();
    let need = &plan.needs[0];
    let partial = run.stage().partial(need).unwrap();
    partial.write_at(0, b"SOME content").unwrap();
    let error = partial.write_at(5, b"content and more").unwrap_err();
    assert!(error.to_string().contains("go on after its 12 bytes"), "{error}");
    let outcome = run.stage().accept(need, partial.hash().unwrap());
    assert!(matches!(outcome, Err(ApplyError::WrongContent { .. })));
    assert!(!staged(&host, need, ".part").exists());
    assert!(!run.stage().has(&need.content).unwrap());
}

#[test]
fn a_new_beginning_forgets_what_was_received() {
    let host = Host::new();
    let (ready, plan, tree) = begin(&host);
    let run = ready.begin(plan.clone(), tree.version(), stamp()).unwrap();
    let need = &plan.needs[0];
    run.stage().partial(need).unwrap().write_at(7, b"tnetn").unwrap();
    let mut writer = run.stage().writer(need).unwrap();
    writer.write(b"some content").unwrap();
    writer.finish().unwrap();
    assert!(run.stage().has(&need.content).unwrap());
}

#[test]
fn a_local_source_that_changed_since_is_not_taken_for_the_content() {
    let host = Host::new();
    let old = Tree::new(&[("a", Spec::File("some content"))]);
    host.apply(&Tree::default(), &old);
    let new = Tree::new(&[("a", Spec::File("some content")), ("copy", Spec::File("some content"))]);
    let (ready, _) = host.open(&Steps::default()).unwrap();
    let (_, plan) = host.plan(&ready, &old, &new).unwrap();
    assert_eq!(plan.needs[0].local.as_deref(), Some(&b"a"[..]));
    host.write("a", "SOME content");
    let run = ready.begin(plan.clone(), new.version(), stamp()).unwrap();
    assert!(!run.stage().copy_local(&plan.needs[0]).unwrap());
    fs::remove_file(host.root.join("a")).unwrap();
    assert!(!run.stage().copy_local(&plan.needs[0]).unwrap());
}

#[test]
fn an_abandoned_run_leaves_the_tree_alone() {
    let host = Host::new();
    let (ready, plan, tree) = begin(&host);
    let run = ready.begin(plan.clone(), tree.version(), stamp()).unwrap();
    for need in &plan.needs {
        let mut writer = run.stage().writer(need).unwrap();
        writer.write(&tree.contents[&need.content.id]).unwrap();
        writer.finish().unwrap();
    }
    run.prepare().unwrap().abandon().unwrap();
    ready.discard_staged().unwrap();
    assert!(host.disk().is_empty());
    assert_eq!(ready.target().applied().unwrap(), None);
    drop(ready);
    host.apply(&Tree::default(), &tree);
    assert_eq!(host.disk().get("a"), Some(&Stands::File(0o644, "some content".into())));
}
