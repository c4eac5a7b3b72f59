//! What boot loaders are told of kernels that are new, confirmed or taken back.

use super::super::tests::shown as shown_steps;
use super::*;

fn kernel(text: &str) -> Kernel {
    toml::from_str(text).unwrap()
}

fn all(kernel: &Kernel, found: &Found) -> String {
    let stages = [Stage::Update, Stage::Confirmed, Stage::Rollback, Stage::Chosen, Stage::Undone];
    let shown = stages.map(|stage| {
        let steps = kernel.steps(stage, found, Path::new("/srv/tree"), Path::new("/state/kernel"));
        format!("{stage:?}:\n{}\n", shown_steps(&steps))
    });
    shown.concat()
}

fn found(running: &str) -> Found {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let release = |version: &str| Release { version: version.to_owned(), ..Release::default() };
    Found {
        releases: vec![release("6.9.1"), release("6.10.1")],
        record: Record {
            placed: names(&["6.7.1", "6.8.1", "6.9.1", "6.10.1", "6.10.2"]),
            added: names(&["6.10.1", "6.10.2"]),
            booted: names(&["6.8.1", running]),
        },
        running: running.to_owned(),
    }
}

#[test]
fn systemd_boot_boots_a_new_kernel_once_and_always_when_it_is_confirmed_while_it_runs() {
    let kernel = kernel("loader = 'systemd-boot'\nentry-options = 'root=LABEL=root ro'\nkeep = 2");
    let before = all(&kernel, &found("6.9.1"));
    let running = all(&kernel, &found("6.10.1"));
    insta::assert_snapshot!(format!("6.9.1 runs\n{before}\n6.10.1 runs\n{running}"));
}

#[test]
fn grub_is_configured_after_images_were_placed_or_removed() {
    let kernel = kernel("loader = 'grub'\nkeep = 2\nboot = '/mnt/boot'");
    insta::assert_snapshot!(all(&kernel, &found("6.10.1")));
}

#[test]
fn without_a_boot_loader_files_are_placed_and_nothing_else() {
    let kernel = kernel("loader = 'none'");
    insta::assert_snapshot!(all(&kernel, &found("6.9.1")));
    let nothing = Found { running: "6.9.1".into(), ..Found::default() };
    let steps = kernel.steps(Stage::Update, &nothing, Path::new("/srv/tree"), Path::new("/n"));
    assert_eq!(shown_steps(&steps), "warn that /srv/tree holds no kernel");
    assert_eq!(kernel.steps(Stage::Rollback, &nothing, Path::new("/t"), Path::new("/n")), []);
}

/// A trigger before it may have failed, and what is booted is what somebody has said.
#[test]
fn what_is_booted_stays_where_no_kernel_came() {
    let undone = |added: &[&str]| {
        let kernel = kernel("loader = 'grub'\none-shot = false");
        let mut found = found("6.9.1");
        found.record.added = added.iter().map(|version| (*version).to_owned()).collect();
        let steps = kernel.steps(Stage::Undone, &found, Path::new("/srv/tree"), Path::new("/n"));
        shown_steps(&steps)
    };
    assert_eq!(undone(&[]), "");
    let all = undone(&["6.10.1", "6.10.2"]);
    assert!(all.ends_with("ENTRY-OF-6.9.1") && all.contains("grub-set-default"), "{all}");
}

#[test]
fn mistakes_are_found() {
    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(kernel(text).mistake().as_deref(), expected, "{text}");
    }
    check("loader = 'grub'\nfrom = 'current'", None);
    let options = Some("systemd-boot needs `entry-options`, such as root=LABEL=root ro");
    check("loader = 'systemd-boot'", options);
    let line = Some("`entry-options` is one line, such as root=LABEL=root ro");
    check("loader = 'systemd-boot'\nentry-options = \"ro\\ninitrd /x\"", line);
    assert!(kernel("loader = 'none'\nfrom = '../x'").mistake().is_some());
    assert!(toml::from_str::<Kernel>("boot = '/boot'").is_err());
}
