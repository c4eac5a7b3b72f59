//! What a machine has: room, memory, and what its processor can do.

use std::path::Path;

use indicatif::HumanBytes;

use super::item::{Item, Severity};
use super::look::{Verdict, wrong};
use super::values::Size;

pub(super) fn space(path: &Path, item: &Item) -> Verdict {
    // What is not there yet will be made where its directory is.
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            room(free, item.at_least, item.warn_below)
        }
        Err(error) => wrong(std::io::Error::from(error).to_string()),
    }
}

/// Whether there is enough room. Pure.
fn room(free: u64, at_least: Option<Size>, warn_below: Option<Size>) -> Verdict {
    let is_less = |size: Option<Size>| size.filter(|size| free < size.0);
    let free_text = HumanBytes(free);
    match (is_less(at_least), is_less(warn_below)) {
        (Some(least), _) => wrong(format!("{free_text} are free, less than {}", HumanBytes(least.0))),
        (None, Some(least)) => Verdict::Wrong {
            text: format!("{free_text} are free, less than {}", HumanBytes(least.0)),
            severity: Some(Severity::Warn),
            repairs: Vec::new(),
        },
        (None, None) => Verdict::Well(format!("{free_text} are free")),
    }
}

/// Whether there is enough memory, by what the kernel says. Pure.
pub(super) fn memory(least: Size, meminfo: &str) -> Verdict {
    let total = meminfo.lines().find_map(|line| {
        let kib: u64 = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    });
    match total {
        None => Verdict::Skipped("the kernel does not say how much there is".to_owned()),
        Some(total) if total < least.0 => {
            wrong(format!("the machine has {}, less than {}", HumanBytes(total), HumanBytes(least.0)))
        }
        Some(total) => Verdict::Well(format!("the machine has {}", HumanBytes(total))),
    }
}

/// Whether the processor has one of these abilities, by what the kernel says. Pure.
pub(super) fn processor(abilities: &[String], cpuinfo: &str) -> Verdict {
    // Other architectures call them features.
    let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let mut lists = lines
        .filter(|(key, _)| matches!(key.trim(), "flags" | "Features" | "features"))
        .map(|(_, list)| list);
    let Some(list) = lists.next() else {
        return Verdict::Skipped("the kernel does not say what the processor can do".to_owned());
    };
    let found = abilities.iter().find(|ability| list.split_whitespace().any(|has| has == ability.as_str()));
    found.map_or_else(|| wrong("it has none of them"), |ability| Verdict::Well(format!("it has {ability}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_judged_by_both_bounds() {
        let gib = |number: u64| Some(Size(number << 30));
        let judged = |free: u64| match room(free << 30, gib(5), gib(10)) {
            Verdict::Wrong { severity, .. } => Some(severity),
            _ => None,
        };
        assert_eq!(
            (judged(4), judged(5), judged(9)),
            (Some(None), Some(Some(Severity::Warn)), Some(Some(Severity::Warn)))
        );
        assert_eq!(judged(10), None);
    }

    #[test]
    fn the_kernel_is_asked_for_memory_and_abilities() {
        let gib = Size(1 << 30);
        assert!(matches!(memory(gib, "MemTotal:       16318124 kB\nMemFree: 1 kB\n"), Verdict::Well(_)));
        assert!(matches!(memory(gib, "MemTotal: 524288 kB\n"), Verdict::Wrong { .. }));
        assert!(matches!(memory(gib, "nonsense"), Verdict::Skipped(_)));
        let either = ["vmx", "svm"].map(str::to_owned);
        assert!(matches!(processor(&either, "flags\t\t: fpu svm sse\n"), Verdict::Well(_)));
        assert!(matches!(processor(&either, "flags\t\t: fpu svm_lock sse\n"), Verdict::Wrong { .. }));
        assert!(matches!(processor(&either, ""), Verdict::Skipped(_)));
    }
}
