//! The way back as a transient timer of systemd.
//!
//! A timer of the service manager outlives the run and the session that it was typed in, and is monotonic: a clock that
//! is set does not move it. It looks again and again until it is stopped, so that a run which is still at work, or a disk
//! which is full, only puts it off.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use smart_sync_store::manifest::path::Shown;

use super::LINES;

/// A directory that is there where systemd is the service manager: see `sd_booted(3)`.
pub(super) const RUNTIME: &str = "/run/systemd/system";
const PROGRAMS: [&str; 2] = ["systemd-run", "systemctl"];

/// Whether timers can be made: systemd runs, its programs are found, and this is root, for whom it acts.
pub(super) fn runs(runtime: &Path, path: Option<&OsStr>) -> bool {
    rustix::process::geteuid().is_root() && is_usable(runtime, path)
}

fn is_usable(runtime: &Path, path: Option<&OsStr>) -> bool {
    let found = |program: &str| {
        path.is_some_and(|path| {
            std::env::split_paths(path).any(|directory| directory.join(program).is_file())
        })
    };
    runtime.is_dir() && PROGRAMS.into_iter().all(found)
}

/// Starts a timer that runs this program with `words`.
pub(super) fn start(
    unit: &str,
    whose: &str,
    first: Duration,
    again: Duration,
    words: &[OsString],
) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let variables = ["PATH", "HOME"].map(|name| (name, std::env::var_os(name)));
    let arguments = arguments(unit, whose, first, again, &variables, &program, words);
    let ended = Command::new(PROGRAMS[0])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} cannot be started: {error}", PROGRAMS[0]))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let said: Vec<String> = said.lines().take(LINES).map(|line| Shown(line.as_bytes()).to_string()).collect();
    Err(format!("{} has ended with {}: {}", PROGRAMS[0], ended.status, said.join(" / ")))
}

fn arguments(
    unit: &str,
    whose: &str,
    first: Duration,
    again: Duration,
    variables: &[(&str, Option<OsString>)],
    program: &Path,
    words: &[OsString],
) -> Vec<OsString> {
    let seconds = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let mut arguments: Vec<OsString> = vec![
        "--quiet".into(),
        "--collect".into(),
        "--no-ask-password".into(),
        format!("--unit={unit}").into(),
        format!("--description=smart-sync: the way back of {}", Shown(whose.as_bytes())).into(),
        format!("--on-active={}s", seconds(first)).into(),
        format!("--on-unit-inactive={}s", seconds(again)).into(),
        "--timer-property=AccuracySec=1s".into(),
    ];
    for (name, value) in variables {
        if let Some(value) = value {
            let mut argument = OsString::from(format!("--setenv={name}="));
            argument.push(value);
            arguments.push(argument);
        }
    }
    arguments.push("--".into());
    arguments.push(program.into());
    arguments.extend_from_slice(words);
    arguments
}

/// Stops the timers of a name or a pattern. Where there is none any more, that is as well.
pub(super) fn stop(units: &str) {
    let mut command = Command::new(PROGRAMS[1]);
    command.args(["stop", "--quiet", "--no-ask-password", "--"]).arg(format!("{units}.timer"));
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn systemd_is_used_where_it_runs_and_its_programs_are_found() {
        let machine = tempfile::tempdir().unwrap();
        let (runtime, programs) = (machine.path().join("run"), machine.path().join("bin"));
        fs::create_dir(&programs).unwrap();
        let path = std::env::join_paths(["/nowhere".into(), programs.clone()]).unwrap();
        let check = |expected| assert_eq!(is_usable(&runtime, Some(&path)), expected);
        fs::write(programs.join("systemctl"), "").unwrap();
        fs::create_dir(&runtime).unwrap();
        check(false);
        fs::write(programs.join("systemd-run"), "").unwrap();
        check(true);
        assert!(!is_usable(&runtime, None));
        fs::remove_dir(&runtime).unwrap();
        check(false);
    }

    #[test]
    fn the_timer_is_monotonic_and_looks_again() {
        let words = ["recover".into(), "--target".into(), "/srv/my site".into()];
        let variables = [("PATH", Some("/bin".into())), ("HOME", None)];
        let found = arguments(
            "smart-sync-back-1",
            "/srv/my site",
            Duration::from_millis(1500),
            Duration::from_secs(60),
            &variables,
            Path::new("/bin/smart-sync"),
            &words,
        );
        let expected = [
            "--quiet",
            "--collect",
            "--no-ask-password",
            "--unit=smart-sync-back-1",
            "--description=smart-sync: the way back of /srv/my site",
            "--on-active=2s",
            "--on-unit-inactive=60s",
            "--timer-property=AccuracySec=1s",
            "--setenv=PATH=/bin",
            "--",
            "/bin/smart-sync",
            "recover",
            "--target",
            "/srv/my site",
        ];
        assert_eq!(found, expected);
    }
}
