use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::after::check::Check;

const EVERYTHING: &str = r#"
target = "/etc/nixos"
validate-sets = ["host", "nixos"]

[realms."lab.example.org"]
servers = ["https://sync.lab.example.org", "https://mirror.lab.example.org/sync"]
token = "sst_secret"
max-age = "14d"

[targets."/etc/nixos"]
realm = "lab.example.org"
channel = "repos/nixos"
ref = "branch:main"
exclude-also = ["hardware-configuration.nix"]
fidelity = "git"
allow = ["set-id"]
kind = "btrfs"
keep = 5
[[targets."/etc/nixos".run]]
name = "rebuild"
command = ["nixos-rebuild", "switch"]
paths = ["*.nix"]
timeout = "1h"
[[targets."/etc/nixos".check]]
http = "http://localhost/healthz"
grace = "5s"
retries = 10
[[targets."/etc/nixos".check]]
unit = "sshd.service"

[targets."/srv/repo"]
source = "github:owner/repo"
exclude = [".git/"]

[network]
connections = 4
stall = "30s"
rate-limit-wait = "2m"
allow = ["token-over-http"]

[watch]
every = "2h"
jitter = "0s"
windows = ["Sat 02:00-05:00"]

[[validate]]
directory = "/var/lib/images"
mode = "0711"
[[targets."/etc/nixos".validate]]
executable = "scripts/*.sh"
severity = "warn"
[hosts.web1]
ssh = "root@web1.example.org"
groups = ["web"]

[report]
name = "this"
realm = "lab.example.org"
server = "https://sync.lab.example.org"
"#;

#[test]
fn every_key_is_understood() {
    let config = Config::parse(Path::new("config.toml"), EVERYTHING).unwrap();
    assert_eq!(config.target, Some(AbsolutePath("/etc/nixos".into())));
    let realm = &config.realms[&RealmName("lab.example.org".parse().unwrap())];
    assert_eq!(realm.servers[1].to_string(), "https://mirror.lab.example.org/sync");
    assert_eq!(realm.max_age, Some(Span(Duration::from_secs(14 * 86_400))));
    assert_eq!(config.targets.len(), 2);
    let nixos = &config.targets[&AbsolutePath("/etc/nixos".into())];
    assert_eq!(nixos.run[0].title(), "rebuild");
    assert_eq!(nixos.check.iter().map(Check::mistake).collect::<Vec<_>>(), [None, None]);
    assert_eq!((nixos.kind, nixos.keep), (Some(TargetKind::Btrfs), Some(Keep(5))));
    assert_eq!(config.validate_sets, Some(vec![SetName::Host, SetName::Nixos]));
    assert_eq!((config.validate.len(), nixos.validate.len()), (1, 1));
    assert_eq!(config.network.connections, Some(Connections(4)));
    assert_eq!(config.network.allow, [AllowedOnNetwork::TokenOverHttp]);
    let Ok(window) = "Sat 02:00-05:00".parse() else { panic!("it is a window") };
    let (every, jitter) = (Some(Span(Duration::from_secs(7200))), Some(Span(Duration::ZERO)));
    assert_eq!(config.watch, WatchConfig { every, jitter, windows: vec![window] });
    let web = &config.hosts[&"web1".parse::<Destination>().unwrap()];
    assert_eq!(web.ssh.as_ref().map(Destination::as_str), Some("root@web1.example.org"));
    assert_eq!(config.report.as_ref().map(|report| report.name.as_str()), Some("this"));
    assert!(!format!("{config:?}").contains("sst_secret"));
}

#[test]
fn the_example_of_the_documentation_is_one() {
    let page = include_str!("../../../../docs/configuration.md");
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    // The page leaves the secret out.
    Config::parse(Path::new("example"), &example.replace('…', "secret")).unwrap();
}

#[test]
fn a_file_with_a_token_is_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    std::fs::write(&path, EVERYTHING).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Config::load(Some(&path)).unwrap_err();
    assert!(error.hint().unwrap().contains("chmod 600"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Config::load(Some(&path)).unwrap();
    assert!(matches!(Config::load(Some(&path.with_file_name("none"))), Err(ConfigError::Absent(_))));
}
