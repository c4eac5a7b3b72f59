//! Commands that are run with an end to everything they start.
//!
//! In a program of its own, and one after the other: what is ended is all that descends from the process.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::process::Command;
use std::time::Duration;

use smart_sync::after::process::{Ended, Ran, run};
use smart_sync::interrupt::Interrupt;

const LONG: Duration = Duration::from_secs(600);

fn sh(text: &str, timeout: Duration) -> Ran {
    run(Command::new("sh").args(["-c", text]), timeout, &Interrupt::quiet()).unwrap()
}

/// Whether this process has children.
fn is_parent() -> bool {
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parent.is_some_and(|parent| parent == std::process::id().to_string())
    })
}

#[test]
fn commands_end_with_all_that_they_started() {
    let ran = sh("echo out; echo err >&2; exit 3", LONG);
    assert_eq!((ran.ended, &ran.output[..], ran.left), (Ended::Exited(3), &b"out\nerr\n"[..], 0));
    assert_eq!(sh("kill -9 $$", LONG).ended, Ended::Signalled(9));
    assert!(sh("true", LONG).is_success());

    // One that takes too long.
    let ran = sh("sleep 1000 & sleep 1000", Duration::from_millis(50));
    assert_eq!(ran.ended, Ended::TimedOut);
    assert!(!is_parent());

    // A daemon: in a session of its own, with a parent that is gone, and the output still open.
    let ran = sh("(setsid sh -c 'echo started; sleep 1000' &) ; exit 0", LONG);
    assert_eq!(ran.ended, Ended::Exited(0));
    assert!(ran.left > 0);
    assert!(!is_parent());

    // One that prints much is read, and not kept.
    let ran = sh("echo first; head -c 50000000 /dev/zero; echo; echo last", LONG);
    assert!(ran.is_success());
    assert!(ran.output.len() < 256 << 10);
    assert!(ran.output.starts_with(b"first\n") && ran.output.ends_with(b"last\n"));
    assert_eq!(ran.last_lines(1), ["last"]);

    // An interrupt.
    let interrupt = Interrupt::quiet();
    interrupt.request();
    let ran = run(Command::new("sleep").arg("1000"), LONG, &interrupt).unwrap();
    assert_eq!(ran.ended, Ended::Interrupted);
    assert!(!is_parent());

    let missing = run(&mut Command::new("no-such-program"), LONG, &Interrupt::quiet()).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
}
