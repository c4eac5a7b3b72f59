//! `completions` and `man`: what is made from the definition of the command line.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;

use crate::args::{Arguments, CompletionsArgs, ManArgs};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Writes a completion script to standard output.
pub fn completions(args: &CompletionsArgs, output: &Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "smart-sync", &mut script);
    write(output, &script)
}

/// Writes the manual page to standard output, or every page into a directory.
pub fn man(args: &ManArgs, output: &Output) -> Result<Exit, Failure> {
    let Some(directory) = &args.directory else {
        return write(output, page(manual())?.as_bytes());
    };
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| Failure::from(error).context(format!("writing {path}"))
    };
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    for (name, command) in pages(manual()) {
        let path = directory.join(format!("{name}.1"));
        std::fs::write(&path, page(command)?).map_err(failed(&path))?;
        output.info(&format!("wrote {}", path.display()));
    }
    Ok(Exit::Success)
}

/// What the manual describes: everything but `help`, of which there is nothing to say.
fn manual() -> clap::Command {
    Arguments::command().disable_help_subcommand(true)
}

/// The command and all below it, with the names of their pages.
fn pages(mut command: clap::Command) -> Vec<(String, clap::Command)> {
    command.build();
    let mut waiting = vec![("smart-sync".to_owned(), command)];
    let mut pages = Vec::new();
    while let Some((name, command)) = waiting.pop() {
        let below = command.get_subcommands().filter(|below| !below.is_hide_set());
        waiting.extend(below.map(|below| (format!("{name}-{}", below.get_name()), below.clone())));
        let title: &'static str = name.clone().leak();
        pages.push((name, command.name(title)));
    }
    pages
}

fn page(command: clap::Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(as_typed(&String::from_utf8_lossy(&page)))
}

/// The text after the options is a table and examples, whose lines must stay as they are.
fn as_typed(page: &str) -> String {
    match page.split_once("\n.SH EXTRA\n") {
        Some((before, after)) => {
            let (text, rest) = after.split_once("\n.SH ").unwrap_or((after, ""));
            let rest = if rest.is_empty() { String::new() } else { format!(".SH {rest}") };
            format!("{before}\n.SH \"EXIT STATUS AND EXAMPLES\"\n.nf\n{text}\n.fi\n{rest}")
        }
        None => page.to_owned(),
    }
}

/// Writes what was asked for. A reader that has seen enough ends the run, and not as a failure.
fn write(output: &Output, bytes: &[u8]) -> Result<Exit, Failure> {
    match output.data(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Success),
        written => written
            .map(|()| Exit::Success)
            .map_err(|error| Failure::from(error).context("writing the output")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_statuses_keeps_its_lines_and_no_page_is_named_that_is_not_there() {
        let main = page(manual()).unwrap();
        let table = main.split_once(".nf\n").and_then(|(_, after)| after.split_once("\n.fi\n.SH VERSION"));
        assert!(table.is_some_and(|(table, _)| table.contains("  7  verification refused it\n")), "{main}");
        assert!(!main.contains("EXTRA") && !main.contains("help(1)"), "{main}");
        let names: Vec<_> = pages(manual()).into_iter().map(|(name, _)| name).collect();
        assert!(
            names.contains(&"smart-sync-trust-add".to_owned()) && !names.iter().any(|n| n.ends_with("help"))
        );
    }
}
