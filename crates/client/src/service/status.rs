//! `service status`: what is installed, and how it is.

use serde::Serialize;
use smart_sync_store::manifest::path::Shown;

use super::files::Installed;
use super::systemctl::Systemctl;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// What is asked of each unit.
const PROPERTIES: &str = "ActiveState,SubState,Result,ExecMainStatus";

/// A unit, for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "service")]
struct ServiceEvent<'a> {
    unit: &'a str,
    active: &'a str,
    state: &'a str,
    result: &'a str,
    status: Option<i32>,
}

/// Shows every unit that is installed.
pub(super) fn show(
    installed: &Installed,
    systemctl: &Systemctl<'_>,
    output: &Output,
) -> Result<Exit, Failure> {
    if installed.is_empty() {
        output.info(&format!("no units of smart-sync are in {}", installed.home.directory.display()));
        return Ok(Exit::Success);
    }
    Systemctl::find()?;
    for name in installed.names() {
        let said = systemctl.properties(name, PROPERTIES)?;
        let unit = event(name, &said);
        output.info(&described(&unit));
        output.event(&unit);
    }
    Ok(Exit::Success)
}

fn event<'a>(unit: &'a str, said: &'a str) -> ServiceEvent<'a> {
    let property = |name: &str| {
        said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or("unknown")
    };
    ServiceEvent {
        unit,
        active: property("ActiveState"),
        state: property("SubState"),
        result: property("Result"),
        status: property("ExecMainStatus").parse().ok(),
    }
}

fn described(unit: &ServiceEvent<'_>) -> String {
    let ServiceEvent { unit, active, state, result, status } = unit;
    let status = status.filter(|_| *result != "success");
    let status = status.map_or_else(String::new, |status| format!(", status {status}"));
    let text = format!("{unit} is {active} ({state}); last result: {result}{status}");
    Shown(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_described_by_what_systemd_says() {
        let said = "ActiveState=failed\nSubState=failed\nResult=exit-code\nExecMainStatus=7\n";
        assert_eq!(
            described(&event("smart-sync-watch.service", said)),
            "smart-sync-watch.service is failed (failed); last result: exit-code, status 7"
        );
        assert_eq!(
            described(&event("a.timer", "ActiveState=active\nSubState=waiting\nResult=success\n")),
            "a.timer is active (waiting); last result: success"
        );
        assert_eq!(described(&event("a", "")), "a is unknown (unknown); last result: unknown");
    }
}
