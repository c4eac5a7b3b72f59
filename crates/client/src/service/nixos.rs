//! The same units as a NixOS module, because on such a host units are made by the configuration and by nothing else.

use std::fmt::Write as _;

use super::escape::nix_string;
use super::units::{Service, Unit, UnitKind};

/// The module, with what to do with it at its top.
pub(super) fn module(service: &Service) -> String {
    let mut text = format!(
        "{MARK_OF_MODULE}\n\
         # Save it as /etc/nixos/smart-sync.nix, add ./smart-sync.nix to the `imports` of your configuration, and run\n\
         # `nixos-rebuild switch`. Where smart-sync is a package of this system, put its path in place of the program's.\n\
         {{ config, pkgs, ... }}:\n\
         let\n  \
           # What commands after an update need to rebuild the system, as the system's own upgrade service has it.\n  \
           common = {{\n    \
             path = [ config.nix.package config.system.build.nixos-rebuild pkgs.gitMinimal pkgs.openssh ];\n    \
             environment = config.nix.envVars // {{ HOME = \"/root\"; }};\n    \
             # A rebuild that one of these runs must not end it.\n    \
             restartIfChanged = false;\n    \
             unitConfig.X-StopOnRemoval = false;\n  \
           }};\n\
         in\n{{\n"
    );
    for unit in service.units() {
        text.push_str(&attributes(&unit));
    }
    text.push_str("}\n");
    text
}

/// What stands in the first line: nothing removes a module but whoever saved it.
const MARK_OF_MODULE: &str = "# Printed by `smart-sync service install`.";

fn attributes(unit: &Unit) -> String {
    let name = unit.name.rsplit_once('.').map_or(unit.name.as_str(), |(name, _)| name);
    let (set, own, common) = match unit.kind {
        UnitKind::Service => ("services", "serviceConfig", "common // "),
        UnitKind::Timer => ("timers", "timerConfig", ""),
    };
    let mut text = format!("  systemd.{set}.{} = {common}{{\n", nix_string(name));
    // Writing to a string does not fail.
    let _ = writeln!(text, "    description = {};", nix_string(&unit.description));
    if let Some(wanted_by) = unit.wanted_by {
        let _ = writeln!(text, "    wantedBy = [ {} ];", nix_string(wanted_by));
    }
    let mut more = Vec::new();
    for (key, value) in &unit.unit {
        let list = match *key {
            "After" => "after",
            "Before" => "before",
            "Wants" => "wants",
            _ => {
                more.push((*key, value));
                continue;
            }
        };
        let names: Vec<String> = value.split(' ').map(nix_string).collect();
        let _ = writeln!(text, "    {list} = [ {} ];", names.join(" "));
    }
    if !more.is_empty() {
        // It takes the place of the common one.
        text.push_str("    unitConfig = {\n      X-StopOnRemoval = false;\n");
        for (key, value) in more {
            text.push_str(&setting(key, value));
        }
        text.push_str("    };\n");
    }
    let _ = writeln!(text, "    {own} = {{");
    unit.own.iter().for_each(|(key, value)| text.push_str(&setting(key, value)));
    text.push_str("    };\n  };\n");
    text
}

fn setting(key: &str, value: &str) -> String {
    format!("      {key} = {};\n", nix_string(value))
}
