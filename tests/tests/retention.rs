//! Which versions stay when rubbish is collected, over days that a false clock lets pass.

use std::fs;
use std::process::Command;

use smart_sync_tests::http::get;
use smart_sync_tests::server::serve;
use smart_sync_tests::{Finished, Server, TestEnvironment, program, skipped};

/// A command as it runs at a time.
fn at(environment: &TestEnvironment, time: &str, command: &Command) -> Command {
    let mut later = environment.command("faketime");
    later.args(["-f", &format!("@{time}")]).arg(command.get_program()).args(command.get_args());
    later
}

#[test]
fn what_a_branch_was_on_each_of_the_last_days_stays() {
    let environment = TestEnvironment::new();
    if environment.command("faketime").arg("--version").output().is_err() {
        skipped("faketime is not installed");
        return;
    }
    let data = environment.path("data");
    let run = |time: &str, arguments: &[&str]| -> Finished {
        let mut command = environment.server();
        command.args(arguments).arg("--data").arg(&data);
        program::run(&mut at(&environment, time, &command)).success()
    };
    let text = ["init", "--origin", "lab.example.org", "--publish", "repos/*"];
    run("2030-01-01 12:00:00", &text);
    let settings = data.join("server.toml");
    let text = fs::read_to_string(&settings).expect("init writes the settings");
    let rule = "\n[[retention]]\nchannels = [\"repos/*\"]\nkeep = 1\ndays = 3\n";
    fs::write(&settings, text + rule).expect("the settings can be written");

    let tree = environment.path("tree");
    for (time, content) in [
        ("2030-01-02 10:00:00", "on the second"),
        ("2030-01-03 10:00:00", "in the morning of the third"),
        ("2030-01-03 20:00:00", "in the evening of the third"),
        ("2030-01-04 10:00:00", "on the fourth"),
        ("2030-01-06 10:00:00", "on the sixth"),
    ] {
        // Larger than what would stay in a pack that is kept for something else.
        environment.write("tree/file", format!("{content}\n").repeat(40_000));
        environment.write("tree/noise", noise(content));
        let source = tree.to_str().expect("paths of the tests are text");
        run(time, &["publish-local", "--channel", "repos/x", source]);
    }
    // What nothing needs is condemned first, and goes when those have gone who may have been told of it.
    for time in ["2030-01-06 12:00:00", "2030-01-06 13:00:00"] {
        run(time, &["gc", "--grace-hours", "0", "--yes"]);
    }
    let mut command = at(&environment, "2030-01-06 14:00:00", &serve(&environment, &data));
    let server = Server::start(&mut command);
    let found = |date: &str| {
        let answer = get(&environment, &format!("{}/at/{date}/repos/x/noise", server.url()), None);
        answer.status == 200
    };
    let kept = ["2030-01-03T23:00:00Z", "2030-01-04", "2030-01-05", "2030-01-06"].map(found);
    assert_eq!(kept, [true; 4]);
    let gone = ["2030-01-02", "2030-01-03T12:00:00Z"].map(found);
    assert_eq!(gone, [false; 2]);
    server.stop();

    // What is typed counts in the place of what is configured.
    for time in ["2030-01-06 15:00:00", "2030-01-06 16:00:00"] {
        run(time, &["gc", "--grace-hours", "0", "--keep-days", "0", "--yes"]);
    }
    let mut command = at(&environment, "2030-01-06 17:00:00", &serve(&environment, &data));
    let server = Server::start(&mut command);
    let status = |path: &str| get(&environment, &format!("{}/{path}", server.url()), None).status;
    assert_eq!(status("repos/x/noise"), 200);
    assert_ne!(status("at/2030-01-05/repos/x/noise"), 200);
}

/// Bytes that do not compress.
fn noise(seed: &str) -> Vec<u8> {
    let mut bytes = vec![0; 300_000];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
