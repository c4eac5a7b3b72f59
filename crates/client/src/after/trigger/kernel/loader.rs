//! What boot loaders are told: the entry of systemd-boot, and the name that GRUB has given to one.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use smart_sync_store::manifest::path::Shown;

use super::release::{Release, image_name};

/// The longest configuration of GRUB that is read.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// The name of the entry of a version.
pub(super) fn entry_name(version: &str) -> String {
    format!("smart-sync-{version}.conf")
}

/// The entry of a kernel for systemd-boot, as the Boot Loader Specification describes it.
pub(super) fn entry(release: &Release, options: &str) -> String {
    let version = &release.version;
    let initramfs = release.initramfs_name().map_or_else(String::new, |name| format!("initrd     /{name}\n"));
    format!(
        "# Written by smart-sync.\n\
         title      Linux {version}\n\
         sort-key   smart-sync\n\
         version    {version}\n\
         linux      /{}\n\
         {initramfs}options    {options}\n",
        release.image_name()
    )
}

/// What GRUB calls the entry of a version in this configuration.
pub(super) fn grub_entry(config: &Path, version: &str) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(config).and_then(|file| file.take(CONFIG_BYTES_MAX).read_to_string(&mut text));
    let shown = config.display();
    read.map_err(|error| format!("{shown} cannot be read: {error}"))?;
    entry_in(&text, version).ok_or_else(|| format!("{shown} has no entry of {}", Shown(version.as_bytes())))
}

/// The entry whose image is that of this version, with the submenus that it is in. The one that is named after the
/// version is meant: the first of a menu is whatever is newest.
fn entry_in(text: &str, version: &str) -> Option<String> {
    let image = image_name(version);
    let mut menus: Vec<(&str, bool)> = Vec::new();
    let mut found: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim) {
        let is_menu = line.starts_with("submenu ");
        if (is_menu || line.starts_with("menuentry ")) && line.ends_with('{') {
            menus.push((id(line)?, is_menu));
        } else if line == "}" {
            menus.pop();
        } else if line.starts_with("linux") {
            let is_image =
                line.split_whitespace().nth(1).is_some_and(|path| path.rsplit('/').next() == Some(&image));
            if is_image && menus.last().is_some_and(|(_, is_menu)| !is_menu) {
                found.push(menus.iter().map(|(id, _)| *id).collect::<Vec<_>>().join(">"));
            }
        }
    }
    found.retain(|id| !id.contains("recovery"));
    let named = found.iter().position(|id| id.contains(version)).unwrap_or(0);
    (named < found.len()).then(|| found.swap_remove(named))
}

/// The id of a menu or an entry, else its title.
fn id(line: &str) -> Option<&str> {
    let quoted = |text: &'_ str| -> Option<(usize, usize)> {
        let start = text.find(['\'', '"'])?;
        let end = text[start + 1..].find(text[start..].chars().next()?)?;
        Some((start + 1, start + 1 + end))
    };
    let rest = line.split_once("$menuentry_id_option").map_or(line, |(_, rest)| rest);
    quoted(rest).map(|(start, end)| &rest[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_what_was_put_there() {
        let release = Release {
            version: "6.10.1".into(),
            beside: vec![("a/initramfs".into(), "initramfs-6.10.1.img".into())],
            ..Release::default()
        };
        insta::assert_snapshot!(entry(&release, "root=LABEL=root ro"));
        let bare = Release { version: "6.10.1".into(), ..Release::default() };
        assert!(!entry(&bare, "ro").contains("initrd"));
    }

    #[test]
    fn the_entry_of_a_version_is_found_in_what_grub_mkconfig_writes() {
        let text = "
if [ x = y ]; then
  set default=0
fi
menuentry 'Gentoo' --class gnu-linux $menuentry_id_option 'gnulinux-simple-abc' {
\tlinux\t/vmlinuz-6.10.1 root=/dev/sda1 ro
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-abc' {
\tmenuentry 'Linux 6.10.1' --class x $menuentry_id_option 'gnulinux-6.10.1-advanced-abc' {
\t\tlinux\t/vmlinuz-6.10.1 root=/dev/sda1 ro
\t}
\tmenuentry 'Linux 6.10.1 (recovery mode)' $menuentry_id_option 'gnulinux-6.10.1-recovery-abc' {
\t\tlinux\t/vmlinuz-6.10.1 root=/dev/sda1 ro single
\t}
\tmenuentry \"Linux 6.10.10\" {
\t\tlinux\t/boot/vmlinuz-6.10.10 ro
\t}
}
";
        let found = |version: &str| entry_in(text, version);
        assert_eq!(found("6.10.1").as_deref(), Some("gnulinux-advanced-abc>gnulinux-6.10.1-advanced-abc"));
        assert_eq!(found("6.10.10").as_deref(), Some("gnulinux-advanced-abc>Linux 6.10.10"));
        assert_eq!(found("6.9"), None);
    }
}
