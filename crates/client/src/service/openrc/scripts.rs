//! What the service scripts say. Pure: from what is to run to the text of files.
//!
//! What a daemon is called with is evaluated by the shell once more before it is started, after it has been split at
//! spaces. So a word that means something to a shell is a variable there, which is put in last, as one word.

use std::fmt::Write as _;

use crate::service::units::{MARK, Service};
use crate::shell_words::{is_plain, quoted};

/// What follows the channels.
pub(super) const WATCH: &str = "smart-sync-watch";
/// What settles interrupted runs at boot.
pub(super) const RECOVER: &str = "smart-sync-recover";

const INTERPRETER: &str = "#!/sbin/openrc-run";

/// The script that watches. It is started again when it ends, a while later, and has the time to come to a safe point
/// when it is stopped.
pub(super) fn watch(service: &Service) -> String {
    let mut variables = Variables::default();
    let command = variables.word(&service.program);
    let words = service.global.iter().map(String::as_str).chain(service.words_for_all("watch"));
    let arguments = words.map(|word| variables.word(word)).collect::<Vec<_>>().join(" ");
    let (definitions, command, arguments) = (variables.definitions, quoted(&command), quoted(&arguments));
    format!(
        "{INTERPRETER}\n{MARK}\n\n\
         description=\"Keep directories equal to what is published\"\n\
         supervisor=supervise-daemon\n\
         {definitions}\
         command={command}\n\
         command_args={arguments}\n\
         retry=SIGTERM/600/SIGKILL/5\n\
         respawn_delay=30\n\
         respawn_max=0\n\
         output_logger=\"logger -t {WATCH} -p daemon.info\"\n\
         error_logger=\"logger -t {WATCH} -p daemon.warning\"\n\n\
         depend() {{\n\
         \tuse net dns logger netmount\n\
         \tafter {RECOVER} net-online\n\
         }}\n"
    )
}

/// The script that runs at boot. It neither needs the network nor waits for it.
pub(super) fn recover(service: &Service) -> String {
    let words = service.global.iter().map(String::as_str).chain(service.words_for_all("recover"));
    let words = std::iter::once(service.program.as_str()).chain(words);
    let command = words.map(quoted).collect::<Vec<_>>().join(" ");
    format!(
        "{INTERPRETER}\n{MARK}\n\n\
         description=\"Settle what an interrupted update left\"\n\n\
         depend() {{\n\
         \tneed localmount\n\
         \tafter bootmisc hwclock swclock\n\
         \tbefore {WATCH}\n\
         }}\n\n\
         start() {{\n\
         \tebegin \"Settling what an interrupted update left\"\n\
         \t{command}\n\
         \tended=$?\n\
         \t# Taken back, or a reboot is pending: that is what it is for.\n\
         \tcase ${{ended}} in 8 | 12) ended=0 ;; esac\n\
         \teend ${{ended}}\n\
         }}\n"
    )
}

/// Words of a command line that is evaluated once more.
#[derive(Default)]
struct Variables {
    definitions: String,
    count: usize,
}

impl Variables {
    fn word(&mut self, word: &str) -> String {
        if is_plain(word.as_bytes()) {
            return word.to_owned();
        }
        self.count += 1;
        let name = format!("word_{}", self.count);
        // Writing to a string does not fail.
        let _ = writeln!(self.definitions, "{name}={}", quoted(word));
        format!("\"${{{name}}}\"")
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::service::units::{Rhythm, Scope};

    /// Every character of these means something to a shell; two spaces become one where a word is split.
    const ODD: &str = "/srv/it's  $HOME; \"a\" \\ `b` * ?";

    fn service(target: &str) -> Service {
        Service {
            program: "/opt/smart sync/smart-sync".to_owned(),
            global: ["--config", "/etc/smart-sync/it's.toml"].map(str::to_owned).to_vec(),
            named: Some(target.to_owned()),
            targets: vec![target.to_owned()],
            state_dir: "/var/lib/smart-sync".to_owned(),
            rhythm: Rhythm::Watch,
            scope: Scope::System,
        }
    }

    fn sh(script: &str) -> String {
        let ran = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(ran.status.success(), "{script}\n{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    }

    #[test]
    fn a_script_for_the_usual_places_is_plain() {
        let plain = Service {
            program: "/usr/local/bin/smart-sync".to_owned(),
            global: Vec::new(),
            named: None,
            ..service("/srv/site")
        };
        insta::assert_snapshot!(watch(&plain), @r#"
        #!/sbin/openrc-run
        # Written by `smart-sync service install`; `smart-sync service remove` removes it.

        description="Keep directories equal to what is published"
        supervisor=supervise-daemon
        command=/usr/local/bin/smart-sync
        command_args=watch
        retry=SIGTERM/600/SIGKILL/5
        respawn_delay=30
        respawn_max=0
        output_logger="logger -t smart-sync-watch -p daemon.info"
        error_logger="logger -t smart-sync-watch -p daemon.warning"

        depend() {
        	use net dns logger netmount
        	after smart-sync-recover net-online
        }
        "#);
        insta::assert_snapshot!(recover(&plain), @r#"
        #!/sbin/openrc-run
        # Written by `smart-sync service install`; `smart-sync service remove` removes it.

        description="Settle what an interrupted update left"

        depend() {
        	need localmount
        	after bootmisc hwclock swclock
        	before smart-sync-watch
        }

        start() {
        	ebegin "Settling what an interrupted update left"
        	/usr/local/bin/smart-sync recover
        	ended=$?
        	# Taken back, or a reboot is pending: that is what it is for.
        	case ${ended} in 8 | 12) ended=0 ;; esac
        	eend ${ended}
        }
        "#);
    }

    /// The supervisor's line is that of OpenRC: split at spaces, and then evaluated.
    #[test]
    fn a_daemon_is_called_with_the_words_that_were_meant() {
        let script = format!(
            "{}\nsupervise() {{ printf '%s\\n' \"$@\"; }}\neval supervise $command -- $command_args",
            watch(&service(ODD))
        );
        let expected = format!(
            "/opt/smart sync/smart-sync\n--\n--config\n/etc/smart-sync/it's.toml\nwatch\n--target\n{ODD}\n"
        );
        assert_eq!(sh(&script), expected);
    }

    #[test]
    fn what_was_taken_back_or_waits_for_a_reboot_is_settled() {
        let service = Service { program: "program".to_owned(), ..service(ODD) };
        for (status, expected) in [(0, 0), (1, 1), (8, 0), (9, 9), (12, 0)] {
            let script = format!(
                "program() {{ printf '%s\\n' \"$@\"; return {status}; }}\nebegin() {{ :; }}\neend() {{ echo $1; }}\n{}\nstart",
                recover(&service)
            );
            let said = sh(&script);
            assert_eq!(
                said,
                format!("--config\n/etc/smart-sync/it's.toml\nrecover\n--target\n{ODD}\n{expected}\n")
            );
        }
    }
}
