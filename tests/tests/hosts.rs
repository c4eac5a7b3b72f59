//! Hosts that report how they stand, the server that keeps it, and whoever reads it.

use std::fs;

use serde_json::{Value, json};
use smart_sync_tests::http::{Answer, get, send};
use smart_sync_tests::program::{self, Finished};
use smart_sync_tests::{Host, Profiled, Realm, TestEnvironment, Versioned};

/// Makes a token; `words` are more arguments of `token create`.
fn token(environment: &TestEnvironment, realm: &Realm, name: &str, words: &[&str]) -> String {
    let words = [&["token", "create", "--name", name], words].concat();
    realm.run(environment, &words).success().stdout.trim().to_owned()
}

fn report() -> Value {
    json!({
        "target": "/srv/site", "origin": Realm::ORIGIN, "channel": "repos/tree", "ref": "branch:main", "seq": 1,
        "manifest": format!("blake3:{}", "ba".repeat(32)), "commit": null, "applied": 1_795_246_679,
        "health": "healthy", "drift": 0, "exit": 0,
    })
}

struct Scene<'e> {
    environment: &'e TestEnvironment,
    realm: Realm,
    web: String,
    reader: String,
}

impl<'e> Scene<'e> {
    fn new(environment: &'e TestEnvironment) -> Self {
        let realm = Realm::start_with(environment, "realm", "", &["--private", "repos/secret"]);
        let web = token(environment, &realm, "web", &["--verb", "report", "--host", "web1"]);
        let reader = token(environment, &realm, "reader", &["--verb", "hosts"]);
        Self { environment, realm, web, reader }
    }

    fn post(&self, host: &str, token: Option<&str>, body: &[u8]) -> Answer {
        send(self.environment, "POST", &self.realm.url(&format!("v1/hosts/{host}")), token, body)
    }

    fn list(&self, token: &str) -> Value {
        let answer = get(self.environment, &self.realm.url("v1/hosts"), Some(token)).expect(200);
        serde_json::from_slice(&answer.body).expect("the list is JSON")
    }
}

#[test]
fn a_token_reports_for_its_host_alone_and_reads_nothing() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let body = report().to_string();
    scene.post("web1", Some(&scene.web), body.as_bytes()).expect(200);
    scene.post("web1", None, body.as_bytes()).expect(401);
    scene.post("web1", Some("sst_nobody"), body.as_bytes()).expect(401);
    scene.post("web1", Some(&scene.reader), body.as_bytes()).expect(403);
    scene.post("web1", Some(scene.realm.token()), body.as_bytes()).expect(403);
    for other in ["web2", "web10", "WEB1", "web"] {
        scene.post(other, Some(&scene.web), body.as_bytes()).expect(403);
    }
    let any = token(&environment, &scene.realm, "any", &["--verb", "report"]);
    scene.post("web2", Some(&any), body.as_bytes()).expect(200);
    for name in ["..%2f..%2fetc", "%2e%2e", "-a", "a%20b", "a%0ab", "a%1b", &"a".repeat(65)] {
        scene.post(name, Some(&any), body.as_bytes()).expect(400);
    }
    let names = |list: &Value| -> Vec<String> {
        let reports = list["reports"].as_array().expect("there are reports");
        reports.iter().map(|report| report["host"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&scene.list(&scene.reader)), ["web1", "web2"]);
    for unable in [None, Some(scene.web.as_str()), Some(scene.realm.token())] {
        let status = if unable.is_some() { 403 } else { 401 };
        get(&environment, &scene.realm.url("v1/hosts"), unable).expect(status);
    }
    let one = token(&environment, &scene.realm, "one", &["--verb", "hosts", "--host", "web2"]);
    assert_eq!(names(&scene.list(&one)), ["web2"]);
    let listed = scene.realm.run(&environment, &["token", "list"]).success().stdout;
    assert!(listed.contains("web\treport\tevery channel\thost web1\t"), "{listed}");
    let wrong = ["token", "create", "--name", "x", "--verb", "read", "--host", "web1"];
    scene.realm.run(&environment, &wrong).expect_code(1).stderr_contains("--host says which host");
    // What was reported is there after a restart, until an operator says that a host is gone.
    let realm = scene.realm.restart(&environment, |server| assert!(server.stop().success()));
    let scene = Scene { realm, ..scene };
    assert_eq!(names(&scene.list(&scene.reader)), ["web1", "web2"]);
    scene.realm.run(&environment, &["hosts", "forget", "web1"]).success();
    scene.realm.run(&environment, &["hosts", "forget", "web1"]).expect_code(1);
    assert_eq!(names(&scene.list(&scene.reader)), ["web2"]);
    let log = scene.realm.server().log();
    assert!(!log.contains(&scene.web) && !log.contains("sst_"), "{log}");
}

#[test]
fn what_a_host_says_is_bounded_and_holds_nothing_that_a_terminal_acts_on() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    let post = |change: &dyn Fn(&mut Value), status: u16| {
        let mut report = report();
        change(&mut report);
        scene.post("web1", Some(&scene.web), report.to_string().as_bytes()).expect(status)
    };
    post(&|report| report["more"] = json!(["of", "a", "newer", "host"]), 200);
    post(&|report| report["health"] = json!("enlightened"), 200);
    post(&|report| report["target"] = json!("/\u{1b}[2J"), 422);
    post(&|report| report["ref"] = json!("branch:\u{202e}niam"), 422);
    post(&|report| report["origin"] = json!("a\nb"), 422);
    post(&|report| report["target"] = json!("a".repeat(2000)), 422);
    post(&|report| report["channel"] = json!("../../etc"), 422);
    post(&|report| report["manifest"] = json!("blake3:ba"), 422);
    post(&|report| report["more"] = json!("a".repeat(5000)), 413);
    post(&|report| report["seq"] = json!(-1), 400);
    post(&|report| report["seq"] = json!(1e300), 400);
    post(&|report| report["exit"] = json!(300), 400);
    post(&|report| report["target"] = json!(null), 400);
    for wrong in ["", "null", "[]", "{}", "\u{0}", &"[".repeat(4000)] {
        scene.post("web1", Some(&scene.web), wrong.as_bytes()).expect(400);
    }
    scene.post("web1", Some(&scene.web), &vec![b' '; 1 << 20]).expect(413);
    // Targets without end are not kept.
    let statuses: Vec<u16> = (0..40)
        .map(|number| {
            let mut report = report();
            report["target"] = json!(format!("/srv/{number}"));
            scene.post("web1", Some(&scene.web), report.to_string().as_bytes()).status
        })
        .collect();
    assert_eq!(statuses.iter().filter(|status| **status == 422).count(), 9, "{statuses:?}");
    let list = scene.list(&scene.reader);
    let reports = list["reports"].as_array().expect("there are reports");
    assert_eq!(reports.len(), 32);
    let first = reports.iter().find(|report| report["target"] == "/srv/site").expect("it is there");
    assert_eq!(first["health"], "unknown");
}

/// Whoever may read reports, and not the channel, learns no more of it than the host has said.
#[test]
fn what_is_newest_in_a_private_channel_is_told_to_its_readers_alone() {
    let environment = TestEnvironment::new();
    let scene = Scene::new(&environment);
    for channel in ["repos/secret", "repos/tree"] {
        let file = environment.write("tree/file", channel);
        let tree = file.parent().expect("it lies in a directory");
        scene.realm.publish_local(&environment, channel, "main", tree, &[]).success();
        let mut report = report();
        report["channel"] = json!(channel);
        report["target"] = json!(channel);
        scene.post("web1", Some(&scene.web), report.to_string().as_bytes()).expect(200);
    }
    let newest = |token: &str| -> Vec<bool> {
        let list = scene.list(token);
        let reports = list["reports"].as_array().expect("there are reports");
        reports.iter().map(|report| report["newest"]["seq"] == 1).collect()
    };
    assert_eq!(newest(&scene.reader), [false, true]);
    let words = ["--verb", "hosts", "--verb", "read", "--prefix", "repos/"];
    assert_eq!(newest(&token(&environment, &scene.realm, "both", &words)), [true, true]);
}

/// `smart-sync hosts` with a token.
fn hosts(environment: &TestEnvironment, reader: &str, words: &[&str]) -> Finished {
    program::run(environment.client().env("SMART_SYNC_TOKEN", reader).arg("hosts").args(words))
}

#[test]
fn a_host_reports_what_it_holds_and_whether_it_is_well() {
    let environment = TestEnvironment::new();
    let host = Versioned::new(&environment, "generations", "machine");
    let realm = &host.host.realm;
    let url = realm.server().url().to_owned();
    let web = token(&environment, realm, "web", &["--verb", "report", "--host", "web1"]);
    let reader = token(&environment, realm, "reader", &["--verb", "hosts"]);
    let check = "command = [\"sh\", \"-c\", \"! grep -q bad version\"]\nretries = 0\n";
    let target = host.target();
    let target = target.display();
    environment.write(
        "etc/config.toml",
        format!("[report]\nname = \"web1\"\nserver = \"{url}\"\n[[targets.\"{target}\".check]]\n{check}"),
    );
    let publish = |version: &str| {
        host.write("version", version);
        host.host.publish().success();
    };
    let sync = |token: &str| program::run(host.sync_command().env("SMART_SYNC_TOKEN", token));
    let line = || {
        let said = hosts(&environment, &reader, &["--server", &url]).success().stdout;
        let line = said.lines().find(|line| line.starts_with("web1 ")).unwrap_or_default();
        line.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .skip(2)
            .take(5)
            .collect::<Vec<_>>()
            .join("|")
    };
    let empty = hosts(&environment, &reader, &["--server", &url]).success().stdout;
    assert!(empty.contains("no host has reported yet"), "{empty}");
    // Nothing was published yet: that is reported, too.
    sync(&web).expect_code(1);
    assert_eq!(line(), "repos/tree|main|-|nothing applied, failed with 1|not counted");
    publish("one");
    sync(&web).success();
    let first = line();
    assert!(first.starts_with("repos/tree|branch:main|1 ") && first.ends_with("|healthy|0"), "{first}");
    // It is behind until it follows, and a version that is not healthy is taken back.
    publish("two is bad");
    assert!(line().contains(", behind 2|healthy|0"), "{}", line());
    sync(&web).expect_code(8);
    assert!(line().contains(", behind 2|rolled back|not counted"), "{}", line());
    host.edit("version", "edited here");
    let run = |words: &[&str]| program::run(host.command(words).env("SMART_SYNC_TOKEN", &web));
    run(&["verify", "--report"]).expect_code(11);
    assert!(line().contains("|rolled back|1"), "{}", line());
    publish("three");
    sync(&web).success();
    assert!(line().starts_with("repos/tree|branch:main|3 ") && line().ends_with("|healthy|0"), "{}", line());
    run(&["rollback"]).success();
    // The one before is known not to be healthy, and is passed over.
    let back = line();
    assert!(back.starts_with("repos/tree|branch:main|1 ") && back.contains(", behind 3|healthy|"), "{back}");
    run(&["status", "--report"]).success();
    run(&["resume"]).success();

    let events = hosts(&environment, &reader, &["--server", &url, "--json"]).success().stdout;
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let event = events.iter().find(|event| event["seq"] == 1).expect("it is listed");
    assert_eq!(
        (&event["event"], &event["host"], &event["behind"]),
        (&json!("reported"), &json!("web1"), &json!(true))
    );
    hosts(&environment, &web, &["--server", &url]).expect_code(3);
}

#[test]
fn targets_of_a_profile_are_reported_as_they_stand_together() {
    let environment = TestEnvironment::new();
    let host = Profiled::new(&environment);
    let url = host.realm.server().url().to_owned();
    let web = token(&environment, &host.realm, "web", &["--verb", "report", "--host", "web1"]);
    let reader = token(&environment, &host.realm, "reader", &["--verb", "hosts"]);
    let report = format!("[report]\nname = \"web1\"\nserver = \"{url}\"\n");
    let target = |name: &str| {
        format!("[targets.\"ROOT/srv/{name}\"]\nchannel = \"repos/{name}\"\nkind = \"generations\"\n")
    };
    let check = "[[targets.\"ROOT/srv/tool\".check]]\ncommand = [\"sh\", \"-c\", \"! grep -q bad version\"]\nretries = 0\n";
    let profile = format!("{}{}{check}", target("site"), target("tool"));
    host.publish_profile(Profiled::PROFILE, "main", &profile);
    let publish = |version: &str| {
        for name in ["site", "tool"] {
            host.publish(&format!("repos/{name}"), "main", &[("version", version)]);
        }
    };
    let run = |words: &[&str]| program::run(host.command(words).env("SMART_SYNC_TOKEN", &web));
    let pull = ["pull", Profiled::PROFILE];
    let found = || -> Vec<String> {
        let said = hosts(&environment, &reader, &["--server", &url, "--json"]).success().stdout;
        let events = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let reported = events.filter(|event| event["event"] == "reported");
        reported.map(|event| event["health"].as_str().expect("a health").to_owned()).collect()
    };
    host.configure(&format!("allow = [\"check\"]\n{report}"));
    publish("one");
    run(&pull).success();
    assert_eq!(found(), ["healthy", "healthy"]);
    publish("two is bad");
    run(&pull).expect_code(8);
    assert_eq!(found(), ["rolled-back", "rolled-back"]);
    // Of the first of them, nothing was found that speaks against its version.
    let site = host.target("site");
    run(&["status", "--report", "--target", site.to_str().expect("a text")]).success();
    assert_eq!(found(), ["rolled-back", "rolled-back"]);
    host.configure(&format!("allow = [\"check\"]\nconfirm = \"person\"\n{report}"));
    publish("three");
    run(&pull).success();
    assert_eq!(found(), ["waiting", "waiting"]);
    run(&["rollback", "--profile", Profiled::PROFILE]).success();
    run(&["resume", "--profile", Profiled::PROFILE]).success();
    run(&pull).success();
    run(&["confirm", "--profile", Profiled::PROFILE, "--same-connection"]).success();
    assert_eq!(found(), ["healthy", "healthy"]);
}

#[test]
fn a_report_that_does_not_arrive_is_a_warning() {
    let environment = TestEnvironment::new();
    let host = Host::new(&environment);
    let url = host.realm.server().url();
    environment.write("tree/version", "one");
    host.publish().success();
    let configure =
        |text: &str| environment.write("etc/config.toml", format!("[report]\nname = \"web1\"\n{text}"));
    configure("");
    host.sync().success().stderr_contains("this run was not reported: ");
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    configure(&format!("server = \"http://{closed}\""));
    host.sync().success().stderr_contains("this run was not reported: ");
    let mut command = host.sync_command();
    program::run(command.arg("--dry-run")).success();
    // Where it was asked for, it is what counts.
    let target = host.target();
    let target = target.to_str().expect("paths of the tests are text");
    environment.run_client(["status", "--report", "--target", target]).expect_code(5);
    fs::write(environment.configuration_file(), "").expect("the files of the test are its own");
    environment.run_client(["status", "--report", "--target", target]).expect_code(6);
    environment.write("etc/config.toml", "[report]\nname = \"../web1\"\n");
    host.sync().expect_code(6);
    environment.run_client(["hosts", "--server", url]).expect_code(6);
}
