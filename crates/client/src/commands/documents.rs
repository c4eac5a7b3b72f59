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
        return write(output, &page(Arguments::command())?);
    };
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| Failure::from(error).context(format!("writing {path}"))
    };
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    for (name, command) in pages(Arguments::command()) {
        let path = directory.join(format!("{name}.1"));
        std::fs::write(&path, page(command)?).map_err(failed(&path))?;
        output.info(&format!("wrote {}", path.display()));
    }
    Ok(Exit::Success)
}

/// The command and all below it, with the names of their pages.
fn pages(mut command: clap::Command) -> Vec<(String, clap::Command)> {
    command.build();
    let mut waiting = vec![("smart-sync".to_owned(), command)];
    let mut pages = Vec::new();
    while let Some((name, command)) = waiting.pop() {
        let below =
            command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help");
        waiting.extend(below.map(|below| (format!("{name}-{}", below.get_name()), below.clone())));
        let title: &'static str = name.clone().leak();
        pages.push((name, command.name(title)));
    }
    pages
}

fn page(command: clap::Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(page)
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
