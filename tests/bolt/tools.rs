//! The Go programs of tests/bolt/go: built once, and run.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A program that was built from tests/bolt/go.
pub fn tool(name: &str) -> Command {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bolt");
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bolt/build");
        let built = Command::new(build).arg(&dir).status().unwrap();
        assert!(built.success(), "tests/bolt/build failed; `tests/run tools` installs what it needs");
        dir
    });
    Command::new(dir.join(name))
}

/// What a program prints.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A process that writes into a file until it goes.
pub struct Writer(Child);

impl Writer {
    /// Returns when its first transaction is in the file.
    pub fn start(name: &str, options: &[&str], path: &Path) -> Writer {
        let mut command = tool(name);
        command.args(options).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut writer = Writer(command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(writer.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{command:?}");
        writer
    }

    /// Lets it end by itself, and with success.
    pub fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success(), "the writer failed");
    }
}

impl Drop for Writer {
    /// In whatever it does.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
