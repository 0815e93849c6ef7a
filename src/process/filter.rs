//! Programs of others: one that a stream passes through, into a file or out of one, and one that is run to its end.

#![expect(clippy::disallowed_methods, reason = "this capability makes processes")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What a program says of its failure: so much of it is kept.
const MOST_SAID: u64 = 4096;

/// A program that is found on the search path.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// Runs a program to its end; an error with what it said, unless that was a good one.
pub fn run_quietly(program: &str, args: &[&OsStr]) -> io::Result<()> {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Program::start(program, command.args(args))?.ended()
}

/// What is written to it comes out of the program into a file. Dropped before its end, the program is killed.
#[derive(Debug)]
pub struct IntoFile {
    program: Program,
    stream: Option<ChildStdin>,
}

impl IntoFile {
    pub fn start(program: &str, args: &[&str], out: &File) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(out.try_clone()?);
        // What a terminal sends to visor ends it by way of visor alone.
        command.process_group(0);
        let mut program = Program::start(program, command.args(args))?;
        let stream = program.child.stdin.take();
        Ok(Self { program, stream })
    }

    /// Ends the stream, and hears how it went.
    pub fn finish(mut self) -> io::Result<()> {
        drop(self.stream.take());
        self.program.ended()
    }
}

impl Write for IntoFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let written = stream.write(bytes);
        if written.is_err() {
            drop(self.stream.take());
            self.program.ended()?;
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the program makes of a file. Its end is heard with the end of the stream.
#[derive(Debug)]
pub struct OutOfFile {
    program: Program,
    stream: Option<ChildStdout>,
}

impl OutOfFile {
    pub fn start(program: &str, args: &[&str], from: File) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.stdin(from).stdout(Stdio::piped());
        let mut program = Program::start(program, command.args(args))?;
        let stream = program.child.stdout.take();
        Ok(Self { program, stream })
    }
}

impl Read for OutOfFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else {
            return Ok(0);
        };
        let n = stream.read(buffer)?;
        if n == 0 && !buffer.is_empty() {
            self.stream = None;
            self.program.ended()?;
        }
        Ok(n)
    }
}

#[derive(Debug)]
struct Program {
    name: String,
    child: Child,
    has_ended: bool,
}

impl Program {
    fn start(name: &str, command: &mut Command) -> io::Result<Self> {
        let child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("`{name}` cannot be started: {e}")))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            has_ended: false,
        })
    }

    /// Waits for the end; an error with what the program said, unless it was a good one.
    fn ended(&mut self) -> io::Result<()> {
        let mut said = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            let mut bytes = Vec::new();
            stderr.take(MOST_SAID).read_to_end(&mut bytes)?;
            said = String::from_utf8_lossy(&bytes).trim().replace('\n', "; ");
        }
        let status = self.child.wait()?;
        self.has_ended = true;
        match status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "`{}`: {status}: {said}",
                self.name
            ))),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.has_ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
