use std::path::Path;
use std::time::Duration;

use super::*;
use crate::args::Arguments;
use crate::watch::{Followed, WatchSettings};
use clap::Parser;
use smart_sync_sync::apply::versions::Kind;

const CONFIG: &str = r#"
target = "/etc/nixos"
[realms."lab.example.org"]
servers = ["https://one.example.org", "https://two.example.org"]
token = "sst_lab"
max-age = "1d"
[targets."/etc/nixos"]
channel = "repos/nixos"
ref = "v1"
exclude-also = ["local/"]
[targets."/srv/repo"]
source = "github:owner/repo"
exclude = ["data/"]
"#;

fn settings(config: &str, line: &str) -> Result<SyncSettings, Failure> {
    let config = Config::parse(Path::new("config.toml"), config).unwrap();
    let words = std::iter::once("smart-sync").chain(line.split_whitespace());
    let args = Arguments::try_parse_from(words)
        .map_err(|error| Failure::message(Exit::Arguments, error.to_string().lines().next().unwrap()))?;
    sync(&args.sync, &config, &Tokens::default())
}

#[track_caller]
fn check(config: &str, line: &str, exit: Exit, message: &str) {
    let failure = settings(config, line).unwrap_err();
    assert_eq!((failure.exit(), failure.messages().next().unwrap().as_str()), (exit, message), "{line}");
}

#[test]
fn the_nearest_word_wins() {
    let plain = settings(CONFIG, "").unwrap();
    assert_eq!(plain.target, Path::new("/etc/nixos"));
    assert_eq!(plain.tree.reference.to_string(), "v1");
    assert!(matches!(&plain.tree.source, TreeSource::Channel { channel, servers, token: Some(_), .. }
            if channel.as_str() == "repos/nixos" && servers.len() == 2));
    assert_eq!(plain.policy.exclusions.len(), 7);
    assert_eq!((plain.mode, plain.validation), (SyncMode::Apply, Validation::Sample));

    let other = settings(CONFIG, "--target /srv/repo/ --ref v2 --dry-run --skip-validation").unwrap();
    assert!(matches!(&other.tree.source, TreeSource::Repository(_)));
    assert_eq!(other.tree.reference.to_string(), "v2");
    assert_eq!(other.policy.exclusions, ["data/"]);
    assert_eq!((other.mode, other.validation), (SyncMode::DryRun, Validation::TrustStat));
}

#[test]
fn a_date_counts_for_whatever_ref_is_meant_and_is_named_once() {
    let found = |line: &str| settings(CONFIG, line).unwrap().tree.reference.to_string();
    assert_eq!(found("--at 2026-11-01"), "v1@2026-11-01T23:59:59Z");
    assert_eq!(found("--at 2026-11-01T12:00Z --ref tag:v2"), "tag:v2@2026-11-01T12:00:00Z");
    let dated = CONFIG.replace("\"v1\"", "\"v1@2026-10-01\"");
    assert_eq!(
        settings(&dated, "--at 2026-11-01").unwrap().tree.reference.to_string(),
        "v1@2026-11-01T23:59:59Z"
    );
    let text = "both --at and --ref name a date";
    check(CONFIG, "--at 2026-11-01 --ref v1@2026-11-02", Exit::Arguments, text);
    assert_eq!(settings(CONFIG, "--target /srv/repo --at 2026-11-01").unwrap_err().exit(), Exit::Arguments);
    assert!(settings(CONFIG, "--at yesterday").is_err());
}

#[test]
fn all_targets_are_watched_or_the_one_that_is_named() {
    let watched = |config: &str, line: &str| {
        let config = Config::parse(Path::new("config.toml"), config).unwrap();
        let words = ["smart-sync", "watch"].into_iter().chain(line.split_whitespace());
        let Some(crate::args::Command::Watch(args)) = Arguments::try_parse_from(words).unwrap().command
        else {
            panic!("{line}: another command");
        };
        watch(&args, &config, &Tokens::default())
    };
    let targets =
        |settings: &WatchSettings| -> Vec<_> { settings.targets.iter().map(Followed::name).collect() };
    let all = watched(CONFIG, "").unwrap();
    assert_eq!(targets(&all), ["/etc/nixos", "/srv/repo"]);
    assert_eq!((all.every, all.jitter), (Duration::from_secs(3600), Duration::from_secs(10)));
    let config = &format!("{CONFIG}[watch]\nevery = \"2h\"\nwindows = [\"02:00-03:00\"]");
    let one = watched(config, "--target /srv/repo --jitter 0s --window 04:00-05:00").unwrap();
    assert_eq!(targets(&one), ["/srv/repo"]);
    assert_eq!((one.every, one.jitter), (Duration::from_secs(7200), Duration::ZERO));
    assert_eq!(one.windows, ["04:00-05:00".parse().unwrap()]);
    assert_eq!(watched(config, "").unwrap().windows, ["02:00-03:00".parse().unwrap()]);
    let profile = "[profiles.\"profiles/x\"]\nfollow = true\n[profiles.\"profiles/y\"]\n";
    let config = &format!("{CONFIG}[targets.\"/srv/own\"]\nref = \"v1\"\n{profile}");
    assert_eq!(targets(&watched(config, "").unwrap()), ["/etc/nixos", "/srv/repo", "profiles/x"]);
    assert_eq!(targets(&watched(config, "--target /etc/nixos").unwrap()), ["/etc/nixos"]);
    let failure = watched(CONFIG, "--ref main@2026-11-01 --target /etc/nixos").unwrap_err();
    assert_eq!(failure.exit(), Exit::Arguments);
}

#[test]
fn a_token_of_the_configuration_stays_with_its_servers() {
    let elsewhere = settings(CONFIG, "--server https://evil.example.org").unwrap();
    assert!(matches!(elsewhere.tree.source, TreeSource::Channel { token: None, realm: None, .. }));
    let at_home = settings(CONFIG, "--server https://two.example.org").unwrap();
    assert!(matches!(at_home.tree.source, TreeSource::Channel { token: Some(_), realm: Some(_), .. }));
}

#[test]
fn what_contradicts_itself_or_says_too_little_is_refused() {
    let both = "the argument '--force-full' cannot be used with '--skip-validation'";
    check("", "--force-full --skip-validation", Exit::Arguments, &format!("error: {both}"));
    let no_target = "no target: nothing says which directory to bring up to date";
    check("", "", Exit::Arguments, no_target);
    check("", "--target /t", Exit::Arguments, "no channel: nothing says which tree to follow");
    let unknown = "[targets.\"/t\"]\nrealm = \"gone\"\nchannel = \"a\"";
    let message = "the target follows the realm `gone`, which is not configured";
    check(unknown, "", Exit::Configuration, message);
    let several = "[targets.\"/a\"]\n[targets.\"/b\"]";
    check(several, "", Exit::Arguments, "there are several targets, and none of them is the default");
    let dated = "github:o/r cannot say what `main@2026-11-01T23:59:59Z` was: git does not record where a branch stood when";
    check("", "--target /t --source github:o/r --ref main@2026-11-01", Exit::Arguments, dated);
}

#[test]
fn tokens_are_sent_over_http_only_where_the_configuration_says_so() {
    let way = |text: &str| network(&Config::parse(Path::new("config.toml"), text).unwrap()).token_way;
    assert_eq!(way(CONFIG), TokenWay::Confidential);
    assert_eq!(way("[network]\nallow = [\"token-over-http\"]"), TokenWay::Any);
}

#[test]
fn the_kind_is_what_is_typed_else_what_is_configured() {
    let config = "[targets.\"/t\"]\nchannel = \"a/b\"\nkind = \"generations\"\nkeep = 3";
    let config = &format!("{config}\n[realms.\"r.example.org\"]\nservers = [\"https://r.example.org\"]");
    let configured = settings(config, "").unwrap().policy;
    assert_eq!((configured.kind, configured.keep), (Some(Kind::Generations), 3));
    let typed = settings(config, "--kind directory").unwrap().policy;
    assert_eq!(typed.kind, Some(Kind::Directory));
    assert_eq!(settings(CONFIG, "").unwrap().policy.kind, None);
}

#[test]
fn quiet_and_verbose_exclude_each_other() {
    let global = GlobalArgs { quiet: true, verbose: true, ..GlobalArgs::default() };
    assert_eq!(voice(&global).unwrap_err().exit(), Exit::Arguments);
}
