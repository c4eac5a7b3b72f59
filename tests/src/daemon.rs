//! Servers that upstreams have: of FTP, of rsync, and a web server that lists directories.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::environment::TestEnvironment;
use crate::skip::skipped;

/// How often another port is tried, when somebody else was faster.
const PORTS_MAX: usize = 5;

/// A daemon that ends with the test.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    port: u16,
}

impl Daemon {
    /// Starts one on a free port, and waits until it listens; None where it cannot be started.
    fn start(command: impl Fn(u16) -> Command) -> Option<Self> {
        for _ in 0..PORTS_MAX {
            let port = TcpListener::bind(("127.0.0.1", 0)).ok()?.local_addr().ok()?.port();
            let mut command = command(port);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut daemon = Self { child: command.spawn().ok()?, port };
            while daemon.child.try_wait().ok()?.is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Some(daemon);
                }
                std::thread::yield_now();
            }
        }
        None
    }

    /// The port of loopback that it listens on.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server of FTP that gives a directory to everybody; None where the machine has none, which is said.
pub fn ftp(environment: &TestEnvironment, directory: &Path) -> Option<Daemon> {
    let program = ["/usr/sbin/vsftpd", "/usr/bin/vsftpd"].into_iter().find(|path| Path::new(path).exists());
    let Some(program) = program else {
        skipped("there is no vsftpd");
        return None;
    };
    // It changes to another user, who has to get there.
    fs::set_permissions(environment.root(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("the directory of a test is its own");
    Daemon::start(|port| {
        let settings = format!(
            "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n\
             no_anon_password=YES\nanon_root={}\nrun_as_launching_user=YES\nlocal_enable=NO\nseccomp_sandbox=NO\n",
            directory.display()
        );
        let settings = environment.write("etc/vsftpd.conf", settings);
        let mut command = environment.command(program);
        command.arg(settings);
        command
    })
}

/// The daemon of rsync, which gives a directory as the module `gentoo`.
pub fn rsync(environment: &TestEnvironment, directory: &Path) -> Option<Daemon> {
    let settings = format!("use chroot = no\n[gentoo]\npath = {}\nread only = yes\n", directory.display());
    let settings = environment.write("etc/rsyncd.conf", settings);
    Daemon::start(|port| {
        let mut command = environment.command("rsync");
        command.args(["--daemon", "--no-detach", "--address=127.0.0.1", &format!("--port={port}")]);
        command.arg(format!("--config={}", settings.display()));
        command
    })
}

/// A web server that lists directories; None where the machine has none, which is said.
pub fn nginx(environment: &TestEnvironment, directory: &Path) -> Option<Daemon> {
    let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists());
    let Some(program) = program else {
        skipped("there is no nginx");
        return None;
    };
    fs::set_permissions(environment.root(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("the directory of a test is its own");
    let temporary = environment.path("nginx");
    fs::create_dir_all(&temporary).expect("a directory can be made");
    Daemon::start(|port| {
        let at = temporary.display();
        let settings = format!(
            "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error;\nevents {{}}\nhttp {{\n\
             access_log {at}/access;\nclient_body_temp_path {at}/body;\nproxy_temp_path {at}/proxy;\n\
             fastcgi_temp_path {at}/fastcgi;\nuwsgi_temp_path {at}/uwsgi;\nscgi_temp_path {at}/scgi;\n\
             server {{ listen 127.0.0.1:{port}; root {}; autoindex on; }}\n}}\n",
            directory.display()
        );
        let settings = environment.write("etc/nginx.conf", settings);
        let mut command = environment.command(program);
        command.arg("-c").arg(settings).arg("-p").arg(&temporary);
        command
    })
}
