//! Kernels as a build host has them: small, and with everything in them that is looked at.

use std::path::Path;

use crate::environment::TestEnvironment;
use crate::noise::noise;

/// The beginning of an image for x86 that says its version, and bytes of its own.
pub fn image(release: &str) -> Vec<u8> {
    let mut bytes = vec![0; 0x400];
    bytes[0x1fe..0x200].copy_from_slice(b"\x55\xaa");
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
    let text = format!("{release} (root@builder) #1 SMP\0");
    bytes[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
    bytes.extend(noise(release, 2000));
    bytes
}

/// A relocatable object with bytes of its own.
pub fn module(what: &str) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[16] = 1;
    bytes.extend(noise(what, 1000));
    bytes
}

/// The configuration of a version.
pub fn config(version: &str) -> String {
    format!("#\n# Linux/x86 {version} Kernel Configuration\n#\nCONFIG_MODULES=y\n")
}

/// The modules of a release, by their paths below where they are installed to.
pub fn modules(release: &str) -> Vec<(String, Vec<u8>)> {
    vec![
        (format!("lib/modules/{release}/kernel/drivers/changes.ko"), module(release)),
        (format!("lib/modules/{release}/kernel/drivers/target/same.ko"), module("same")),
        (format!("lib/modules/{release}/modules.dep"), b"kernel/drivers/changes.ko:\n".to_vec()),
    ]
}

/// Writes what `make install modules_install` leaves, into a directory of a machine.
pub fn install(environment: &TestEnvironment, directory: &str, release: &str) {
    let write = |path: &str, bytes: &[u8]| environment.write(&format!("{directory}/{path}"), bytes);
    write(&format!("boot/vmlinuz-{release}"), &image(release));
    write(&format!("boot/config-{release}"), config(release).as_bytes());
    write(&format!("boot/System.map-{release}"), b"ffffffff81000000 T _stext\n");
    for (path, bytes) in modules(release) {
        write(&path, &bytes);
    }
}

/// Writes a kernel as it lay on the servers that came before, in the oldest of the names that it had: with the program
/// `tar` for the archive of its modules.
pub fn old_layout(environment: &TestEnvironment, directory: &str, release: &str) {
    let write = |path: &str, bytes: &[u8]| environment.write(&format!("{directory}/{path}"), bytes);
    write("vmlinuz", &image(release));
    write("Kernel.Config", config(release).as_bytes());
    write("System.Map", b"ffffffff81000000 T _stext\n");
    write("initramfs", b"a file system");
    let made = format!("made/{release}");
    for (path, bytes) in modules(release) {
        environment.write(&format!("{made}/{path}"), bytes);
    }
    let archive = environment.path(directory).join("modules.tar.gz");
    let links = environment.path(&made).join(Path::new("lib/modules").join(release).join("build"));
    std::os::unix::fs::symlink("/usr/src/linux", links).expect("a link can be made");
    let mut tar = environment.command("tar");
    tar.args(["--create", "--gzip", "--directory"]).arg(environment.path(&made)).arg("--file").arg(archive);
    crate::program::run(tar.arg("lib")).success();
}
