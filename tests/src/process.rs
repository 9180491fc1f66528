//! Programs run by the stories: one that ends within a time limit, or a daemon that is ended with the test.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often something awaited is looked at.
pub const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The binary of this workspace with that name: what `VINET_BIN_DIR` holds, else what was built beside the running test.
pub fn binary(name: &str) -> PathBuf {
    let dir = std::env::var_os("VINET_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("a running test has a path");
        let deps = test.parent().expect("a test lies in a folder");
        deps.parent().expect("that folder is target/PROFILE/deps").to_path_buf()
    });
    let path = dir.join(name);
    assert!(path.exists(), "{} is not built: cargo build --workspace --bins", path.display());
    path
}

/// What a program that ended leaves behind.
pub struct Finished {
    /// Its command line, for messages.
    pub line: String,
    /// Its exit status; none when a signal or the time limit ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Finished {
    /// True for exit status 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output, where exit status 0 is the only acceptable one.
    #[track_caller]
    pub fn expect(self) -> String {
        assert!(self.ok(), "{self}");
        self.stdout
    }

    /// Its standard error, where exactly this exit status is acceptable.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self}");
        self.stderr
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => writeln!(f, "`{}` exited with {code} after {:?}", self.line, self.took)?,
            None => writeln!(f, "`{}` was ended after {:?}", self.line, self.took)?,
        }
        write!(f, "--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end, or kills it at the limit.
pub fn run(mut command: Command, limit: Duration) -> Finished {
    let line = shown(&command);
    let at = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("`{line}` does not start: {e}"));
    let stdout = drain(child.stdout.take().expect("stdout is piped"));
    let stderr = drain(child.stderr.take().expect("stderr is piped"));
    let status = wait(&mut child, limit);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    Finished {
        line,
        code: status.and_then(|s| s.code()),
        stdout: stdout.join().expect("a reader of a pipe does not panic"),
        stderr: stderr.join().expect("a reader of a pipe does not panic"),
        took: at.elapsed(),
    }
}

/// A program in the background. Dropping it sends SIGTERM, then SIGKILL.
pub struct Daemon {
    line: String,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts the command and keeps what it writes, to both of its outputs, in one log.
    pub fn start(mut command: Command) -> Daemon {
        let line = shown(&command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("`{line}` does not start: {e}"));
        let log = Arc::new(Mutex::new(String::new()));
        keep(child.stdout.take().expect("stdout is piped"), Arc::clone(&log));
        keep(child.stderr.take().expect("stderr is piped"), Arc::clone(&log));
        Daemon { line, child, log }
    }

    /// Its process id: that of the program itself, not of a wrapper.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log's lock").clone()
    }

    /// Waits until its log holds the text; panics with the log if it ends before, or at the limit.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str, limit: Duration) {
        let at = Instant::now();
        while !self.log().contains(text) {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                std::thread::sleep(POLL_INTERVAL);
                if self.log().contains(text) {
                    return;
                }
                panic!("`{}` ended ({status}) before it said {text:?}; its log:\n{}", self.line, self.log());
            }
            assert!(
                at.elapsed() < limit,
                "`{}` did not say {text:?} in {limit:?}; its log:\n{}",
                self.line,
                self.log()
            );
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// True while it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id is a positive i32");
        let _ = kill(Pid::from_raw(pid), signal);
    }

    /// Waits for its end; none at the limit.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait(&mut self.child, limit)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_running() {
            self.signal(Signal::SIGTERM);
            if self.wait(Duration::from_secs(5)).is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        if std::thread::panicking() {
            eprintln!("--- log of `{}`\n{}", self.line, self.log());
        }
    }
}

/// Waits until the question is answered with yes; false at the limit.
pub fn eventually(limit: Duration, mut question: impl FnMut() -> bool) -> bool {
    let at = Instant::now();
    loop {
        if question() {
            return true;
        }
        if at.elapsed() > limit {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let at = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if at.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn keep(pipe: impl Read + Send + 'static, log: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut log = log.lock().expect("the log's lock");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
