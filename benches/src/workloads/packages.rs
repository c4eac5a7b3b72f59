//! Publishing the packages of a build host, and one more.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use smart_sync_tests::http;

use crate::bench::Bench;
use crate::data;
use crate::measure::measure;
use crate::ours::Ours;
use crate::report::{Bar, Row, Section};

pub(super) const CHANNEL: &str = "repos/binpkgs";
/// How much younger than the index before one has to be, for Portage to see that it is another one.
const INDEX_SPACING: Duration = Duration::from_secs(7);
const ONE_MORE_MAX: Duration = Duration::from_secs(2);
/// What a person types without smart-sync: four digests of every package, as Portage's index and Manifests have them,
/// and a copy of all to where they are served from.
const SCRIPT: &str = r#"
set -e
find . -name '*.gpkg.tar' -print0 > "$1.list"
for program in sha512sum b2sum md5sum sha1sum; do xargs -0 $program < "$1.list" > "$1.$program"; done
cp -R . "$1"
"#;

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let made = data::generated_packages(bench, bench.scale.binary_packages)?;
    let packages = bench.scratch("packages/PKGDIR")?;
    crate::bench::prepare(bench.environment.command("cp").arg("--archive").arg(&made).arg(&packages))?;
    let mut script = Row::new("sha512sum, b2sum, md5sum, sha1sum, cp");
    let mut client = Row::new("smart-sync publish: client");
    let mut server = Row::new("smart-sync publish: server");
    let mut one_more = Row::new("one more package: client");
    for run in 0..bench.runs {
        let target = bench.scratch("packages/script")?;
        let mut command: Command = bench.environment.command("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(&target).current_dir(&packages);
        script.usages.push(measure(bench, &command)?);
        if bench.peers_only() {
            continue;
        }
        let realm = Ours::start(bench)?;
        let [of_client, of_server] = realm.publish_kind(CHANNEL, "binpkgs", &packages)?;
        client.usages.push(of_client);
        server.usages.push(of_server);
        check(bench, &realm, &packages, bench.scale.binary_packages)?;
        std::thread::sleep(INDEX_SPACING);
        data::one_more_package(&packages, u32::try_from(run)?)?;
        let [of_client, _] = realm.publish_kind(CHANNEL, "binpkgs", &packages)?;
        one_more.usages.push(of_client);
        check(bench, &realm, &packages, bench.scale.binary_packages + 1)?;
        std::fs::remove_dir_all(packages.join(format!("app-bench/q{run:03}")))
            .context("removing the package that was one more")?;
    }
    let of_both = client.cpu().zip(server.cpu()).map(|(client, server)| client + server);
    let ratio = |ours: Option<Duration>| {
        let (ours, theirs) = ours.zip(script.cpu())?;
        Some(format!("{:.2} times", ours.as_secs_f64() / theirs.as_secs_f64()))
    };
    let bar = |text: &str, ours: Option<Duration>| {
        let bar = Bar::compare(text, ours, script.cpu(), |ours, theirs| ours * 2 <= theirs * 3);
        match ratio(ours) {
            Some(detail) => bar.with_detail(detail),
            None => bar,
        }
    };
    let bars = vec![
        bar("at most 1.5 times the CPU of the script, client alone", client.cpu()),
        bar("at most 1.5 times the CPU of the script, client and server", of_both),
        Bar::compare("one more package in under 2 s", one_more.wall(), Some(ONE_MORE_MAX), |ours, most| {
            ours < most
        }),
    ];
    let method = format!(
        "{} packages in Portage's form GPKG, of 2 MiB that nothing compresses: the script makes the digests that an \
         index and Manifests need, each program once for all files, and copies the packages to where they are served; \
         it opens no package and makes no index. smart-sync opens and judges every package, makes the index, uploads \
         over HTTP, and the server verifies all that it gets before it counts as published. `Packages` has to name all \
         of them, with the SHA1 and size of their files. Then one package is added and published, after 7 s: an index \
         is at least 6 s younger than the one before.",
        bench.scale.binary_packages
    );
    let mut rows = vec![script, client, server, one_more];
    rows.retain(|row| !row.usages.is_empty());
    Ok(Section { title: "Publishing packages".to_owned(), method, tables: Vec::new(), rows, bars })
}

/// Compares what the index says with the files.
fn check(bench: &Bench, realm: &Ours<'_>, packages: &Path, count: u32) -> Result<()> {
    let answer = http::get(&bench.environment, &format!("{}/{CHANNEL}/Packages", realm.url()), None);
    let text = String::from_utf8(answer.body).context("an index is text")?;
    let mut found = 0;
    for stanza in text.split("\n\n").skip(1).filter(|stanza| !stanza.is_empty()) {
        let value = |key: &str| {
            let line = stanza.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            line.with_context(|| format!("a package without {key}"))
        };
        let path = packages.join(value("PATH")?);
        let size = std::fs::metadata(&path).with_context(|| format!("finding {}", path.display()))?.len();
        ensure!(value("SIZE")? == size.to_string(), "{}: its size", path.display());
        let sums = crate::bench::prepare(bench.environment.command("sha1sum").arg(&path))?;
        ensure!(sums.starts_with(value("SHA1")?), "{}: its SHA1", path.display());
        found += 1;
    }
    ensure!(found == count, "the index names {found} packages instead of {count}");
    Ok(())
}
