//! Questions to a person, where there is one: a run that nobody sits before is never kept waiting.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use smart_sync_store::manifest::path::Shown;

use crate::failure::Failure;
use crate::interrupt::interrupted;
use crate::output::Format;
use crate::sync::Surroundings;

/// Asks a question that is answered with yes or no; none where there is nobody to answer.
pub fn ask(question: &str, surroundings: &Surroundings<'_>) -> Result<Option<bool>, Failure> {
    let is_attended = io::stdin().is_terminal() && io::stderr().is_terminal();
    if !is_attended || surroundings.output.format() == Format::Json {
        return Ok(None);
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "[smart-sync] {} [y/N] ", Shown(question.as_bytes()))?;
    stderr.flush()?;
    drop(stderr);
    let (say, said) = tokio::sync::oneshot::channel();
    // Nothing ends a read from a terminal but the end of the process, which Ctrl-C shall bring about at once.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        // Nobody listens any more after Ctrl-C.
        let _ = say.send(read.map(|_| line));
    });
    let answer = surroundings.runtime.block_on(async {
        tokio::select! {
            () = surroundings.interrupt.requested() => None,
            answer = said => answer.ok(),
        }
    });
    let answer = answer.ok_or_else(interrupted)?.map_err(Failure::from)?;
    Ok(Some(is_yes(&answer)))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        for (answer, expected) in
            [("y\n", true), (" Yes \n", true), ("\n", false), ("", false), ("yeah", false)]
        {
            assert_eq!(is_yes(answer), expected, "{answer:?}");
        }
    }
}
