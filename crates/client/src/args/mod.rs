//! The command line, as it was typed.
//!
//! Types here say what can be typed and how it is explained; what it means together with the configuration and the
//! environment is decided in [`crate::settings`]. Numbers, refs and URLs are parsed here all the same, so that a
//! mistake is reported beside the argument that holds it.

pub mod hosts;
pub mod inspect;
pub mod kernel;
pub mod ledger;
pub mod packages;
pub mod patched;
pub mod profile;
pub mod publish;
pub mod rebuild;
pub mod service;
pub mod sync;
pub mod trust;
pub mod validate;
pub mod versions;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use sync::SyncArgs;

/// Keep a directory of this host equal to a published tree: verified, all or nothing.
///
/// Without a subcommand, the target is brought to the ref: smart-sync asks what the ref is, verifies the answer,
/// downloads only what changed and applies it. What it is and where it goes comes from the configuration, so that on
/// a configured host `smart-sync` or `smart-sync --ref v2.1` is enough.
#[derive(Debug, Parser)]
#[command(
    name = "smart-sync",
    version,
    max_term_width = 100,
    after_long_help = EXIT_STATUS_HELP,
    after_help = "Exit status and examples: smart-sync --help"
)]
pub struct Arguments {
    /// What applies to every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to sync.
    #[command(flatten)]
    pub sync: SyncArgs,
    /// Something else than a sync.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXIT_STATUS_HELP: &str = "\
Exit status:
    0  done, or nothing to do          7  verification refused it
    1  general error                   8  applied, found unhealthy, rolled back
    2  a program is missing            9  rolling back failed
    3  permission denied              10  --check-only: an update is available
    4  invalid arguments              11  local files differ from what was applied
    5  network error                  12  applied, a reboot is pending
    6  configuration error           130  interrupted

Examples:
    smart-sync                              update the default target
    smart-sync --ref v2.1 --dry-run         show what going to v2.1 would change
    smart-sync --check-only --quiet         ask by exit status whether there is an update
    smart-sync --source github:OWNER/REPO --target /srv/repo";

/// What applies to every command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "General")]
pub struct GlobalArgs {
    /// Read this configuration instead of /etc/smart-sync/config.toml.
    #[arg(long, value_name = "FILE", global = true, env = "SMART_SYNC_CONFIG")]
    pub config: Option<PathBuf>,

    /// Keep trust, journals and caches here.
    ///
    /// Otherwise: /var/lib/smart-sync for root, $XDG_STATE_HOME/smart-sync or ~/.local/state/smart-sync for others.
    #[arg(long, value_name = "DIR", global = true, env = "SMART_SYNC_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// Also say how things are done.
    #[arg(short, long, global = true)]
    pub verbose: bool,

    /// Write one JSON object per event to standard output.
    #[arg(long, global = true)]
    pub json: bool,

    /// Say nothing but warnings and errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// Something else than a sync.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Decide which realms this host believes.
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// Make, sign and hand in root documents, which say whose keys may do what.
    #[command(subcommand)]
    Root(trust::RootCommand),
    /// Make keys, and show their public halves.
    #[command(subcommand)]
    Key(trust::KeyCommand),
    /// Publish a git repository, a directory or a tar as the newest version of a ref.
    ///
    /// What the server lacks is uploaded first; then the statement that the ref is this tree is signed and handed in.
    /// It needs a token of the server and a key that the root document lists for the channel.
    Publish(Box<publish::PublishArgs>),
    /// Validate the host, sync, and run what an update needs, in one.
    ///
    /// A check that fails ends it before anything is changed; on a terminal, it is asked whether to go on.
    Update(Box<validate::UpdateArgs>),
    /// Say whether the host is fit for an update; exit status 1 if a check fails.
    ///
    /// The checks are those of what the host is, and those of the configuration. All of them are made.
    Validate(validate::ValidateArgs),
    /// Sync whenever something was published, until interrupted.
    ///
    /// Servers tell of it at once; those that cannot, such as exports, are asked from time to time.
    Watch(Box<sync::WatchArgs>),
    /// Have the host follow its channels by itself, from its start on.
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Bring other hosts up to date over ssh, some of them first, and go on when these are well.
    ///
    /// smart-sync runs on each of them as it is installed and configured there; nothing but its command line is sent. The
    /// exit status is the worst of all hosts: a version that is not healthy, one that was taken back, a refusal, and so on.
    Deploy(Box<hosts::DeployArgs>),
    /// List the hosts that report to a server: what each of them holds, and whether it is well.
    Hosts(hosts::HostsArgs),
    /// Bring all targets of a profile to what it says: all of them, or none.
    ///
    /// Everything is verified and fetched before the first target is changed. Where a command or a check fails
    /// afterwards, all targets go back together.
    Pull(Box<profile::PullArgs>),
    /// Look at profiles.
    #[command(subcommand)]
    Profile(Box<profile::ProfileCommand>),
    /// Run what is configured for after an update, for the tree that a target holds.
    ///
    /// A NixOS system is rebuilt as the action says. Checks are made as after an update; where something fails, the
    /// system before is activated again, and the tree stays as it is.
    Rebuild(rebuild::RebuildArgs),
    /// Say what a target holds and whether it was changed since.
    Status(inspect::StatusArgs),
    /// List how a target differs from what was applied; exit status 11 if it does.
    Verify(inspect::VerifyArgs),
    /// List the versions of a target, or of all targets of a profile together, that are kept on this host.
    Generations(versions::ListArgs),
    /// Switch a target to a version that is kept: the one before, or the one of a number.
    ///
    /// It stays there until `smart-sync resume`, whatever is published meanwhile. What belongs to the host stays as it
    /// is; what it changed in files of the version that is left is kept in the backup.
    Rollback(versions::RollbackArgs),
    /// Say that the host is well with its new version, over a new connection.
    ///
    /// For targets with confirm = "person": what nobody confirms in time is taken back. From another host, it is
    /// `ssh HOST smart-sync confirm`.
    Confirm(versions::ConfirmArgs),
    /// Let what was taken back, a target or all those of a profile, follow its ref again.
    Resume(versions::ListArgs),
    /// Keep a version until it is unpinned.
    Pin(versions::NumberArgs),
    /// Keep a version only as long as any other.
    Unpin(versions::NumberArgs),
    /// Remove older versions of a target; shows which, and removes them with --yes.
    Prune(versions::PruneArgs),
    /// Say what was placed in directories that belong to others, and take it away again.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Complete or forget what interrupted runs left, and do nothing else.
    ///
    /// For instance when the machine starts. Every other command does it as well before it looks at a target.
    Recover(versions::RecoverArgs),
    /// List the versions of a ref, newest first.
    Log(inspect::LogArgs),
    /// List a directory of a published tree.
    Ls(inspect::LsArgs),
    /// Write the content of a file of a published tree.
    Cat(inspect::CatArgs),
    /// Look at the binary packages of Gentoo that a channel holds.
    #[command(subcommand)]
    Pkg(packages::PackageCommand),
    /// Say which files of a directory of patch files are installed as they are; exit status 11 if one is not.
    ///
    /// A directory of patch files lies over the system: etc/hosts in it stands for /etc/hosts.
    Patched(patched::PatchedArgs),
    /// Publish and look at kernels, say which of them are current, and bring this host to one.
    #[command(subcommand)]
    Kernel(kernel::KernelCommand),
    /// Show what differs between two refs.
    Diff(inspect::DiffArgs),
    /// Print a completion script for a shell.
    ///
    /// For instance: smart-sync completions bash > /etc/bash_completion.d/smart-sync
    Completions(CompletionsArgs),
    /// Print the manual page, or write one page for each command into a directory.
    Man(ManArgs),
}

/// Arguments of `completions`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ManArgs {
    /// Write smart-sync.1 and a page for each subcommand here.
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[track_caller]
    fn check(line: &str, is_taken: bool) {
        let words = std::iter::once("smart-sync").chain(line.split_whitespace());
        let found = Arguments::try_parse_from(words);
        assert_eq!(found.is_ok(), is_taken, "{line}: {found:?}");
    }

    #[test]
    fn the_definitions_do_not_contradict_themselves() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn subcommands_take_what_belongs_together() {
        let pin = "4b825dc642cb6eb9a060e54bf8d69288fbee49044b825dc642cb6eb9a060e54b";
        check(&format!("trust add https://example.org --root sha256:{pin}"), true);
        check("trust add https://example.org --first-use", true);
        check("trust add https://example.org", false);
        check(&format!("trust add https://example.org --first-use --root sha256:{pin}"), false);
        check("trust add https://example.org --root sha256:12", false);
        check("trust add ftp://example.org --first-use", false);
        check("trust add file:///srv --first-use", true);
        check("trust reset lab.example.org --yes", true);
        check("root sign draft --key root.key --key agent:SHA256:abc", true);
        check("root sign draft", false);
        check("publish . --channel repos/nixos --key k", true);
        check("publish - --channel repos/nixos --key k --ref v1", true);
        check("publish --git . --channel repos/nixos --key k --all-refs", true);
        check("publish --git . --channel repos/nixos --key k --all-refs --ref main", false);
        check("publish . --channel repos/nixos --key k --all-refs", false);
        check("publish . --git . --channel repos/nixos --key k", false);
        check("publish --channel repos/nixos --key k", false);
        check("publish --withdraw --ref v1 --channel repos/nixos --key k", true);
        check("publish --withdraw --channel repos/nixos --key k", false);
        check("verify --full", true);
        check("watch --every 15m --jitter 0s --window 02:00-05:00 --window Sun", false);
        check("watch --every 15m --jitter 0s --window 02:00-05:00", true);
        check("watch --dry-run", false);
        check("update --ref v2 --rebuild-action build --yes", true);
        check("update --skip-rebuild --rebuild-action build", false);
        check("update --yes --no", false);
        check("update --check-only --force-full", false);
        check("validate --quick --fix --yes", true);
        check("validate --yes", false);
        check("service install --user --every 15m", true);
        check("service install --every 15m --watch", false);
        check("service remove --user", true);
        check("service remove --every 15m", false);
        check("deploy web1 @web --canary 1 --parallel 8 --confirm -- --ref v2", true);
        check("deploy", false);
        check("deploy -- --ref v2", false);
        check("deploy web1 --parallel 0", false);
        check("deploy web1 --confirm --dry-run", false);
        check("deploy web1;id", false);
        check("deploy -oProxyCommand=id", false);
        check("diff main v2", true);
        check("diff main", false);
        check("diff --generations 3 4 --target /t", true);
        check("diff 3 4 --target /t", false);
        check("diff --generations 3 4 --channel a/b", false);
        check("rebuild", true);
        check("rebuild dry-activate --host h --show-trace --impure --flake /etc/nixos", true);
        check("rebuild jump", false);
        check("rollback", true);
        check("rollback 3 --target /t", true);
        check("rollback --dry-run --skip-rebuild", true);
        check("rollback three", false);
        check("confirm", true);
        check("confirm --target /t --same-connection", true);
        check("confirm 3", false);
        check("rollback 3 --profile profiles/x", true);
        check("rollback --profile profiles/x --target /t", false);
        check("generations --profile profiles/x", true);
        check("resume --profile profiles/x --target /t", false);
        check("pull profiles/x --ref v1 --at 2026-11-01 --under /srv", true);
        check("pull profiles/x --at yesterday", false);
        check("pull profiles/x --dry-run --check-only", false);
        check("pull", false);
        check("profile show profiles/x --ref v1", true);
        check("pin 3", true);
        check("unpin", false);
        check("prune --keep 3 --yes", true);
        check("prune --keep 0", false);
        check("ledger list", true);
        check("ledger verify --target /t", true);
        check("ledger remove --yes", false);
        check("ledger remove --target /t --yes", true);
        check("patched etc --map a=b --publish reports/web1 --key k", true);
        check("patched etc --publish reports/web1", false);
        check("patched", false);
        check("cat etc/fstab --ref v2", true);
        check("cat", false);
        check("kernel publish /boot --channel kernels/amd64 --key k", true);
        check("kernel publish --channel kernels/amd64 --key k", false);
        check("kernel deprecate 6.9.1-gentoo 6.9.2 --channel kernels/amd64 --key k --dry-run", true);
        check("kernel deprecate --channel kernels/amd64 --key k", false);
        check("kernel current gentoo --channel kernels/amd64 --key k", false);
        check("kernel list --channel kernels/amd64 --at 2026-11-01", true);
        check("kernel list --ref main", false);
        check("kernel pull", true);
        check("kernel pull 6.9.1-gentoo --target /t --dry-run", true);
        check("kernel pull ../etc", false);
        check("kernel pull --dry-run --check-only", false);
        check("--source github:o/r --target /t", true);
        check("--source github:o/r --channel repos/x", false);
        check("--source github:o/r --server https://example.org", false);
    }

    /// They look at channels of realms, and git shows repositories.
    #[test]
    fn commands_that_look_at_channels_do_not_offer_repositories() {
        for command in ["log", "ls", "cat p", "diff a b"] {
            check(&format!("{command} --channel repos/x --server https://example.org"), true);
            check(&format!("{command} --source github:o/r"), false);
        }
        let help = |name: &str| {
            let mut command = Arguments::command();
            command.find_subcommand_mut(name).unwrap().render_long_help().to_string()
        };
        for name in ["log", "ls", "cat", "diff"] {
            assert!(!help(name).contains("--source"), "{}", help(name));
        }
    }
}
