//! The real binary: what it prints, where, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smart-sync")).args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn check_refused(arguments: &[&str], message: &str) {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(4), "{arguments:?}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.lines().all(|line| line.starts_with("[smart-sync ERROR] ")), "{stderr}");
    assert!(stderr.contains(message), "{stderr}");
}

#[test]
fn wrong_command_lines_end_with_status_4_and_say_why() {
    check_refused(&["--nonsense"], "unexpected argument '--nonsense'");
    check_refused(&["--dry-run", "--check-only"], "cannot be used with '--check-only'");
    check_refused(&["--force-full", "--skip-validation"], "cannot be used with '--skip-validation'");
    check_refused(&["--source", "github:o/r", "--channel", "repos/a"], "cannot be used with '--channel");
    check_refused(&["--server", "ftp://example.org"], "a server is reached over http: or https:");
    check_refused(&["--source", "github:o"], "expected github:OWNER/REPO");
    check_refused(&["--ref", "a..b"], "\"a..b\" is not the name of a branch or tag");
    check_refused(&["--quiet", "--verbose", "completions", "bash"], "--quiet and --verbose");
    check_refused(&["--ref", "v1", "completions", "bash"], "in front of a subcommand");
    check_refused(&["\u{202e}"], r"\u{202e}");
    check_refused(&["completions", "basic"], "invalid value 'basic'");
}

#[test]
fn help_says_what_the_exit_status_means() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for words in ["--ref <REF[@DATE]>", "--check-only", "Exit status:", "130  interrupted", "else main]"] {
        assert!(help.contains(words), "{words} is missing in {help}");
    }
    assert_eq!(run(&["-h"]).status.code(), Some(0));
    assert_eq!(run(&["--version"]).status.code(), Some(0));
}

#[test]
fn completion_scripts_are_for_the_shell_that_was_asked_for() {
    for (shell, words) in
        [("bash", "complete -F "), ("zsh", "#compdef smart-sync"), ("fish", "complete -c smart-sync")]
    {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains(words), "{shell}");
    }
}

#[test]
fn bash_accepts_its_completion_script_and_completes() {
    let script = text(&run(&["completions", "bash"]).stdout);
    let function = script.split_once("complete -F ").unwrap().1.split(' ').next().unwrap();
    let ask = format!(
        "COMP_WORDS=(smart-sync --che); COMP_CWORD=1; {function} smart-sync --che smart-sync; echo \"${{COMPREPLY[@]}}\""
    );
    // It is longer than one argument of a program may be.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("asks");
    std::fs::write(&file, format!("{script}\n{ask}")).unwrap();
    let output = Command::new("bash").arg("--norc").arg(&file).output().unwrap();
    assert_eq!(text(&output.stdout).trim(), "--check-only", "{}", text(&output.stderr));
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let page = text(&run(&["man"]).stdout);
    assert!(page.contains(".TH smart-sync 1"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["man", "--directory", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).lines().all(|line| line.starts_with("[smart-sync] wrote ")));
    let completions = std::fs::read_to_string(folder.path().join("smart-sync-completions.1")).unwrap();
    assert!(completions.contains(".TH smart-sync-completions 1"), "{completions}");
    assert!(folder.path().join("smart-sync.1").exists());
    assert!(folder.path().join("smart-sync-man.1").exists());
}

#[test]
fn json_is_one_object_per_line_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let output = run(&["--json", "man", "--directory", blocked.join("below").to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
    let stdout = text(&output.stdout);
    let event: serde_json::Value = serde_json::from_str(stdout.trim_end()).unwrap();
    assert_eq!((event["event"].as_str(), event["exit"].as_u64()), (Some("error"), Some(1)));
    assert!(event["message"].as_str().unwrap().starts_with("writing "));
}
