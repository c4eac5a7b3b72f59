//! nginx as a plain file server: `sendfile`, as many workers as cores, no access log.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::bench::Bench;
use crate::daemon::{Daemon, free_port};

/// A server of the files below a directory.
pub(crate) fn serve(bench: &Bench, root: &Path) -> Result<Daemon> {
    let port = free_port()?;
    let scratch = bench.environment.path(&format!("nginx-{port}"));
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    let configuration = scratch.join("nginx.conf");
    fs::write(&configuration, text(port, root, &scratch))
        .with_context(|| format!("writing {}", configuration.display()))?;
    let mut command = bench.environment.command(program());
    command.args(["-e", "stderr", "-c"]).arg(&configuration).arg("-p").arg(&scratch);
    Daemon::start(bench, &command, port)
}

/// Debian keeps it where an ordinary user's search path does not look.
fn program() -> PathBuf {
    let installed = PathBuf::from("/usr/sbin/nginx");
    if installed.exists() { installed } else { PathBuf::from("nginx") }
}

fn text(port: u16, root: &Path, scratch: &Path) -> String {
    // Its workers change to another user when root starts it, who could not read the data.
    let user = if nix::unistd::getuid().is_root() { "user root;" } else { "" };
    let (root, scratch) = (root.display(), scratch.display());
    format!(
        "{user}\ndaemon off;\nworker_processes auto;\npid {scratch}/pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 1000000;\n\
         client_body_temp_path {scratch}/body;\n  proxy_temp_path {scratch}/proxy;\n\
         fastcgi_temp_path {scratch}/fastcgi;\n  uwsgi_temp_path {scratch}/uwsgi;\n\
         scgi_temp_path {scratch}/scgi;\n\
         server {{ listen 127.0.0.1:{port}; root {root}; }}\n}}\n"
    )
}
