//! Work that may go wrong in any way, in a process of its own with hard limits.
//!
//! The library that corrects deflate streams can be made to run without an end and to allocate without a bound by bytes
//! that somebody made for that, and nothing in its own process can stop it. So the program that runs is started again,
//! and the kernel holds that process to its limits. It is given one file to read and one pipe to write to. What it
//! writes is believed no more than the bytes that it works on; when it comes to a bad end, there is nothing to clean up.
//!
//! Which word on the command line begins such a process is decided by the programs, which call [`serve`] for it before
//! they do anything else.

mod dissect;
mod limits;
mod process;
mod rebuild;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use limits::Bounds;
use rustix::stdio::dup2_stdout;

/// How a confined process is started.
#[derive(Debug, Clone)]
pub struct Confined {
    program: PathBuf,
    word: OsString,
    /// Where it makes files without names, if its work takes such.
    directory: PathBuf,
}

impl Confined {
    /// Starts the program that runs. With `word` as its first argument it has to call [`serve`].
    pub fn this_program(word: &str) -> Self {
        // Whatever has become of the file since, this is the program that runs.
        Self::program(Path::new("/proc/self/exe"), word)
    }

    /// Starts another program that does the same.
    pub fn program(program: &Path, word: &str) -> Self {
        Self { program: program.to_owned(), word: word.into(), directory: PathBuf::from("/") }
    }

    /// Lets it make files without names in a directory.
    #[must_use]
    pub fn in_directory(self, directory: &Path) -> Self {
        Self { directory: directory.to_owned(), ..self }
    }
}

/// What a confined process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Rebuild,
    Dissect,
}

impl Task {
    const ALL: [Self; 2] = [Self::Rebuild, Self::Dissect];

    const fn word(self) -> &'static str {
        match self {
            Self::Rebuild => "rebuild",
            Self::Dissect => "dissect",
        }
    }
}

/// What a confined process does, given the arguments behind the word that it began with.
pub fn serve(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // Whoever started this process learns that it failed; why is of no use where nobody is to be believed.
    match try_serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn try_serve(mut arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let word = arguments.next().unwrap_or_default();
    let task = Task::ALL.into_iter().find(|task| OsStr::new(task.word()) == word).ok_or_else(usage)?;
    let numbers = arguments.map(|argument| argument.to_str()?.parse().ok());
    let numbers = numbers.collect::<Option<Vec<u64>>>().ok_or_else(usage)?;
    let (bounds, rest) = Bounds::from_numbers(&numbers).ok_or_else(usage)?;
    // Nothing is read before the limits hold.
    bounds.hold()?;
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // A library that prints what it wonders about must not do so amid what is said here.
    dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    match task {
        Task::Rebuild => rebuild::serve(rest, &input, output),
        Task::Dissect => dissect::serve(rest, &input, output),
    }
}

fn usage() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a confined process is started by the program itself alone")
}
